"""EdgeEncoder: pictures to bitstreams by an exported model, without PyTorch.

    encoder = EdgeEncoder.load("model/")
    data = encoder.encode("street.jpg", qp=38)      # the bytes of one .265 file

The ordinary decoder takes the streams: `featcodec decode`, `FeatureCodec.for_stream`. Their side info equals that of
`FeatureCodec.encode`, their samples do but for the rounding of the networks' sums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featcodec import bitstream
from featcodec.bitstream import SideInfo, Standard
from featcodec.edge.model_file import EDGE_FILE, MODEL_FILE, REMEDY, ModelFile, read_model_file
from featcodec.edge.onnx_files import MAX_ONNX_BYTES, check_onnx
from featcodec.edge.sessions import open_session
from featcodec.errors import WeightsError, reason_of
from featcodec.images.letterbox import Fitting, Letterboxed, letterbox_of
from featcodec.images.reading import ImageLike, as_rgb
from featcodec.images.side_info import side_info_for
from featcodec.packing.frames import Frame
from featcodec.system.batching import cores
from featcodec.system.files import read_bounded
from featcodec.video import VideoCodec, choose_profile, open_tried_video_codec

PICTURES, FRAMES = "pictures", "frames"
"""Names of the input and the output of `edge.onnx`."""


class EdgeEncoder:
    """Codes pictures as feature bitstreams. Several threads may use one encoder.

    Args:
        model: what `model.json` says.
        session: `edge.onnx` in ONNX Runtime.
        video_codec: codes the frames.
        threads: of the networks, and of a VVC encoder.
    """

    def __init__(self, model: ModelFile, session: Any, video_codec: VideoCodec, threads: int) -> None:
        self.model = model
        self.video_codec = video_codec
        self.threads = threads
        self._session = session

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        threads: int | None = None,
        video_codec: str = "hevc",
        hardware: str | None = None,
        profile: str | None = None,
        preset: str | None = None,
        encoder_parameters: Mapping[str, str] | None = None,
    ) -> EdgeEncoder:
        """Load the folder of an exported model. Nothing in it is trusted.

        Args:
            folder: what `featcodec export` wrote; `cloud.onnx` is not read and may be missing.
            threads: of the networks, and of a VVC encoder; None means one per core.
            video_codec: `hevc` (x265 in this process), `ffmpeg` (VVC, needs imageio-ffmpeg), `vvenc` or `none`.
            hardware: with `hevc`, the hardware encoder `nvenc`, `v4l2m2m` or `qsv`; None means x265.
            profile, preset, encoder_parameters: of the video encoder, as for `FeatureCodec.load`.

        Raises:
            WeightsError: the folder is not that of an exported model, or is damaged.
            InputError: there is no such video codec, profile or preset.
            EncoderError: the video encoder is not installed.
            FeatcodecError: ONNX Runtime is not installed.
        """
        model = read_model_file(Path(folder) / MODEL_FILE)
        settings = choose_profile(profile, preset, encoder_parameters, video_codec).settings(
            bottleneck=model.bottleneck
        )
        coder = open_tried_video_codec(video_codec, settings, hardware)
        at_once = cores() if threads is None else max(1, threads)
        return cls(model, open_edge(Path(folder), model, at_once), coder, at_once)

    @property
    def standard(self) -> Standard:
        """The standard of the streams."""
        return self.video_codec.standard

    @property
    def max_qp(self) -> int:
        """The coarsest QP: 51 in HEVC, 63 in VVC."""
        return self.standard.max_qp

    @property
    def default_qp(self) -> int:
        """The QP that was given when the model was exported."""
        return min(self.model.default_qp, self.max_qp)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names, one per class id."""
        return self.model.names

    @property
    def fitting(self) -> Fitting:
        """How pictures are fitted into the detector's input."""
        return self.model.fitting

    @property
    def device_type(self) -> str:
        """Where the networks are: always cpu."""
        return "cpu"

    @property
    def image_size(self) -> int:
        """Pixels of the letterboxed image's longer side."""
        return self.model.image_size

    @property
    def fingerprint(self) -> bytes:
        """8 bytes that name the networks that decode the streams."""
        return bytes.fromhex(self.model.fingerprint)

    def encode(self, picture: ImageLike, qp: int | None = None) -> bytes:
        """Code one picture.

        Args:
            picture: a path, a PIL image, or a (height, width, 3) uint8 RGB array in [0, 255].
            qp: quantization parameter, 0 (finest) to `max_qp`; None means `default_qp`.

        Returns:
            the bytes of one `.265` or `.266` file (docs/bitstream.md).

        Raises:
            InputError: the picture is none of these, cannot be read, or the QP is out of range.
            WeightsError: `edge.onnx` does not do what `model.json` says.
            EncoderError: the video encoder failed.
        """
        coarseness = self.default_qp if qp is None else qp
        ((side_info, frame),) = self.front_end([self.letterbox(picture)], coarseness)
        (stream,) = self.video_codec.encode([frame], coarseness, threads=self.threads)
        return bitstream.pack(side_info, stream)

    def letterbox(self, picture: ImageLike) -> Letterboxed:
        """Fit a picture into the front-end's input; `encode` says what a picture may be."""
        return self.fitting.apply(as_rgb(picture))

    def front_end(self, batch: Sequence[Letterboxed], qp: int) -> list[tuple[SideInfo, Frame]]:
        """The work before the video codec.

        Args:
            batch: images of one letterboxed shape. The networks take one at a time.
            qp: the QP that the video codec will use, 0 to `max_qp`; the side info holds it.

        Returns:
            per image its side info and its frame, (height, width) uint8.

        Raises:
            InputError: the QP is out of range.
            WeightsError: as in `encode`.
        """
        bitstream.check_qp(qp, most=self.max_qp)
        coded = [(self._side_info(image, qp), image.pixels[np.newaxis]) for image in batch]
        return [(info, run_edge(self._session, pixels, info.frame_shape)[0]) for info, pixels in coded]

    def matches(self, side_info: SideInfo, image: Letterboxed, qp: int) -> bool:
        """Whether a bitstream with this side info was made from that image, by this model, at that QP.

        A different image of the same size is accepted by mistake with a probability of 1 in 65,536. Streams of the
        same networks in PyTorch, or in another precision, are accepted too.
        """
        return letterbox_of(side_info) == image.letterbox and side_info == self._side_info(image, qp)

    def _side_info(self, image: Letterboxed, qp: int) -> SideInfo:
        return side_info_for(
            image,
            self.model.tensor_shapes(image.letterbox.width, image.letterbox.height),
            self.model.packing,
            self.model.split,
            self.fingerprint,
            bitstream.RAW_QP if self.video_codec.name == "none" else int(qp),
            self.video_codec.tag,
        )

    def __repr__(self) -> str:
        return (
            f"EdgeEncoder({self.model.detector!r}, {self.model.precision}, video_codec={self.video_codec.name!r}, "
            f"image_size={self.image_size}, fingerprint={self.model.fingerprint})"
        )


