"""FeatureCodec: the main path, image -> bitstream -> detections. Read this module first.

    image --letterbox--> SplitModel.encode --> tensor --Packing--> frame --video codec, side info--> bytes
    bytes --side info, video codec--> frame --Packing--> tensor --restoration--> SplitModel.decode --NMS--> Detections

`encode` and `decode` are the whole path for a few images. `featcodec.pipeline` runs the same steps for many images.
`featcodec.codec_parts` loads the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from featcodec import bitstream
from featcodec.bitstream import SideInfo
from featcodec.codec_parts import DEFAULT_IMAGE_SIZE, CodecParts
from featcodec.detections import Detections
from featcodec.detectors import detections_of
from featcodec.detectors.split import Predictions
from featcodec.images.letterbox import Letterbox, Letterboxed, letterbox_of
from featcodec.images.reading import ImageLike, as_rgb
from featcodec.networks.features import Features, features_of_levels, join_batches, levels_of
from featcodec.networks.restoration import restore
from featcodec.packing.frames import Frame
from featcodec.split_model import SplitModel
from featcodec.system.batching import cores
from featcodec.system.devices import one_by_one
from featcodec.video import VideoCodec, open_video_codec
from featcodec.wire import check_networks, check_tensor, packing_of, side_info_of

__all__ = ["DEFAULT_IMAGE_SIZE", "DEFAULT_QP", "FeatureCodec"]

DEFAULT_QP = 38
_BATCH = 8
"""At most this many images of a list are coded at once."""

ImageT = TypeVar("ImageT", bound=ImageLike)


@dataclass(frozen=True, eq=False, repr=False)
class FeatureCodec(CodecParts):
    """Codes images as feature bitstreams and finishes the detection from them.

    `load` and `for_stream` make one. Its attributes are those of `CodecParts`: `model`, `packing`, `video_codec`,
    `restoration`, `image_size`, `square` and `boxes`.
    """

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
