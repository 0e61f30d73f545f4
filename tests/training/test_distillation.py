"""Matching the frozen detector: zero for equal outputs, positive otherwise, gradients for the student alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from featcodec.detectors import SplitDetector, load_detector
from featcodec.training.losses.distillation import (
    BackEndOutput,
    feature_matching,
    neck_matching,
    prediction_matching,
    run_back_end,
)


@pytest.fixture(scope="module", params=["tiny_yolov5", "tiny_yolov5u"])
def detector(request: pytest.FixtureRequest) -> SplitDetector:
    return load_detector(request.getfixturevalue(request.param), device="cpu", half=False)


@pytest.fixture(scope="module")
def features(detector: SplitDetector) -> Tensor:
    with torch.no_grad():
        return detector.front(torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3)))


@pytest.fixture(scope="module")
def teacher(detector: SplitDetector, features: Tensor) -> BackEndOutput:
    with torch.no_grad():
        return run_back_end(detector, features)


def tensors(raw: Any) -> Iterator[Tensor]:
    if isinstance(raw, Tensor):
        yield raw
    else:
        for part in raw.values() if isinstance(raw, dict) else raw:
            yield from tensors(part)


def map_tensors(raw: Any, change: Any) -> Any:
    if isinstance(raw, Tensor):
        return change(raw)
    if isinstance(raw, dict):
        return {name: map_tensors(part, change) for name, part in raw.items()}
    return [map_tensors(part, change) for part in raw]


def test_the_back_end_gives_what_the_detector_computes_with(
    detector: SplitDetector, features: Tensor, teacher: BackEndOutput
) -> None:
    with torch.no_grad():
        assert torch.equal(detector.head.decode(teacher.raw), detector.back(features))
    assert [level.shape[-2:] for level in teacher.neck] == [(8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("matching", [neck_matching, prediction_matching])
def test_equal_outputs_are_0_and_the_further_the_more(
    detector: SplitDetector, features: Tensor, teacher: BackEndOutput, matching: Any
) -> None:
    generator = torch.Generator().manual_seed(4)
    noise = torch.randn(features.shape, generator=generator) * features.std()
    with torch.no_grad():
        losses = [
            float(matching(run_back_end(detector, features + share * noise), teacher)) for share in (0, 0.1, 0.3, 1)
        ]
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses[1] > 1e-6
    assert losses == sorted(losses)


def test_feature_matching_is_in_units_of_the_variance(features: Tensor) -> None:
    assert feature_matching(features, features) == 0
    mean = features.mean().expand_as(features)
    assert feature_matching(mean, features) == pytest.approx(1, rel=1e-2)
    assert feature_matching(10 * mean, 10 * features) == pytest.approx(1, rel=1e-2)
    constant = torch.ones(1, 2, 4, 4)
    assert torch.isfinite(feature_matching(constant + 1, constant))


@pytest.mark.parametrize("matching", [neck_matching, prediction_matching])
def test_only_the_student_gets_gradients(detector: SplitDetector, features: Tensor, matching: Any) -> None:
    restored = (features + 0.1).requires_grad_()
    student, teacher = run_back_end(detector, restored), run_back_end(detector, features)
    matching(student, teacher).backward()
    assert restored.grad is not None
    assert torch.isfinite(restored.grad).all()
    assert restored.grad.abs().sum() > 0
    assert not any(tensor.requires_grad for tensor in (*teacher.neck, *tensors(teacher.raw)))
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in detector.parameters())


def test_feature_matching_leaves_the_original_alone(features: Tensor) -> None:
    original = features.clone().requires_grad_()
    feature_matching(features + 0.1, original.detach()).detach()
    restored = (features + 0.1).requires_grad_()
    feature_matching(restored, original.detach()).backward()
    assert restored.grad is not None
    assert original.grad is None


@pytest.mark.slow
def test_following_the_gradient_comes_closer(detector: SplitDetector, features: Tensor, teacher: BackEndOutput) -> None:
    generator = torch.Generator().manual_seed(5)
    for matching in (neck_matching, prediction_matching):
        restored = (features + 0.3 * torch.randn(features.shape, generator=generator)).requires_grad_()
        optimizer = torch.optim.Adam([restored], 0.01)
        losses = []
        for _ in range(8):
            optimizer.zero_grad()
            loss = matching(run_back_end(detector, restored), teacher)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.9 * losses[0]


def test_confident_predictions_weigh_more(teacher: BackEndOutput) -> None:
    """The same deviation of boxes costs more where the detector was sure that there is one."""
    is_anchor_free = isinstance(teacher.raw, dict)

    def with_confidence(level: float) -> BackEndOutput:
        if is_anchor_free:
            raw = {**teacher.raw, "scores": teacher.raw["scores"].clone()}
            raw["scores"][:, :, 0] = level
            return BackEndOutput(teacher.neck, raw)
        raw = [each.clone() for each in teacher.raw]
        raw[0][:, 0, 0, 0, 4] = level
        return BackEndOutput(teacher.neck, raw)

    def with_other_box(output: BackEndOutput) -> BackEndOutput:
        raw = map_tensors(output.raw, torch.clone)
        if is_anchor_free:
            raw["boxes"][:, ::2, 0] += 3
        else:
            raw[0][:, 0, 0, 0, :4] += 3
        return BackEndOutput(output.neck, raw)

    sure, unsure = with_confidence(6), with_confidence(-6)
    assert prediction_matching(with_other_box(unsure), unsure) < prediction_matching(with_other_box(sure), sure)


def test_half_precision_is_computed_in_float32(teacher: BackEndOutput) -> None:
    half = BackEndOutput(
        [level.to(torch.bfloat16) for level in teacher.neck],
        map_tensors(teacher.raw, lambda tensor: tensor.to(torch.bfloat16)),
    )
    for matching in (neck_matching, prediction_matching):
        loss = matching(half, half)
        assert loss.dtype == torch.float32
        assert loss == pytest.approx(0, abs=1e-6)


def test_features_are_compared_level_by_level() -> None:
    """Each level in units of its own variance; their mean."""
    chance = torch.Generator().manual_seed(4)
    features = tuple(scale * torch.randn(2, 4, side, side, generator=chance) for scale, side in ((100, 8), (0.01, 4)))
    constant = tuple(level.mean().expand_as(level) for level in features)
    assert float(feature_matching(features, features)) == 0
    assert float(feature_matching(constant, features)) == pytest.approx(1, abs=0.02)
    assert float(feature_matching((features[0], constant[1]), features)) == pytest.approx(0.5, abs=0.02)
    one = feature_matching(constant[0], features[0])
    assert torch.equal(one, (constant[0] - features[0]).square().mean() / features[0].var())