def open_edge(folder: Path, model: ModelFile, threads: int) -> Any:
    """Open the `edge.onnx` of a folder.

    Raises:
        WeightsError: the file is missing, is not the one that `model.json` names, or is not such a network.
        FeatcodecError: ONNX Runtime is not installed.
    """
    path = folder / EDGE_FILE
    data = read_bounded(path, MAX_ONNX_BYTES, WeightsError, what="exported network", remedy=REMEDY, unreadable=REMEDY)
    if hashlib.sha256(data).hexdigest() != model.edge_sha256:
        raise WeightsError(f"{path}: is not the file that {MODEL_FILE} names (its SHA-256 differs); {REMEDY}")
    try:
        check_onnx(data)
        session = open_session(data, threads)
        found = [(each.name, each.type, len(each.shape)) for each in (*session.get_inputs(), *session.get_outputs())]
        if found != [(PICTURES, "tensor(uint8)", 4), (FRAMES, "tensor(uint8)", 3)]:
            raise WeightsError("is not the edge of an exported model: its inputs and outputs are others")
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; {REMEDY}") from None
    return session


def run_edge(session: Any, pixels: npt.NDArray[np.uint8], shape: tuple[int, int]) -> Sequence[Frame]:
    """Frames of letterboxed pictures.

    Args:
        session: `edge.onnx`.
        pixels: (B, height, width, 3) uint8 RGB.
        shape: height and width that the frames must have.

    Returns:
        (B, *shape) uint8.

    Raises:
        WeightsError: the network fails, or makes something else.
    """
    try:
        (frames,) = session.run([FRAMES], {PICTURES: pixels})
    except Exception as error:  # ONNX Runtime has classes of its own, which share no base
        raise WeightsError(f"{EDGE_FILE} does not run ({reason_of(error)}); {REMEDY}") from None
    if frames.dtype != np.uint8 or frames.shape != (len(pixels), *shape):
        raise WeightsError(f"{EDGE_FILE} makes {frames.shape}, but {MODEL_FILE} says {shape}; {REMEDY}")
    made: Sequence[Frame] = frames
    return made
