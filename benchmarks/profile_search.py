"""The measurements of vvc_profiles.py and hevc_profiles.py: rate, core-seconds, and how far the answers are off.

There are two measures of accuracy. They need no labels. *Error* compares the back-end's feature maps and predictions
with those from the same tensor without VVC. So it leaves out what a bottleneck loses by itself: that is the same for
all settings and would only add noise. *Agreement* is AP50 where the truth is what the uncoded detector finds, without
any bottleneck.
"""

from __future__ import annotations

import json
import resource
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcodec import FeatureCodec, bitstream
from featcodec.bitstream import SideInfo
from featcodec.detections import BoxFilter, Detections
from featcodec.detections.boxes import default_category_ids
from featcodec.detectors import detections_of
from featcodec.evaluation.bd import compare
from featcodec.evaluation.bootstrap import resampled_ap50
from featcodec.evaluation.coco import match_boxes
from featcodec.evaluation.curves import CurvePoint, RateCurve
from featcodec.images.annotations import Annotations
from featcodec.images.letterbox import letterbox_of
from featcodec.images.reading import read_image
from featcodec.training.losses.distillation import BackEndOutput, neck_matching, prediction_matching, run_back_end
from featcodec.video import EncoderSettings, Frame, open_video_codec
from featcodec.video.settings import X265

BOXES = BoxFilter(conf=0.01, max_det=100)
SURE = 0.25
"""A box that the uncoded detector finds with at least this score counts as truth."""
RESAMPLES = 100

Weights = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Picture:
    """The parts of one picture that do not depend on the encoder.

    Attributes:
        side_info, frame: its side info and frame.
        teacher: the back-end's output without VVC.
        found: what the uncoded detector finds.
    """

    side_info: SideInfo
    frame: Frame
    teacher: BackEndOutput
    found: Detections

    @property
    def pixels(self) -> int:
        """Pixels of the original image; rates are per pixel of this image."""
        return self.side_info.original_width * self.side_info.original_height


@dataclass(frozen=True)
class Measured:
    """The measurements on a set of pictures at one QP.

    Attributes:
        seconds: core-seconds of the encoder, per batch.
        bytes: size of the whole file, per picture.
        predictions, neck: error of the back-end's predictions and feature maps, per picture; 0 means no error.
        boxes: per picture, [left, top, width, height, score, class] of what the detector found. The lists are empty
            if only the error was asked for, as is usual.
    """

    seconds: list[float]
    bytes: list[int]
    predictions: list[float]
    neck: list[float]
    boxes: list[list[list[float]]]


@dataclass(frozen=True)
class Gain:
    """How much better settings are than other settings.

    Attributes:
        rate: BD-rate in percent; negative is better.
        error: standard error of the rate, by a bootstrap over pictures.
        time: encoder time as a multiple of that of the other settings.
        seconds: core-seconds per picture.
    """

    rate: float
    error: float
    time: float
    seconds: float

    @property
    def sure(self) -> bool:
        """Whether the settings are better by more than the standard error."""
        return self.rate < -self.error


