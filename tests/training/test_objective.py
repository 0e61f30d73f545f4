"""The objective: a weighted sum of what has a weight, and L_obj of the labelled images alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy_training import toy_bottleneck, toy_data

from featcodec.detectors import SplitDetector, load_detector
from featcodec.networks.bottleneck import load_bottleneck
from featcodec.training.data.batches import TrainingBatch, letterboxed_batches
from featcodec.training.losses.objective import PAPER_WEIGHTS, CodingPath, Objective, ObjectiveWeights, mean_of
from featcodec.training.setup import as_pictures
from featcodec.training.simulated_coding import SimulatedCoding

RATE = torch.tensor(0.25)


@pytest.fixture(scope="module", params=["tiny_yolov5", "tiny_yolov5u"])
def detector(request: pytest.FixtureRequest) -> SplitDetector:
    return load_detector(request.getfixturevalue(request.param), device="cpu", half=False)


@pytest.fixture(scope="module")
def batch(toy_set: Path) -> TrainingBatch:
    """Four images, all with boxes."""
    (batch,) = letterboxed_batches(toy_data(toy_set, held_out=1).images, 64, 4)
    return batch


def features_of(detector: SplitDetector, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
    """Features, and what a bad codec leaves of them."""
    with torch.no_grad():
        features = detector.front(as_pictures(batch))
    return features, (0.8 * features + 0.05).requires_grad_()


def part_of(batch: TrainingBatch, rows: list[int]) -> TrainingBatch:
    """Those images of a batch."""
    chosen = torch.isin(batch.image_index, torch.tensor(rows))
    numbers = torch.tensor([rows.index(int(row)) for row in batch.image_index[chosen]], dtype=torch.int64)
    return TrainingBatch(batch.images[rows], batch.boxes[chosen], batch.classes[chosen], numbers, batch.labelled[rows])


@pytest.mark.slow
def test_it_is_the_weighted_sum_of_what_has_a_weight(detector: SplitDetector, batch: TrainingBatch) -> None:
    features, restored = features_of(detector, batch)
    objective = Objective(detector)
    weights = ObjectiveWeights(detection=2, features=0.5, neck=3, predictions=0.25, rate=7)
    every = objective(weights, batch, features, restored, RATE)
    assert set(every) == {"loss", "detection", "features", "neck", "predictions", "rate"}
    total = sum(weight * float(every[name].detach()) for name, weight in dataclasses.asdict(weights).items())
    assert float(every["loss"].detach()) == pytest.approx(total, rel=1e-5)
    for name in ("detection", "features", "neck", "predictions", "rate"):
        alone = ObjectiveWeights(**{"detection": 0.0, name: 2.0})
        found = objective(alone, batch, features, restored, RATE)
        assert set(found) == {"loss", name}
        assert torch.allclose(found[name], every[name])
        assert torch.allclose(found["loss"], 2 * every[name])


def test_the_papers_is_l_obj_alone(detector: SplitDetector, batch: TrainingBatch) -> None:
    features, restored = features_of(detector, batch)
    found = Objective(detector)(PAPER_WEIGHTS, batch, features, restored, RATE)
    assert set(found) == {"loss", "detection"}
    assert torch.equal(found["loss"], found["detection"])
    found["loss"].backward()
    assert restored.grad is not None
    assert restored.grad.abs().sum() > 0


def test_l_obj_takes_the_labelled_images_alone(detector: SplitDetector, batch: TrainingBatch) -> None:
    """A photograph of unknown content is no background: as if it were not there, and without gradient."""
    features, restored = features_of(detector, batch)
    mixed = part_of(batch, [1, 3])  # the boxes of the labelled ones
    mixed = TrainingBatch(
        batch.images,
        mixed.boxes,
        mixed.classes,
        torch.tensor([1, 3])[mixed.image_index],
        torch.tensor([False, True, False, True]),
    )
    objective = Objective(detector)
    found = objective(PAPER_WEIGHTS, mixed, features, restored, RATE)
    rows = [1, 3]
    alone = objective(PAPER_WEIGHTS, part_of(batch, rows), features[rows], restored[rows], RATE)
    assert torch.allclose(found["detection"], alone["detection"], rtol=1e-5)
    found["loss"].backward()
    assert restored.grad is not None
    assert restored.grad[[0, 2]].abs().sum() == 0
    assert restored.grad[rows].abs().sum() > 0


def test_a_batch_without_labels_has_no_l_obj_but_a_gradient_of_0(detector: SplitDetector, batch: TrainingBatch) -> None:
    features, restored = features_of(detector, batch)
    empty = part_of(batch, [])
    unlabelled = dataclasses.replace(empty, images=batch.images, labelled=torch.zeros(4, dtype=torch.bool))
    found = Objective(detector)(PAPER_WEIGHTS, unlabelled, features, restored, RATE)
    assert set(found) == {"loss"}
    found["loss"].backward()
    assert found["loss"] == 0
    assert restored.grad is not None
    assert restored.grad.abs().sum() == 0


def test_equal_features_cost_nothing_but_l_obj(detector: SplitDetector, batch: TrainingBatch) -> None:
    features, _ = features_of(detector, batch)
    weights = ObjectiveWeights(features=1, neck=1, predictions=1)
    found = Objective(detector)(weights, batch, features, features, RATE)
    assert found["loss"] == pytest.approx(float(found["detection"]), abs=1e-4)


def test_only_terms_that_listen_there_need_the_back_end() -> None:
    assert PAPER_WEIGHTS.needs_back_end
    assert ObjectiveWeights(detection=0, neck=1).needs_back_end
    assert ObjectiveWeights(detection=0, predictions=1).needs_back_end
    assert not ObjectiveWeights(detection=0, features=1, rate=1).needs_back_end


def test_the_coding_path_is_ae_simulated_coding_ad(tmp_path: Path, tiny_yolov5: Path) -> None:
    detector = load_detector(tiny_yolov5, device="cpu", half=False)
    bottleneck = load_bottleneck(toy_bottleneck(tmp_path / "bottleneck", detector))
    features = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        coded, restored, rate = CodingPath(bottleneck, None)(features)
        assert torch.equal(coded, bottleneck.encode(features))
        assert torch.equal(restored, bottleneck.decode(coded))
        assert rate == 0
        coarse = SimulatedCoding(-3, 3, 45, 45, uncoded=0)
        same, damaged, rate = CodingPath(bottleneck, coarse)(features)
    assert torch.equal(same, coded)
    assert not torch.allclose(damaged, restored, atol=1e-3)
    assert rate > 0


def test_means_leave_out_what_a_batch_lacks() -> None:
    metrics = [(3, {"loss": torch.tensor(1.0), "detection": torch.tensor(4.0)}), (1, {"loss": torch.tensor(5.0)})]
    assert mean_of(metrics) == {"loss": 2, "detection": 4}
    assert mean_of([]) == {}
