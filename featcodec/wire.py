"""From the parts of a codec to the side info of a stream, and back.

The encoder makes the side info with `side_info_of`. The decoder uses `check_networks`, `check_tensor` and `packing_of`
on side info that anybody may have written.
"""

from __future__ import annotations

from featcodec.bitstream import RAW_QP, SideInfo
from featcodec.errors import BitstreamError, InputError, WeightsError
from featcodec.images.letterbox import MAX_IMAGE_SIZE, Letterboxed
from featcodec.images.side_info import side_info_for
from featcodec.networks.bottleneck import shipped_model
from featcodec.networks.catalogue import AUTO
from featcodec.networks.layouts import model_fingerprint
from featcodec.packing.frames import Packing
from featcodec.packing.layout import Layout
from featcodec.packing.quantize import UniformQuantizer
from featcodec.split_model import SplitModel
from featcodec.video import VideoCodec


def side_info_of(
    image: Letterboxed, model: SplitModel, packing: Packing, video_codec: VideoCodec, fingerprint: bytes, qp: int
) -> SideInfo:
    """The side info of one image's stream.

    Args:
        image: the image as the model sees it.
        model, packing, video_codec: the parts that code the image.
        fingerprint: 8 bytes that name the model and the layout.
        qp: 0..63.

    Raises:
        BitstreamError: the frame would be larger than a bitstream may hold.
    """
    shapes = model.tensor_shapes(image.letterbox.width, image.letterbox.height)
    coded_qp = RAW_QP if video_codec.name == "none" else int(qp)
    return side_info_for(image, shapes, packing, model.split, fingerprint, coded_qp, video_codec.tag)


def check_networks(side_info: SideInfo, loaded: bytes) -> None:
    """Check that a stream was made with the networks that are loaded.

    Args:
        side_info: the side info of the stream.
        loaded: 8 bytes that name the loaded model and layout.

    Raises:
        WeightsError: it was made with others; the message names them, if featcodec ships the bottleneck.
    """
    if side_info.fingerprint == loaded:
        return
    remedy = "give the `detector`, `bottleneck` and `layout` it was encoded with"
    shipped = shipped_networks(side_info)
    if shipped is not None:
        remedy += f": the detector {shipped[0]}, and `bottleneck` {shipped[1]}"
    raise WeightsError(f"made with networks {side_info.fingerprint.hex()}, but {loaded.hex()} are loaded; {remedy}")


def shipped_networks(side_info: SideInfo) -> tuple[str, str] | None:
    """The names of the detector and of the shipped bottleneck ("none" without one) that made a stream.

    Returns:
        detector, bottleneck; or None if featcodec does not ship that.
    """
    return shipped_model(model_fingerprint(side_info.fingerprint, AUTO))


def check_tensor(side_info: SideInfo, model: SplitModel, layout: Layout | None) -> None:
    """Refuse a tensor that these networks cannot take. The right fingerprint is not enough: anybody can copy it.

    Without a bottleneck and a layout, the same weights decode every split. With a bottleneck or a layout, they decode
    only their own split.

    Raises:
        BitstreamError: featcodec never makes this tensor with this model.
    """
    size = side_info.letterboxed_width, side_info.letterboxed_height
    is_bound = model.bottleneck is not None or layout is not None
    is_absurd = any(side % model.detector.stride or side > MAX_IMAGE_SIZE for side in size)
    is_other_split = is_bound and side_info.split != model.split
    claimed = side_info.tensors
    if is_absurd or is_other_split or claimed != model_at(model, side_info.split).tensor_shapes(*size):
        what = f"a tensor of {claimed[0]}" if len(claimed) == 1 else f"{len(claimed)} tensors of {claimed}"
        raise BitstreamError(
            f"claims {what} for {size[0]}x{size[1]} pixels behind layer {side_info.split}; this model "
            "does not make this; the file is damaged or forged, encode the image again"
        )


def model_at(model: SplitModel, split: int) -> SplitModel:
    """The model of a stream that names its split, for latent coding, where the same weights decode every split.

    Raises:
        BitstreamError: the detector cannot be cut there.
    """
    try:
        return model.at(split)
    except InputError as error:
        raise BitstreamError(f"claims another split than this detector has: {error}") from None


def packing_of(side_info: SideInfo, layout: Layout | None) -> Packing:
    """The packing of a stream: from its side info, and from the layout that its fingerprint names.

    Args:
        side_info: side info that passes `SideInfo.check`; of one or several tensors.
        layout: the layout of the tensor, or None. Several tensors have none.

    Raises:
        InputError: the layout has another number of channels than the tensor, or there are several tensors.
    """
    bands = side_info.bands
    quantizer = UniformQuantizer(side_info.clip_low, side_info.clip_high, side_info.bits)
    return Packing(bands.channels, quantizer, bands.grid, layout, bands.further)
