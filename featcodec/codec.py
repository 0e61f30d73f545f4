"""FeatureCodec: the main path, image -> bitstream -> detections. Read this first.

    image --letterbox--> detector.front --AE--> layout, quantize --tile--> VVC --side info--> bytes
    bytes --side info--> VVC --untile--> dequantize, layout --restoration, AD--> detector.back --NMS--> Detections

`encode` and `decode` are the whole path for one image. `featcodec.pipeline` runs the same steps for many.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcodec import bitstream
from featcodec.bitstream import RAW_QP, Header
from featcodec.detections import BoxFilter, Detections
from featcodec.detectors import SplitDetector, detections_of, load_detector
from featcodec.detectors.split import DEFAULT_SPLIT
from featcodec.errors import BitstreamError, InputError, WeightsError
from featcodec.fingerprints import joined_fingerprint
from featcodec.images.letterbox import MAX_IMAGE_SIZE, STRIDE, Letterbox, Letterboxed, letterbox_of
from featcodec.images.reading import check_rgb
from featcodec.networks.bottleneck import AUTO, Bottleneck, choose_bottleneck
from featcodec.networks.layouts import choose_layout, tensor_fingerprint
from featcodec.networks.restoration import Restoration, choose_restoration, restore
from featcodec.packing.layout import Layout
from featcodec.packing.quantize import LATENT_CLIP, UniformQuantizer
from featcodec.packing.tiling import TileGrid
from featcodec.system.batching import cores
from featcodec.video import Frame, VideoCodec, choose_profile, open_codec, open_tried_codec

DEFAULT_QP = 38
DEFAULT_IMAGE_SIZE = 512


@dataclass(frozen=True, eq=False, repr=False)
class FeatureCodec:
    """Codes images as feature bitstreams and finishes the detection from them.

    Attributes:
        detector: the split detector.
        vvc: the codec of the mosaics.
        quantizer: clip range and bit depth of the coded tensor.
        bottleneck: AE and AD, or None for direct ("latent") coding.
        image_size: pixels of the letterboxed image's longer side.
        square: letterbox to a square instead of the minimum rectangle.
        boxes: which boxes a decoder returns.
        restoration: undoes coding noise in a decoder, or None; no bit of a stream depends on it.
        layout: how the mosaic is laid out, or None for the tensor as it is.
        tensor_fingerprint: 8 bytes that name detector and bottleneck weights; derived.
        fingerprint: 8 bytes that name those and the layout, as bitstreams do; derived.
    """

    detector: SplitDetector
    vvc: VideoCodec
    quantizer: UniformQuantizer
    bottleneck: Bottleneck | None = None
    image_size: int = DEFAULT_IMAGE_SIZE
    square: bool = False
    boxes: BoxFilter = field(default_factory=BoxFilter)
    restoration: Restoration | None = None
    layout: Layout | None = None
    tensor_fingerprint: bytes = field(init=False)
    fingerprint: bytes = field(init=False)

    def __post_init__(self) -> None:
        Letterbox.fit(1, 1, self.image_size)
        learned = None if self.bottleneck is None else self.bottleneck.fingerprint()
        tensor = joined_fingerprint(self.detector.fingerprint, learned)
        object.__setattr__(self, "tensor_fingerprint", tensor)
        layout = None if self.layout is None else self.layout.fingerprint()
        object.__setattr__(self, "fingerprint", joined_fingerprint(tensor, layout))

    @classmethod
    def load(  # noqa: PLR0913  (one keyword a part)
        cls,
        detector: str | Path = "yolov5n",
        *,
        bottleneck: str | Path | None = AUTO,
        layout: str | Path | None = AUTO,
        codec: str = "ffmpeg",
        profile: str | None = None,
        preset: str | None = None,
        encoder_parameters: Mapping[str, str] | None = None,
        clip: tuple[float, float] | None = None,
        bits: int = 8,
        split: int | None = None,
        image_size: int = DEFAULT_IMAGE_SIZE,
        square: bool = False,
        device: str = "auto",
        half: bool | None = None,
        boxes: BoxFilter | None = None,
        restoration: str | Path | None = AUTO,
        fingerprint: bytes | None = None,
    ) -> FeatureCodec:
        """Load all parts by name.

        Args:
            detector: a name (`featcodec models`), a `.pt` file, or a `.safetensors` file of `featcodec train detector`.
            bottleneck: a `.safetensors` checkpoint, the name of a shipped one, or "auto": the one shipped for this
                detector and split, if any. None codes the features directly.
            layout: a `.safetensors` checkpoint, "none", or "auto": the one that ships for this tensor, if any.
            codec: `ffmpeg`, `vvenc` or `none`.
            profile: a name in `featcodec.video.PROFILES`; None means "fast", unless there is a preset.
            preset: a plain VVenC preset, faster to slower, in place of a profile.
            encoder_parameters: further VVenC options.
            clip: clip range, of the tensor as the layout arranges it; None means the bottleneck's own, or [-0.2786, 3].
            bits: sample bit depth, 1 to 8.
            split: last layer of the front-end, 0..4; None means the bottleneck's own, or 4.
            image_size: letterboxed longer side in pixels, a multiple of 32.
            square: letterbox to a square instead of the minimum rectangle.
            device: auto, cpu, cuda, cuda:N or mps.
            half: compute in float16; None means on CUDA only.
            boxes: which boxes `decode` returns.
            restoration: a `.safetensors` checkpoint, "none", or "auto": the one that ships for this codec, if any.
            fingerprint: of a bitstream that is to be decoded; bottleneck "auto" then means the one it was made with.

        Raises:
            FeatcodecError: a part is missing, damaged, or does not fit the others; the encoder refuses its parameters.
        """
        chosen = choose_profile(profile, preset, encoder_parameters)
        # Before any weights are read: the encoder may refuse the parameters.
        open_tried_codec(codec, chosen.settings(bottleneck=False))
        network = load_detector(detector, split=DEFAULT_SPLIT if split is None else split, device=device, half=half)
        learned = choose_bottleneck(bottleneck, network.fingerprint, split, tensor_fingerprint(fingerprint, layout))
        video = open_codec(codec, chosen.settings(bottleneck=learned is not None))
        if learned is not None:
            network.split = learned.config.split
        plain = UniformQuantizer(*LATENT_CLIP) if learned is None else learned.config.quantizer()
        loaded = cls(network, video, plain, learned, image_size, square, boxes or BoxFilter())
        tensor = loaded.tensor_fingerprint
        arranged = choose_layout(layout, tensor, loaded.coded_channels(), network.split, fingerprint)
        quantizer = plain if arranged is None else arranged.quantizer()
        low, high = clip or (quantizer.low, quantizer.high)
        loaded = replace(loaded, quantizer=UniformQuantizer(low, high, bits), layout=arranged)
        restorer = choose_restoration(restoration, loaded.fingerprint, loaded.coded_channels, split)
        if restorer is not None:
            network.split = restorer.config.split
            loaded = replace(loaded, restoration=restorer.to(network.device))
        if learned is not None:
            # Only now: half precision would change its fingerprint.
            learned.to(network.device, network.dtype)
        return loaded

    def encode(self, image: npt.NDArray[np.uint8], qp: int = DEFAULT_QP) -> bytes:
        """Code one image.

        Args:
            image: (height, width, 3) uint8 RGB in [0, 255].
            qp: VVC quantization parameter, 0 (finest) to 63 (coarsest).

        Returns:
            the bytes of one `.266` file (docs/bitstream.md).

        Raises:
            InputError: not such an image, or the QP is out of range.
            EncoderError: the VVC encoder failed.
        """
        ((header, frame),) = self.front_end([self.letterbox(image)], qp)
        (stream,) = self.vvc.encode([frame], qp, threads=cores())
        return bitstream.pack(header, stream)

    def decode(self, data: bytes) -> Detections:
        """Finish the detection from one bitstream.

        Args:
            data: the bytes of one `.266` file, made with this detector, bottleneck and layout.

        Raises:
            BitstreamError: damaged, truncated or not of featcodec.
            WeightsError: made with other weights.
        """
        (detections,) = self.back_end([self.decode_frame(data)])
        return detections

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """The uncoded detector on one image: no bottleneck, no quantization, no bitstream.

        Args:
            image: (height, width, 3) uint8 RGB in [0, 255].

        Raises:
            InputError: not such an image.
        """
        return self.detect_letterboxed([self.letterbox(image)])[0]

    def letterbox(self, image: npt.NDArray[np.uint8]) -> Letterboxed:
        """Fit an image into the detector's input."""
        check_rgb(image)
        letterbox = Letterbox.fit(image.shape[1], image.shape[0], self.image_size, square=self.square)
        return Letterboxed(letterbox, letterbox.apply(image))

    def front_end(self, batch: Sequence[Letterboxed], qp: int) -> list[tuple[Header, Frame]]:
        """What the edge computes before VVC: side info and mosaic of each image.

        Args:
            batch: images of one letterboxed shape.
            qp: the QP that will be used, 0..63; it stands in the header.

        Returns:
            per image its header, and its mosaic: (rows * H, cols * W) uint8 of the tiled (C, H, W) tensor.

        Raises:
            InputError: the QP is out of range, or the feature tensor holds NaN.
            BitstreamError: the mosaic would be larger than a bitstream may hold.
        """
        if not hasattr(qp, "__index__") or not 0 <= qp <= 63:  # numpy's integers have it, floats do not
            raise InputError(f"QP {qp} is no whole number from 0 to 63")
        values = self.uncoded_tensors(batch).float().cpu().contiguous().numpy()
        if self.layout is not None:
            values = self.layout.arrange(values)
        grid = TileGrid.near_square(values.shape[1])
        return [
            (self._header(image, tensor.shape, grid, qp), grid.tile(self.quantizer.quantize(tensor)))
            for image, tensor in zip(batch, values, strict=True)
        ]

    def uncoded_tensors(self, batch: Sequence[Letterboxed]) -> Tensor:
        """What the edge computes before anything is clipped: the feature tensor, through AE where there is one.

        Args:
            batch: images of one letterboxed shape.

        Returns:
            (B, C, H, W) on the detector's device, in its precision.
        """
        with torch.inference_mode():
            features = self.detector.front(_to_tensor(batch))
            return features if self.bottleneck is None else self.bottleneck.encode(features)

    def decode_frame(self, data: bytes) -> tuple[Header, Frame]:
        """What the cloud computes before the networks: side info and decoded mosaic of one bitstream.

        Raises:
            BitstreamError, WeightsError: as `decode`.
        """
        header, stream = bitstream.unpack(bytes(data))
        if header.fingerprint != self.fingerprint:
            raise WeightsError(
                f"made with weights {header.fingerprint.hex()}, but {self.fingerprint.hex()} are loaded; "
                "give the --detector, --bottleneck and --layout it was encoded with"
            )
        self._check_shape(header)
        video = open_codec("none") if header.is_raw else self._decoder()
        return header, video.decode(stream, header.mosaic_shape)

    def back_end(self, batch: Sequence[tuple[Header, Frame]]) -> list[Detections]:
        """What the cloud computes after VVC.

        Args:
            batch: `decode_frame` results of one letterboxed size and one split.

        Returns:
            the detections of each.
        """
        headers = [side_info for side_info, _ in batch]
        tensors = restore(self.restoration, self.coded_tensors(batch), headers)
        return self.finish(tensors, [letterbox_of(header) for header in headers], headers[0].split)

    def finish(self, tensors: Tensor, letterboxes: Sequence[Letterbox], split: int | None = None) -> list[Detections]:
        """The networks of the cloud alone: AD, where there is one, and the detector's back-end.

        Args:
            tensors: (B, C, H, W), what `uncoded_tensors` gives, or `coded_tensors`.
            letterboxes: of the B images.
            split: the split they were made with, if not the detector's own.

        Returns:
            the detections of each.
        """
        with torch.inference_mode():
            features = tensors if self.bottleneck is None else self.bottleneck.decode(tensors)
            predictions = self.detector.back(features, split)
        return detections_of(predictions, letterboxes, self.detector.names, self.boxes)

    def coded_tensors(self, batch: Sequence[tuple[Header, Frame]]) -> Tensor:
        """What came over the wire, dequantized: where AD and back-end start, and an attacker, too.

        Args:
            batch: `decode_frame` results of one letterboxed size and one split.

        Returns:
            (B, C, H, W) on the detector's device, in its precision.
        """
        tensors = np.stack([_dequantize(side_info, frame) for side_info, frame in batch])
        if self.layout is not None:
            tensors = self.layout.restore(tensors)
        return torch.from_numpy(tensors).to(self.detector.device, self.detector.dtype)

    def detect_letterboxed(self, batch: Sequence[Letterboxed]) -> list[Detections]:
        """The uncoded detector on images of one letterboxed shape."""
        with torch.inference_mode():
            predictions = self.detector.back(self.detector.front(_to_tensor(batch)))
        letterboxes = [image.letterbox for image in batch]
        return detections_of(predictions, letterboxes, self.detector.names, self.boxes)

    def coded_channels(self, split: int | None = None) -> int:
        """Channels of the coded tensor, behind another split than the detector's own where one is given."""
        if self.bottleneck is not None:
            return self.bottleneck.config.channels
        return self.detector.feature_shape(STRIDE, STRIDE, split)[0]

    def matches(self, header: Header, image: Letterboxed, qp: int) -> bool:
        """Whether a bitstream with this header was made of that image, with the present settings, at that QP.

        Another image of the same size passes with a probability of 1 in 65,536.
        """
        if letterbox_of(header) != image.letterbox:
            return False
        shape = (header.channels, header.feature_height, header.feature_width)
        return header == self._header(image, shape, TileGrid(header.tile_rows, header.tile_cols), qp)

    def _check_shape(self, header: Header) -> None:
        """Refuse a tensor that these networks cannot take: a fingerprint can be copied onto any header."""
        size = header.letterboxed_width, header.letterboxed_height
        _, height, width = self.detector.feature_shape(*size, header.split)
        channels = self.coded_channels(header.split)
        claimed = (header.channels, header.feature_height, header.feature_width)
        fixed = next((part.config.split for part in (self.bottleneck, self.layout) if part is not None), header.split)
        is_absurd = any(side % STRIDE or side > MAX_IMAGE_SIZE for side in size)
        if is_absurd or claimed != (channels, height, width) or header.split != fixed:
            raise BitstreamError(
                f"claims a tensor of {claimed} for {size[0]}x{size[1]} pixels; this model makes {channels} channels of "
                f"{width}x{height} there: damaged or forged, encode the image again"
            )

    def _decoder(self) -> VideoCodec:
        return open_codec("ffmpeg") if self.vvc.name == "none" else self.vvc

    def _header(self, image: Letterboxed, shape: tuple[int, ...], grid: TileGrid, qp: int) -> Header:
        letterbox = image.letterbox
        header = Header(
            original_width=letterbox.original_width,
            original_height=letterbox.original_height,
            letterboxed_width=letterbox.width,
            letterboxed_height=letterbox.height,
            channels=shape[0],
            feature_height=shape[1],
            feature_width=shape[2],
            tile_rows=grid.rows,
            tile_cols=grid.cols,
            clip_low=self.quantizer.low,
            clip_high=self.quantizer.high,
            bits=self.quantizer.bits,
            split=self.detector.split,
            fingerprint=self.fingerprint,
            qp=RAW_QP if self.vvc.name == "none" else int(qp),
            encoder_tag=zlib.crc32(image.pixels.tobytes(), self.vvc.tag) & 0xFFFF,
        )
        # Before VVC is spent on it.
        header.check()
        return header


def _dequantize(header: Header, frame: Frame) -> npt.NDArray[np.float32]:
    samples = TileGrid(header.tile_rows, header.tile_cols).untile(frame, header.channels)
    return UniformQuantizer(header.clip_low, header.clip_high, header.bits).dequantize(samples)


def _to_tensor(batch: Sequence[Letterboxed]) -> Tensor:
    """(B, 3, H, W) float32 RGB in [0, 1]."""
    pixels = np.stack([image.pixels for image in batch])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