class Frames:
    """The frames of some images, and what was measured on them so far.

    Args:
        codec: detector and bottleneck, if any.
        images: image files.
        qps: QPs of the curves.
        cache: folder that keeps every measurement, so that a search can be resumed.
        detect: also keep what the detector finds, for `by_agreement`.
    """

    def __init__(
        self, codec: FeatureCodec, images: Sequence[Path], qps: Sequence[int], cache: Path, *, detect: bool = False
    ) -> None:
        self.codec = codec
        self.detect = detect
        self.kind = "latent" if codec.model.bottleneck is None else "bottleneck"
        self.qps = tuple(qps)
        self.pictures = sorted((self._look(path) for path in images), key=lambda picture: picture.frame.shape)
        content = b"".join(picture.frame.tobytes() for picture in self.pictures)
        measure, digest = "agreement" if detect else "error", zlib.crc32(content, len(images))
        self._path = cache / f"{self.kind}-{measure}-{len(images)}-{digest:08x}.jsonl"
        self._known = dict(self._read())

    def _look(self, path: Path) -> Picture:
        image = self.codec.letterbox(read_image(path))
        ((side_info, frame),) = self.codec.front_end([image], 0)
        detector = self.codec.model.detector
        with torch.inference_mode():
            teacher = run_back_end(detector, self._features(self.codec.tensors_of([image])))
        return Picture(side_info, frame, teacher, self.codec.detect_letterboxed([image])[0])

    def _features(self, tensors: Tensor) -> Tensor:
        return tensors if self.codec.model.bottleneck is None else self.codec.model.bottleneck.decode(tensors)

    def _boxes(self, output: BackEndOutput, side_info: SideInfo) -> list[list[float]]:
        detector = self.codec.model.detector
        with torch.inference_mode():
            predictions = detector.head.decode(output.raw)
        (found,) = detections_of(predictions, [letterbox_of(side_info)], detector.names, BOXES)
        return [[*row["bbox"], row["score"], row["category_id"]] for row in found.to_coco(0)]

    def _read(self) -> Iterator[tuple[tuple[str, int], Measured]]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # the line is cut off, because the search was stopped
                continue
            yield (entry.pop("settings"), entry.pop("qp")), Measured(**entry)

    def measure(self, settings: EncoderSettings, qp: int) -> Measured:
        """Code, decode and judge all pictures, or return the earlier measurement."""
        key = text_of(settings), qp
        if key not in self._known:
            measured = self._measure(settings, qp)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps({"settings": key[0], "qp": qp, **vars(measured)}) + "\n")
            self._known[key] = measured
        return self._known[key]

    def _measure(self, settings: EncoderSettings, qp: int) -> Measured:
        measured = Measured([], [], [], [], [])
        for batch in self.batches():
            streams, seconds = encode_timed(settings, [picture.frame for picture in batch], qp)
            measured.seconds.append(seconds)
            for picture, stream in zip(batch, streams, strict=True):
                output = self._decode(stream, picture)
                measured.bytes.append(len(bitstream.pack(picture.side_info, stream)))
                measured.predictions.append(float(prediction_matching(output, picture.teacher)))
                measured.neck.append(float(neck_matching(output, picture.teacher)))
                measured.boxes.append(self._boxes(output, picture.side_info) if self.detect else [])
        return measured

    def _decode(self, stream: bytes, picture: Picture) -> BackEndOutput:
        frame = self.codec.video_codec.decode(stream, picture.side_info.frame_shape)
        with torch.inference_mode():
            features = self._features(self.codec.decoded_tensors([(picture.side_info, frame)]))
            return run_back_end(self.codec.model.detector, features)

    def batches(self) -> Iterator[list[Picture]]:
        """Pictures whose frames have one shape, for one encoder process."""
        for shape in sorted({picture.frame.shape for picture in self.pictures}):
            yield [picture for picture in self.pictures if picture.frame.shape == shape]

    def by_error(
        self, anchor: EncoderSettings, test: EncoderSettings, parts: Sequence[str] = ("predictions", "neck")
    ) -> Gain:
        """The gain at equal error of the back-end's `predictions`, `neck`, or the geometric mean of both."""
        return self._gain(anchor, test, lambda settings, qp: self._closeness(self.measure(settings, qp), parts))

    def by_agreement(self, anchor: EncoderSettings, test: EncoderSettings) -> Gain:
        """The gain at equal AP50, where the truth is what the uncoded detector finds."""
        return self._gain(anchor, test, lambda settings, qp: self._agreement(self.measure(settings, qp)))

    def _closeness(self, measured: Measured, parts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Minus the mean logarithm of the error: over all pictures, then over each resample."""
        logarithms = np.log([getattr(measured, part) for part in parts]).mean(0)
        return -(self.weights @ logarithms) / len(self.pictures)

    def _agreement(self, measured: Measured) -> npt.NDArray[np.float64]:
        results = [
            {"image_id": number, "bbox": row[:4], "score": row[4], "category_id": int(row[5])}
            for number, rows in enumerate(measured.boxes)
            for row in rows
        ]
        evaluation = match_boxes(self._truth, results)
        return np.zeros(len(self.weights)) if evaluation is None else resampled_ap50(evaluation, self.weights)

    def _gain(
        self,
        anchor: EncoderSettings,
        test: EncoderSettings,
        accuracies: Callable[[EncoderSettings, int], npt.NDArray[np.float64]],
    ) -> Gain:
        pixels = self.weights @ [picture.pixels for picture in self.pictures]
        curves = [
            [(8 * (self.weights @ self.measure(each, qp).bytes) / pixels, accuracies(each, qp)) for qp in self.qps]
            for each in (anchor, test)
        ]
        values = [
            bd_rate(*([(rate[number], accuracy[number]) for rate, accuracy in curve] for curve in curves))
            for number in range(len(self.weights))
        ]
        seconds = [sum(sum(self.measure(settings, qp).seconds) for qp in self.qps) for settings in (anchor, test)]
        each = seconds[1] / len(self.qps) / len(self.pictures)
        return Gain(values[0], float(np.std(values[1:])), seconds[1] / seconds[0], each)

    @cached_property
    def weights(self) -> Weights:
        """(1 + RESAMPLES, pictures): how often each picture counts. Row 0 counts each once; the others are drawn."""
        count = len(self.pictures)
        drawn = np.random.default_rng(0).multinomial(count, [1 / count] * count, RESAMPLES)
        return np.concatenate([np.ones((1, count), np.int64), drawn])

    @cached_property
    def _truth(self) -> Annotations:
        rows: list[dict[str, Any]] = []
        for number, picture in enumerate(self.pictures):
            rows += [row for row in picture.found.to_coco(number) if row["score"] >= SURE]
        categories = default_category_ids(self.codec.model.detector.names).values()  # the classes of boxes after coding
        content = {
            "images": [{"id": number} for number in range(len(self.pictures))],
            "annotations": rows,
            "categories": [{"id": category, "name": str(category)} for category in categories],
        }
        return Annotations(Path("uncoded"), content)


def encode_timed(settings: EncoderSettings, frames: Sequence[Frame], qp: int) -> tuple[list[bytes], float]:
    """The streams, and the core-seconds of encoding: VVC codes in child processes, HEVC in this one."""
    codec = open_video_codec("hevc" if settings.encoder is X265 else "ffmpeg", settings)
    before = core_seconds()
    streams = codec.encode(frames, qp)
    return streams, core_seconds() - before


def core_seconds() -> float:
    """CPU time of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def bd_rate(anchor: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]) -> float:
    """BD-rate in percent between two lists of (rate, accuracy) points."""
    curves = [
        RateCurve(name, "accuracy", tuple(CurvePoint(rate, accuracy, None, {}) for rate, accuracy in points))
        for name, points in (("anchor", anchor), ("test", test))
    ]
    return compare(*curves).bd_rate


def text_of(settings: EncoderSettings) -> str:
    """Settings as one line: preset and parameters."""
    encoder = "x265 " if settings.encoder is X265 else ""
    return f"{encoder}{settings.preset} {settings.chosen_text.replace(':', ' ')}".rstrip()
