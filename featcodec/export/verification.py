"""Are the ONNX files the networks of the codec? Compared on pictures, sample by sample and prediction by prediction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcodec.bitstream import RAW_QP, SideInfo
from featcodec.codec import FeatureCodec
from featcodec.detections import Detections
from featcodec.detectors import detections_of
from featcodec.edge.encoder import run_edge
from featcodec.errors import WeightsError
from featcodec.export.halves import CLOUD_INPUTS
from featcodec.images.letterbox import Fitting, Letterboxed, letterbox_of
from featcodec.networks.restoration import restore
from featcodec.packing.frames import Frame

MOST_DIFFERING = 1e-4
"""The share of samples that may differ, by one: the networks' sums are rounded in another order."""
NOTHING = "nothing is written; install the versions of constraints.txt, or use another `detector` or `split`"
"""What follows from a difference, for messages."""
_SCORE, _PIXELS, _SHARE = 1e-3, 0.1, 1e-4
"""By how much predictions from equal samples may differ: scores; other rows, and as a share of their value."""
_MOST_APART = 1e-2
"""The share of predictions that may differ by more: some networks amplify the rounding of their sums in places. A wrong
graph changes nearly all predictions."""
_QPS = (38, 20, RAW_QP)
_SIDE = 512
"""Pixels of the pictures beside those of the codec's size. In few samples, the share of those that differ is chance."""


@dataclass(frozen=True)
class Agreement:
    """How far the ONNX files agree with PyTorch.

    Attributes:
        pictures: pictures that were compared.
        samples: samples of their frames.
        differing: samples that differ.
        largest: by how much a sample differs at most.
        mean: by how much samples differ in the mean.
    """

    pictures: int
    samples: int
    differing: int
    largest: int
    mean: float

    @property
    def share(self) -> float:
        """The share of samples that differ."""
        return self.differing / self.samples

    @property
    def is_rounding(self) -> bool:
        """Whether rounding alone can be the reason."""
        return self.largest <= 1 and self.share <= MOST_DIFFERING


def check_pictures(codec: FeatureCodec, pictures: Iterable[npt.NDArray[np.uint8]]) -> list[list[Letterboxed]]:
    """Batches of several shapes and sizes, made of some pictures.

    Args:
        codec: whose letterbox is used, and one for 512 pixels.
        pictures: (height, width, 3) uint8 RGB, at least one. With four, chance alone hardly makes too many samples
            differ: half as many as may differ do.

    Returns:
        letterboxed images, those of a batch of one shape.
    """
    other = Fitting(_SIDE, stride=codec.fitting.stride)
    batches = []
    for picture in pictures:
        height, width = picture.shape[:2]
        wide, high = picture[: max(1, height // 2)], picture[:, : max(1, width // 2)]
        batches.append([codec.fitting.apply(picture), codec.fitting.apply(np.ascontiguousarray(picture[:, ::-1]))])
        batches.append([other.apply(np.ascontiguousarray(wide))])
        batches.append([other.apply(np.ascontiguousarray(each)) for each in (high, high[::-1], high[:, ::-1])])
    return batches


def compare_samples(codec: FeatureCodec, edge: Any, batches: Iterable[Sequence[Letterboxed]]) -> Agreement:
    """Compare the frames of `edge.onnx` with those of the codec.

    Args:
        codec: float32, on the CPU.
        edge: `edge.onnx` in ONNX Runtime.
        batches: images, those of a batch of one shape.

    Raises:
        WeightsError: `edge.onnx` fails, or makes frames of another shape.
    """
    pictures = samples = differing = largest = total = 0
    for batch in batches:
        wanted = np.stack([frame for _, frame in codec.front_end(batch, _QPS[0])])
        shape = (wanted.shape[1], wanted.shape[2])
        made = np.stack(run_edge(edge, np.stack([image.pixels for image in batch]), shape))
        apart = np.abs(wanted.astype(np.int16) - made.astype(np.int16))
        pictures += len(batch)
        samples += apart.size
        differing += int(np.count_nonzero(apart))
        largest = max(largest, int(apart.max()))
        total += int(apart.sum(dtype=np.int64))
    return Agreement(pictures, samples, differing, largest, total / samples)


def check_predictions(codec: FeatureCodec, cloud: Any, batches: Iterable[Sequence[Letterboxed]]) -> None:
    """Compare the predictions of `cloud.onnx` with those of the codec, from equal frames, at several QPs.

    Raises:
        WeightsError: they differ by more than rounding.
    """
    for batch in batches:
        coded = [
            (replace(side_info, qp=_QPS[place % len(_QPS)]), frame)
            for place, (side_info, frame) in enumerate(codec.front_end(batch, _QPS[0]))
        ]
        made = run_cloud(cloud, coded)
        for place, each in enumerate(coded):
            wanted = _predictions(codec, each)
            for own, other in zip(made, wanted, strict=True):
                _check_close(own[place : place + 1], other, len(codec.model.detector.names))


def run_cloud(cloud: Any, coded: Sequence[tuple[SideInfo, Frame]]) -> list[npt.NDArray[np.float32]]:
    """The outputs of `cloud.onnx` for decoded frames of one shape."""
    frames = np.stack([frame for _, frame in coded])
    qps = np.array([side_info.qp for side_info, _ in coded], np.int64)
    outputs: list[npt.NDArray[np.float32]] = cloud.run(None, dict(zip(CLOUD_INPUTS, (frames, qps), strict=True)))
    return outputs


def detections_by_onnx(codec: FeatureCodec, cloud: Any, side_info: SideInfo, frame: Frame) -> Detections:
    """What `cloud.onnx` finds in a decoded frame, with the codec's choice of boxes."""
    values, *prototypes = map(torch.from_numpy, run_cloud(cloud, [(side_info, frame)]))
    detector = codec.model.detector
    (found,) = detections_of(
        values,
        [letterbox_of(side_info)],
        detector.names,
        codec.boxes,
        detector.task,
        prototypes[0] if prototypes else None,
    )
    return found


def _predictions(codec: FeatureCodec, coded: tuple[SideInfo, Frame]) -> list[npt.NDArray[np.float32]]:
    """All predictions of the codec; `FeatureCodec.back_end` leaves out boxes that do not count."""
    side_info, _ = coded
    with torch.inference_mode():
        tensors = codec.decoded_tensors([coded])
        if isinstance(tensors, Tensor):
            tensors = restore(codec.restoration, tensors, [side_info])
        predictions = codec.model.predict(tensors, torch.tensor([0.0 if side_info.is_raw else float(side_info.qp)]))
    found = [predictions.values] + ([] if predictions.prototypes is None else [predictions.prototypes])
    return [each.numpy() for each in found]


def _check_close(made: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32], classes: int) -> None:
    if made.shape != wanted.shape:
        raise WeightsError(f"the cloud's ONNX file answers with {made.shape}, PyTorch with {wanted.shape}; {NOTHING}")
    apart = np.abs(made - wanted)
    allowed = _PIXELS + _SHARE * np.abs(wanted)
    if made.ndim == 3:  # not the prototypes of masks
        allowed[:, 4 : 4 + classes] = _SCORE
    if not np.mean(apart <= allowed) >= 1 - _MOST_APART:
        raise WeightsError(
            f"the cloud's ONNX file answers with other numbers than PyTorch (they differ by up to {apart.max():.3g}); "
            f"{NOTHING}"
        )
