"""The objective of the bottleneck: a weighted sum of L_obj and the optional terms that are not in the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from featcodec.detectors import SplitDetector
from featcodec.networks.bottleneck import Bottleneck
from featcodec.networks.features import Features, levels_of
from featcodec.training.data.batches import TrainingBatch
from featcodec.training.losses.detection import detection_loss_for
from featcodec.training.losses.distillation import (
    BackEndOutput,
    feature_matching,
    neck_matching,
    prediction_matching,
    run_back_end,
)
from featcodec.training.simulated_coding import PIXELS_PER_SAMPLE, SimulatedCoding, simulate_coding


@dataclass(frozen=True)
class ObjectiveWeights:
    """Weights of the terms; a term of weight 0 is not computed.

    Attributes:
        detection: L_obj on labelled images, mean per image (paper, Eq. 3).
        features, neck, predictions: distillation (featcodec.training.losses.distillation).
        rate: the rate proxy in bits per pixel (featcodec.training.simulated_coding).
    """

    detection: float = 1.0
    features: float = 0.0
    neck: float = 0.0
    predictions: float = 0.0
    rate: float = 0.0

    @property
    def needs_back_end(self) -> bool:
        """Whether any term needs the outputs of the back-end."""
        return bool(self.detection or self.neck or self.predictions)


PAPER_WEIGHTS = ObjectiveWeights()
"""L_obj alone."""


class CodingPath(nn.Module):
    """AE, simulated coding and AD as one module, which the optimizer of the bottleneck trains.

    Args:
        bottleneck: shared with the caller.
        simulation: the simulated coding; None leaves the tensor as it is, and the rate is 0.
        pixels_per_sample: pixels that a sample of the tensor covers, per side.
    """

    def __init__(
        self, bottleneck: Bottleneck, simulation: SimulatedCoding | None, pixels_per_sample: int = PIXELS_PER_SAMPLE
    ) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.simulation = simulation
        self.pixels_per_sample = pixels_per_sample

    def forward(self, features: Features) -> tuple[Tensor, Features, Tensor]:
        """Run the path.

        Args:
            features: (B, C, H, W), or a tuple with such a tensor per level.

        Returns:
            the tensor before coding, AD's output in the form of `features`, and the rate proxy in bits per pixel.
        """
        coded = self.bottleneck.encode(features)
        if self.simulation is None:
            return coded, self.bottleneck.decode(coded), coded.new_zeros(())
        decoded, rate, qp = simulate_coding(coded, self.simulation, self.pixels_per_sample)
        assert isinstance(decoded, Tensor)  # noqa: S101  (as `coded`)
        return coded, self.bottleneck.decode(decoded, qp), rate


class Objective:
    """The weighted sum of the loss terms for a detector; call it with what `CodingPath` returns."""

    def __init__(self, detector: SplitDetector) -> None:
        self.detector = detector
        self._detection_loss = detection_loss_for(detector)

    def __call__(
        self, weights: ObjectiveWeights, batch: TrainingBatch, features: Features, restored: Features, rate: Tensor
    ) -> dict[str, Tensor]:
        """Each term with a weight, unweighted, and the weighted sum of these terms as "loss".

        Args:
            weights: weights of the terms.
            batch: the images, and the boxes of the labelled images.
            features: (B, C, H, W), the front-end's feature tensors, or a tuple with such a tensor per level.
            restored: the same after coding and bottleneck, with gradient.
            rate: the rate proxy in bits per pixel.
        """
        terms: dict[str, Tensor] = {}
        if weights.features:
            terms["features"] = feature_matching(restored, features)
        if weights.needs_back_end:
            student = run_back_end(self.detector, restored)
            if weights.detection and bool(batch.labelled.any()):
                terms["detection"] = self._detection(batch, student)
            if weights.neck or weights.predictions:
                with torch.no_grad():
                    teacher = run_back_end(self.detector, features)
                if weights.neck:
                    terms["neck"] = neck_matching(student, teacher)
                if weights.predictions:
                    terms["predictions"] = prediction_matching(student, teacher)
        if weights.rate:
            terms["rate"] = rate
        # The total has a gradient even if no term applies, as for images without labels with L_obj alone.
        total = torch.stack([0 * level.float().mean() for level in levels_of(restored)]).sum()
        for field in fields(weights):
            if field.name in terms:
                total = total + getattr(weights, field.name) * terms[field.name]
        return {"loss": total, **terms}

    def _detection(self, batch: TrainingBatch, student: BackEndOutput) -> Tensor:
        """L_obj over the labelled images of a batch."""
        rows = batch.labelled.nonzero().flatten()
        row_of = torch.full((len(batch.labelled),), -1, device=rows.device)
        row_of[rows] = torch.arange(len(rows), device=rows.device)
        raw = _rows(student.raw, rows)
        image_index = row_of[batch.image_index]
        height, width = batch.images.shape[-2:]
        return self._detection_loss(raw, batch.boxes, batch.classes, image_index, (height, width)).total


def _rows(raw: object, rows: Tensor) -> object:
    """The given rows (images) of the head's outputs."""
    if isinstance(raw, Tensor):
        return raw[rows]
    if isinstance(raw, Mapping):
        return {name: _rows(value, rows) for name, value in raw.items()}
    assert isinstance(raw, (list, tuple))  # noqa: S101  (the heads return no other type)
    return [_rows(value, rows) for value in raw]


def mean_of(metrics: list[tuple[int, dict[str, Tensor]]]) -> dict[str, float]:
    """Means over images, from (images, means) of batches. A mean skips batches that lack it (L_obj without labels)."""
    means = {}
    for name in dict.fromkeys(name for _, values in metrics for name in values):
        found = [(count, float(values[name])) for count, values in metrics if name in values]
        means[name] = sum(count * value for count, value in found) / sum(count for count, _ in found)
    return means
