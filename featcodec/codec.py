"""FeatureCodec: the main path, image -> bitstream -> detections. Read this module first.

    image --letterbox--> SplitModel.encode --> tensor --Packing--> frame --video codec, side info--> bytes
    bytes --side info, video codec--> frame --Packing--> tensor --restoration--> SplitModel.decode --NMS--> Detections

`encode` and `decode` are the whole path for a few images. `featcodec.pipeline` runs the same steps for many images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from featcodec import bitstream
from featcodec.bitstream import SideInfo
from featcodec.detections import BoxFilter, Detections
from featcodec.detectors import detections_of
from featcodec.detectors.split import Predictions
from featcodec.errors import WeightsError
from featcodec.fingerprints import joined_fingerprint
from featcodec.images.letterbox import Fitting, Letterbox, Letterboxed, letterbox_of
from featcodec.images.reading import ImageLike, as_rgb
from featcodec.networks.bottleneck import shipped_model
from featcodec.networks.catalogue import AUTO
from featcodec.networks.features import Features, features_of_levels, join_batches, levels_of
from featcodec.networks.layouts import choose_layout, model_fingerprint
from featcodec.networks.restoration import Restoration, choose_restoration, restore
from featcodec.networks.weights import local_detectors
from featcodec.packing.frames import Frame, Packing
from featcodec.split_model import SplitModel
from featcodec.system.batching import cores
from featcodec.system.devices import one_by_one
from featcodec.video import VideoCodec, choose_profile, open_tried_video_codec, open_video_codec
from featcodec.video.isolated import IsolatedCodec
from featcodec.wire import check_networks, check_tensor, model_at, packing_of, side_info_of

DEFAULT_QP = 38
DEFAULT_IMAGE_SIZE = 512
_BATCH = 8
"""At most this many images of a list are coded at once."""

ImageT = TypeVar("ImageT", bound=ImageLike)


@dataclass(frozen=True, eq=False, repr=False)
class FeatureCodec:
    """Codes images as feature bitstreams and finishes the detection from them.

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
        cls,
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
    ) -> FeatureCodec:
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
        named = None if stream is None else stream.fingerprint
        wanted = model_fingerprint(named, layout)
        model = SplitModel.load(
            detector,
            bottleneck,
            split=split,
            device=device,
            half=half,
            precision=precision,
            fingerprint=wanted,
            nms=nms,
        )
        if stream is not None and model.bottleneck is None:
            model = model_at(model, stream.split)
        arranged = choose_layout(layout, model.fingerprint, model.channels, model.split, named)
        packing = Packing.near_square(model.channels, model.quantizer, arranged, model.further)
        low, high = clip or (packing.quantizer.low, packing.quantizer.high)
        made_with = _stream_fingerprint(model, packing)
        coder = open_video_codec(video_codec, encoder.settings(bottleneck=model.bottleneck is not None), hardware)
        restorer = choose_restoration(restoration, made_with, model.channels, model.split)
        if restorer is not None and model.further:
            raise WeightsError("a restoration is for one tensor, but several cross the wire; use `restoration` none")
        return cls(
            model,
            packing.with_range(low, high, bits),
            IsolatedCodec(coder) if isolate else coder,
            None if restorer is None else restorer.to(model.device),
            image_size,
            square,
            boxes or BoxFilter(),
        )

    @classmethod
    def for_stream(cls, data: bytes, detector: str | Path | None = None, **settings: Any) -> FeatureCodec:
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
        shipped = shipped_model(model_fingerprint(side_info.fingerprint, AUTO)) if detector is None else None
        known = detector if shipped is None else shipped[0]
        for candidate in local_detectors() if known is None else [known]:
            # In a search, damaged weights are skipped, because nobody asked for them.
            with contextlib.suppress(WeightsError) if known is None else contextlib.nullcontext():
                codec = cls.load(candidate, stream=side_info, **settings)
                if codec.fingerprint == side_info.fingerprint:
                    return codec
        raise WeightsError(
            f"made with networks {side_info.fingerprint.hex()}, which are not known on this machine; give the "
            "`detector` and `bottleneck` it was encoded with"
        )

    def without_bottleneck(self) -> FeatureCodec:
        """The same detector with latent coding, without layout and restoration. Attacks use this codec as an anchor."""
        model = SplitModel(self.model.detector)
        packing = Packing.near_square(model.channels, model.quantizer, further=model.further)
        return replace(self, model=model, packing=packing, restoration=None)

    @cached_property
    def fitting(self) -> Fitting:
        """How images are fitted into the detector's input."""
        return Fitting(self.image_size, self.square, self.model.detector.stride)

    @cached_property
    def fingerprint(self) -> bytes:
        """8 bytes that name the model and the layout, which a decoder needs (the stream fingerprint)."""
        return _stream_fingerprint(self.model, self.packing)

    @property
    def device_type(self) -> str:
        """Where the networks are: cpu, cuda or mps."""
        return self.model.device.type

    @overload
    def encode(self, image: ImageLike, qp: int = DEFAULT_QP) -> bytes: ...
    @overload
    def encode(self, image: list[ImageT] | tuple[ImageT, ...], qp: int = DEFAULT_QP) -> list[bytes]: ...
    def encode(self, image: ImageLike | list[ImageT] | tuple[ImageT, ...], qp: int = DEFAULT_QP) -> bytes | list[bytes]:
        """Code one image, or a list of images.

        Args:
            image: a path, a PIL image, or a (height, width, 3) uint8 RGB array in [0, 255]; or a list or tuple of
                these. For thousands of files, use `featcodec.pipeline.encode_files`.
            qp: quantization parameter, 0 (finest) to 63 (coarsest), with HEVC to 51.

        Returns:
            the bytes of one `.266` or `.265` file (docs/bitstream.md), or a list with one file's bytes per image, in
            order. The bytes of an image do not depend on the other images in the list.

        Raises:
            InputError: the image is none of these, cannot be read, or the QP is out of range.
            EncoderError: the video encoder failed.
        """
        if isinstance(image, (list, tuple)):
            return [data for batch in self._batches(image) for data in self._encode_batch(batch, qp)]
        (data,) = self._encode_batch([self.letterbox(image)], qp)
        return data

    @overload
    def decode(self, data: bytes) -> Detections: ...
    @overload
    def decode(self, data: list[bytes] | tuple[bytes, ...]) -> list[Detections]: ...
    def decode(self, data: bytes | list[bytes] | tuple[bytes, ...]) -> Detections | list[Detections]:
        """Finish the detection from one bitstream, or from a list of bitstreams.

        Args:
            data: the bytes of one `.266` or `.265` file, made with this detector, bottleneck and layout; or a list or
                tuple of these.

        Returns:
            the detections, or a list with the detections per bitstream, in order.

        Raises:
            BitstreamError: the bytes are damaged, truncated or not a featcodec bitstream.
            WeightsError: the bitstream was made with other weights.
        """
        if isinstance(data, (list, tuple)):
            return [self.back_end([self.decode_frame(each)])[0] for each in data]
        (detections,) = self.back_end([self.decode_frame(data)])
        return detections

    @overload
    def detect(self, image: ImageLike) -> Detections: ...
    @overload
    def detect(self, image: list[ImageT] | tuple[ImageT, ...]) -> list[Detections]: ...
    def detect(self, image: ImageLike | list[ImageT] | tuple[ImageT, ...]) -> Detections | list[Detections]:
        """Run the detector on one image or a list of images: without bottleneck, quantization and bitstream.

        Args:
            image: the same as for `encode`.

        Raises:
            InputError: the image is none of these, or cannot be read.
        """
        if isinstance(image, (list, tuple)):
            return [found for batch in self._batches(image) for found in self.detect_letterboxed(batch)]
        return self.detect_letterboxed([self.letterbox(image)])[0]

    def letterbox(self, image: ImageLike) -> Letterboxed:
        """Fit an image into the detector's input. `encode` says what an image may be."""
        return self.fitting.apply(as_rgb(image))

    def front_end(self, batch: Sequence[Letterboxed], qp: int) -> list[tuple[SideInfo, Frame]]:
        """The work of the edge before the video codec: the side info and the frame of each image.

        Args:
            batch: images of one letterboxed shape.
            qp: the QP that the video codec will use, 0..63, with HEVC 0..51; the side info holds it.

        Returns:
            per image its side info and its frame, (height, width) uint8, of the packed tensor or tensors.

        Raises:
            InputError: the QP is out of range, or the tensor holds NaN.
            BitstreamError: the frame would be larger than a bitstream may hold.
        """
        bitstream.check_qp(qp, most=self.video_codec.standard.max_qp)
        levels = [level.float().cpu().contiguous().numpy() for level in levels_of(self.tensors_of(batch))]
        return [
            (self._side_info(image, qp), self.packing.to_frame(tensors))
            for image, *tensors in zip(batch, *levels, strict=True)
        ]

    def tensors_of(self, batch: Sequence[Letterboxed]) -> Features:
        """The tensors of letterboxed images, made by `SplitModel.encode`, before anything is clipped.

        Args:
            batch: images of one letterboxed shape.

        Returns:
            (B, C, H, W) on the model's device, in its precision; or a tuple where several cross.
        """
        with torch.inference_mode():
            return one_by_one(self.model.encode, self.pictures_of(batch), join=join_batches)

    def decode_frame(self, data: bytes) -> tuple[SideInfo, Frame]:
        """The work of the cloud before the networks: the side info and the decoded frame of one bitstream.

        Raises:
            BitstreamError, WeightsError: as in `decode`.
        """
        side_info, stream = self._unpacked(data)
        decoder = open_video_codec("none") if side_info.is_raw else self._decoder()
        return side_info, decoder.decode(stream, side_info.frame_shape)

    def check_stream(self, data: bytes) -> SideInfo:
        """The side info of a bitstream that these networks can decode. Its picture is not decoded.

        Raises:
            BitstreamError, WeightsError: as in `decode`, except for a damaged picture.
        """
        return self._unpacked(data)[0]

    def _unpacked(self, data: bytes) -> tuple[SideInfo, bytes]:
        side_info, stream = bitstream.unpack(bytes(data))
        check_networks(side_info, self.fingerprint)
        check_tensor(side_info, self.model, self.packing.layout)
        return side_info, stream

    def back_end(self, batch: Sequence[tuple[SideInfo, Frame]]) -> list[Detections]:
        """The work of the cloud after the video codec.

        Args:
            batch: results of `decode_frame`, all with one letterboxed size and one split.

        Returns:
            the detections per bitstream.
        """
        side_infos = [side_info for side_info, _ in batch]
        tensors = self.decoded_tensors(batch)
        if isinstance(tensors, Tensor):
            tensors = restore(self.restoration, tensors, side_infos)
        # A fingerprint does not name the split: without a bottleneck, the same weights decode every split.
        qp = torch.tensor([0.0 if each.is_raw else float(each.qp) for each in side_infos], device=self.model.device)
        return self._finish(self.model.at(side_infos[0].split), tensors, map(letterbox_of, side_infos), qp)

    def finish(self, tensors: Features, letterboxes: Sequence[Letterbox]) -> list[Detections]:
        """The work of the cloud on tensors that were not coded: `SplitModel.decode`, then boxes.

        Args:
            tensors: from `tensors_of`.
            letterboxes: the letterboxes of the B images.

        Returns:
            the detections per image.
        """
        return self._finish(self.model, tensors, letterboxes)

    def decoded_tensors(self, batch: Sequence[tuple[SideInfo, Frame]]) -> Features:
        """The decoded tensors. Restoration, AD and back-end start from them, and so does an attacker.

        Args:
            batch: results of `decode_frame`, all with one letterboxed size and one split.

        Returns:
            (B, C, H, W) on the model's device, in its precision; or a tuple where several cross.
        """
        images = [packing_of(side_info, self.packing.layout).to_tensors(frame) for side_info, frame in batch]
        levels = [torch.from_numpy(np.stack(level)) for level in zip(*images, strict=True)]
        return features_of_levels([level.to(self.model.device, self.model.detector.dtype) for level in levels])

    def detect_letterboxed(self, batch: Sequence[Letterboxed]) -> list[Detections]:
        """Run the detector without coding on images of one letterboxed shape."""
        detector = self.model.detector

        def run(pictures: Tensor, conf: float | None) -> Predictions:
            return detector.predict(detector.front(pictures), conf)

        return self._detections(self._predictions(run, self.pictures_of(batch)), [image.letterbox for image in batch])

    def matches(self, side_info: SideInfo, image: Letterboxed, qp: int) -> bool:
        """Whether a bitstream with this side info was made from that image, with this codec's settings, at that QP.

        A different image of the same size is accepted by mistake with a probability of 1 in 65,536.
        """
        return letterbox_of(side_info) == image.letterbox and side_info == self._side_info(image, qp)

    def __repr__(self) -> str:
        layout = "none" if self.packing.layout is None else "yes"
        restoration = "none" if self.restoration is None else "yes"
        return (
            f"FeatureCodec({self.model!r}, layout={layout}, restoration={restoration}, "
            f"video_codec={self.video_codec.name!r}, image_size={self.image_size}, "
            f"fingerprint={self.fingerprint.hex()})"
        )

    def _batches(self, images: Iterable[ImageLike]) -> Iterator[list[Letterboxed]]:
        """Small batches of neighbours with one letterboxed shape, so that memory does not grow with the list."""
        for _, neighbours in groupby(map(self.letterbox, images), key=lambda image: image.pixels.shape):
            while batch := list(islice(neighbours, _BATCH)):
                yield batch

    def _encode_batch(self, batch: Sequence[Letterboxed], qp: int) -> list[bytes]:
        side_infos, frames = zip(*self.front_end(batch, qp), strict=True)
        streams = self.video_codec.encode(frames, qp, threads=cores())
        return [bitstream.pack(side_info, stream) for side_info, stream in zip(side_infos, streams, strict=True)]

    def _finish(
        self, model: SplitModel, tensors: Features, letterboxes: Iterable[Letterbox], qp: Tensor | None = None
    ) -> list[Detections]:
        def run(qps: Tensor, *levels_and_conf: Any) -> Predictions:
            *levels, conf = levels_and_conf
            return model.predict(features_of_levels(levels), qps, conf)

        levels = levels_of(tensors)
        qps = torch.zeros(len(levels[0]), device=levels[0].device) if qp is None else qp
        predictions = self._predictions(run, qps, *levels)
        return self._detections(predictions, list(letterboxes))

    def _detections(self, predictions: Sequence[Predictions], letterboxes: Sequence[Letterbox]) -> list[Detections]:
        """The detections of images from the predictions of each."""
        detector = self.model.detector
        values = [each.values[0] for each in predictions]
        prototypes = [each.prototypes[0] for each in predictions if each.prototypes is not None]
        return detections_of(values, letterboxes, detector.names, self.boxes, detector.task, prototypes or None)

    def _predictions(self, networks: Callable[..., Predictions], *batches: Tensor) -> list[Predictions]:
        """Those of each image. On a CPU, each image alone as in `one_by_one`, and only boxes that count."""
        places = range(len(batches[0]))
        with torch.inference_mode():
            if batches[0].device.type == "cpu":
                return [networks(*(batch[place : place + 1] for batch in batches), self.boxes.conf) for place in places]
            values, prototypes = networks(*batches, None)
        each = [None] * len(values) if prototypes is None else torch.split(prototypes, 1)
        return [Predictions(one, other) for one, other in zip(torch.split(values, 1), each, strict=True)]

    def _side_info(self, image: Letterboxed, qp: int) -> SideInfo:
        return side_info_of(image, self.model, self.packing, self.video_codec, self.fingerprint, qp)

    def pictures_of(self, batch: Sequence[Letterboxed]) -> Tensor:
        """What the front-end takes: (B, 3, H, W) RGB in [0, 1] on the CPU, in the model's precision.

        Args:
            batch: images of one letterboxed shape.
        """
        pixels = np.stack([image.pixels for image in batch])
        # Every precision holds 0 to 255, so none loses more than it would after the division.
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.model.detector.dtype) / 255

    def _decoder(self) -> VideoCodec:
        return open_video_codec("ffmpeg") if self.video_codec.name == "none" else self.video_codec


def _stream_fingerprint(model: SplitModel, packing: Packing) -> bytes:
    layout = None if packing.layout is None else packing.layout.fingerprint()
    return joined_fingerprint(model.fingerprint, layout)
