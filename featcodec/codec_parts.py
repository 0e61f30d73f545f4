"""What a codec is made of: its parts, loaded by name, or found for a bitstream.

`FeatureCodec` (`featcodec.codec`) adds the path that an image takes through the parts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from featcodec import bitstream
from featcodec.bitstream import SideInfo
from featcodec.detections import BoxFilter
from featcodec.errors import WeightsError
from featcodec.images.letterbox import Fitting
from featcodec.networks.catalogue import AUTO
from featcodec.networks.layouts import choose_layout, model_fingerprint, stream_fingerprint
from featcodec.networks.restoration import Restoration, choose_restoration
from featcodec.networks.weights import local_detectors
from featcodec.packing.frames import Packing
from featcodec.packing.layout import Layout
from featcodec.split_model import SplitModel
from featcodec.video import VideoCodec, choose_profile, open_tried_video_codec, open_video_codec
from featcodec.video.isolated import IsolatedCodec
from featcodec.wire import model_at, shipped_networks

DEFAULT_IMAGE_SIZE = 512

CodecT = TypeVar("CodecT", bound="CodecParts")


@dataclass(frozen=True, eq=False, repr=False)
class CodecParts:
    """The parts of a codec, which fit together.

    Attributes:
        model: the networks on both sides of the wire: the split detector, and the bottleneck if there is one.
        packing: how the tensor lies in the frame.
        video_codec: codes the frames.
        restoration: the network that undoes coding noise in the decoder, or None; no bit of a stream depends on it.
        image_size: pixels of the letterboxed image's longer side.
        square: letterbox to a square instead of the minimum rectangle.
        boxes: which boxes a decoder returns.
    """

    model: SplitModel
    packing: Packing
    video_codec: VideoCodec
    restoration: Restoration | None = None
    image_size: int = DEFAULT_IMAGE_SIZE
    square: bool = False
    boxes: BoxFilter = field(default_factory=BoxFilter)

    def __post_init__(self) -> None:
        _ = self.fitting  # refuses an image size that the detector does not take

    @classmethod
    def load(  # noqa: PLR0913  (one keyword per part)
        cls: type[CodecT],
        detector: str | Path = "yolov5n",
        *,
        bottleneck: str | Path | None = AUTO,
        layout: str | Path | None = AUTO,
        restoration: str | Path | None = AUTO,
        split: int | None = None,
        clip: tuple[float, float] | None = None,
        bits: int = 8,
        video_codec: str = "ffmpeg",
        profile: str | None = None,
        preset: str | None = None,
        encoder_parameters: Mapping[str, str] | None = None,
        hardware: str | None = None,
        image_size: int = DEFAULT_IMAGE_SIZE,
        square: bool = False,
        boxes: BoxFilter | None = None,
        device: str = "auto",
        half: bool | None = None,
        precision: str | None = None,
        stream: SideInfo | None = None,
        isolate: bool = False,
        nms: bool = True,
    ) -> CodecT:
        """Load all parts by name.

        Args:
            detector: a name (`featcodec models`), a `.pt` file, or a `.safetensors` file of `featcodec train detector`.
            bottleneck: a `.safetensors` checkpoint, the name of a shipped bottleneck, or "auto": the bottleneck that
                ships for this detector and split, if any. None or "none" means latent coding.
            layout: a `.safetensors` checkpoint, "none", or "auto": the layout that ships for this tensor, if any.
            restoration: a `.safetensors` checkpoint, "none", or "auto": the restoration that ships for these streams,
                if any.
            split: last layer of the front-end (`featcodec models NAME --splits`); None means the bottleneck's own
                split, or without a bottleneck 4, or the first split that the detector has.
            clip: clip range of the tensor as the layout arranges it. None means the layout's or the bottleneck's own
                range, or [-0.2786, 3] without both.
            bits: sample bit depth, 1 to 8.
            video_codec: `ffmpeg` or `vvenc` (VVC), `hevc`, or `none`. All but `none` decode streams of both standards.
            profile: a name in `featcodec.video.profiles_for`; None means "fast", unless a preset is given.
            preset: a plain preset of VVenC (faster to slower) or x265 (ultrafast to veryslow), instead of a profile.
            encoder_parameters: further options of VVenC or x265.
            hardware: with `hevc`, the hardware encoder `nvenc`, `v4l2m2m` or `qsv`; None means x265.
            image_size: longer side of the letterboxed image in pixels, a multiple of 32 (P6 models: of 64).
            square: letterbox to a square instead of the minimum rectangle.
            boxes: which boxes `decode` returns.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: float32, bfloat16, float16, or "auto": float16 on CUDA, bfloat16 on CPUs that compute it fast,
                else float32. None means "auto", but float32 on every CPU, so that streams and measurements do not
                depend on the CPU.
            half: the older way to say float16 (True) or float32 (False).
            stream: side info of a bitstream to decode. Then "auto" means the parts that made the bitstream, and the
                split is the bitstream's split.
            isolate: decode video in worker processes (`featcodec.video.isolated`). Then a stream that crashes the
                decoder, never lets it end, or makes it take all memory, is one failed stream.
            nms: False takes the branch of YOLOv10 and YOLO26 that needs no NMS.

        Raises:
            FeatcodecError: a part is missing, damaged, or does not fit the others; the encoder refuses its parameters.
        """
        encoder = choose_profile(profile, preset, encoder_parameters, video_codec)
        # Try the encoder before any weights are read: it may refuse the parameters.
        open_tried_video_codec(video_codec, encoder.settings(bottleneck=False), hardware)
        made_with = None if stream is None else stream.fingerprint
        model = SplitModel.load(
            detector,
            bottleneck,
            split=split,
            device=device,
            half=half,
            precision=precision,
            fingerprint=model_fingerprint(made_with, layout),
            nms=nms,
        )
        if stream is not None and model.bottleneck is None:
            model = model_at(model, stream.split)
        arranged = choose_layout(layout, model.fingerprint, model.channels, model.split, made_with)
        packing = _packing_for(model, arranged, clip, bits)
        coder = open_video_codec(video_codec, encoder.settings(bottleneck=model.bottleneck is not None), hardware)
        return cls(
            model,
            packing,
            IsolatedCodec(coder) if isolate else coder,
            _restoration_for(restoration, model, packing),
            image_size,
            square,
            boxes or BoxFilter(),
        )

    @classmethod
    def for_stream(cls: type[CodecT], data: bytes, detector: str | Path | None = None, **settings: Any) -> CodecT:
        """The codec that decodes a bitstream, found from the bytes alone.

        Args:
            data: the bytes of one `.266` or `.265` file.
            detector: the detector that made the bitstream. None searches for it: first among the shipped detectors,
                then among the weights on this machine.
            settings: further keywords of `load`.

        Raises:
            BitstreamError: the bytes are damaged, truncated, or not a featcodec bitstream.
            WeightsError: the bitstream was made with networks that are not on this machine.
        """
        side_info, _ = bitstream.unpack(data)
        shipped = shipped_networks(side_info) if detector is None else None
        known = detector if shipped is None else shipped[0]
        if known is None:
            codecs = cls._with_each_detector(stream=side_info, **settings)
        else:
            codecs = iter([cls.load(known, stream=side_info, **settings)])
        for codec in codecs:
            if codec.fingerprint == side_info.fingerprint:
                return codec
        raise WeightsError(
            f"made with networks {side_info.fingerprint.hex()}, which are not known on this machine; give the "
            "`detector` and `bottleneck` it was encoded with"
        )

    @classmethod
    def _with_each_detector(cls: type[CodecT], **settings: Any) -> Iterator[CodecT]:
        """A codec for each detector on this machine, with these keywords of `load`.

        Damaged weights are left out, because nobody asked for them.
        """
        for detector in local_detectors():
            with contextlib.suppress(WeightsError):
                yield cls.load(detector, **settings)

    def without_bottleneck(self: CodecT) -> CodecT:
        """The same detector with latent coding, without layout and restoration. Attacks use this codec as an anchor."""
        model = SplitModel(self.model.detector)
        packing = Packing.near_square(model.channels, model.quantizer, further=model.further)
        return replace(self, model=model, packing=packing, restoration=None)

    @cached_property
    def fitting(self) -> Fitting:
        """How images are fitted into the detector's input."""
        return Fitting(self.image_size, self.square, self.model.detector.stride)

    @property
    def device_type(self) -> str:
        """Where the networks are: cpu, cuda or mps."""
        return self.model.device.type

    @cached_property
    def fingerprint(self) -> bytes:
        """8 bytes that name the model and the layout, which a decoder needs (the stream fingerprint)."""
        return stream_fingerprint(self.model.fingerprint, self.packing.layout)

    def __repr__(self) -> str:
        layout = "none" if self.packing.layout is None else "yes"
        restoration = "none" if self.restoration is None else "yes"
        return (
            f"{type(self).__name__}({self.model!r}, layout={layout}, restoration={restoration}, "
            f"video_codec={self.video_codec.name!r}, image_size={self.image_size}, "
            f"fingerprint={self.fingerprint.hex()})"
        )


def _packing_for(model: SplitModel, layout: Layout | None, clip: tuple[float, float] | None, bits: int) -> Packing:
    """The packing of a model's tensors, with the clip range of the layout or of the model if `clip` is None."""
    packing = Packing.near_square(model.channels, model.quantizer, layout, model.further)
    low, high = clip or (packing.quantizer.low, packing.quantizer.high)
    return packing.with_range(low, high, bits)


def _restoration_for(name_or_path: str | Path | None, model: SplitModel, packing: Packing) -> Restoration | None:
    """The restoration of a model's streams, on the model's device."""
    streams = stream_fingerprint(model.fingerprint, packing.layout)
    restoration = choose_restoration(name_or_path, streams, model.channels, model.split)
    if restoration is None:
        return None
    if model.further:
        raise WeightsError("a restoration is for one tensor, but several cross the wire; use `restoration` none")
    return restoration.to(model.device)
