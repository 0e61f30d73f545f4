"""The reward for failed reconstructions: its bound, its gradients, and the weight that follows them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from featcodec.errors import InputError
from featcodec.training.losses.privacy import CELL, AdaptiveWeight, PrivacyTerm, blurred
from featcodec.training.losses.reconstruction import reconstruction_loss

SIDE = 64


def pictures(count: int = 2) -> Tensor:
    """Coloured noise of several sizes: edges everywhere."""
    generator = torch.Generator().manual_seed(3)
    layers = [
        torch.nn.functional.interpolate(torch.rand(count, 3, side, side, generator=generator), SIDE, mode="bilinear")
        for side in (4, 16, 64)
    ]
    return torch.stack(layers).mean(0)


def test_without_a_bound_it_is_the_papers_loss() -> None:
    images = pictures()
    reconstruction = images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    for beta in (0, 2.5, 5):
        term, active = PrivacyTerm(edge_weight=beta)(reconstruction, images)
        assert active == 1
        assert float(term.mean()) == pytest.approx(float(reconstruction_loss(reconstruction, images, beta)), rel=1e-5)


def test_squares_are_those_of_the_attackers_loss() -> None:
    images = pictures()
    reconstruction = images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    term, _ = PrivacyTerm(edge_weight=0, squared=True)(reconstruction, images)
    assert float(term.mean()) == pytest.approx(float((reconstruction - images).square().mean()), rel=1e-5)
    term, _ = PrivacyTerm(edge_weight=2, squared=True)(reconstruction, images)
    expected = float(reconstruction_loss(reconstruction, images, 2, squared=True))
    assert float(term.mean()) == pytest.approx(expected, rel=1e-5)
    bounded, _ = PrivacyTerm(blur=8, edge_weight=2, squared=True)(reconstruction, images)
    bound, _ = PrivacyTerm(blur=8, edge_weight=2, squared=True)(blurred(images, 8), images)
    assert (bounded <= bound + 1e-6).all()


def test_nothing_is_gained_beyond_the_blurred_picture() -> None:
    images = pictures()
    term = PrivacyTerm(blur=8)
    bound, _ = term(blurred(images, 8), images)
    for worse in (torch.zeros_like(images), 1 - images, images.flip(3)):
        reconstruction = worse.clone().requires_grad_(True)
        reward, active = term(reconstruction, images)
        assert (reward <= bound + 1e-6).all()
        assert active < 0.2
    # Every cell is at its bound, so there is no gradient.
    assert reward.shape == (2,)
    far = (images + 10).requires_grad_(True)
    reward, active = PrivacyTerm(blur=8, edge_weight=0)(far, images)
    assert active == 0
    reward.sum().backward()
    assert far.grad is not None
    assert (far.grad == 0).all()
    exact, active = term(images, images)
    assert (exact == 0).all()
    assert active == 1


def test_the_bound_is_that_of_each_cell() -> None:
    """One cell is rebuilt exactly, all others are as bad as can be: the gradient is in that cell alone."""
    images = pictures(1)
    reconstruction = (images + 10).clone()
    rows, columns = slice(2 * CELL, 3 * CELL), slice(4 * CELL, 5 * CELL)
    reconstruction[..., rows, columns] = images[..., rows, columns] + 1e-3
    reconstruction.requires_grad_(True)
    reward, active = PrivacyTerm(blur=8, edge_weight=0)(reconstruction, images)
    reward.sum().backward()
    assert float(active) == pytest.approx(1 / (SIDE / CELL) ** 2)
    assert reconstruction.grad is not None
    touched = reconstruction.grad.abs().sum((0, 1)) > 0
    assert touched[rows, columns].all()
    assert int(touched.sum()) == CELL**2


def test_its_gradient_is_right() -> None:
    images = pictures(1)[..., :16, :16].double()
    reconstruction = (images + 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(2))).float()
    term = PrivacyTerm(blur=8)
    reconstruction.requires_grad_(True)
    reward, _ = term(reconstruction, images.float())
    (gradient,) = torch.autograd.grad(reward.sum(), reconstruction)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(4))
    step = 1e-4  # L1 has kinks
    with torch.no_grad():
        rise = (
            term(reconstruction + step * direction, images.float())[0]
            - term(reconstruction - step * direction, images.float())[0]
        )
    assert float((gradient * direction).sum()) == pytest.approx(float(rise) / (2 * step), rel=0.05)


def test_the_blur_is_a_gaussian() -> None:
    """A point becomes a bell of that deviation, and a constant picture stays."""
    assert torch.allclose(blurred(torch.full((1, 3, 32, 32), 0.3), 8), torch.full((1, 3, 32, 32), 0.3), atol=1e-6)
    point = torch.zeros(1, 3, 128, 128)
    point[..., 62:66, 62:66] = 1
    bell = blurred(point, 8)[0, 0]
    assert float(bell.sum()) == pytest.approx(16, rel=1e-3)
    places = torch.arange(128) - 63.5
    deviation = math.sqrt(float((bell.sum(0) / bell.sum() * places.square()).sum()))
    assert deviation == pytest.approx(8, rel=0.05)


def test_the_weight_makes_the_gradients_share() -> None:
    """The weighted privacy gradient has the asked share of the objective's norm, whatever the losses' units are."""
    for scale in (1e-4, 1.0, 1e4):
        adaptive = AdaptiveWeight(0.5)
        generator = torch.Generator().manual_seed(5)
        for _ in range(50):
            objective = torch.randn(2, 4, 8, 8, generator=generator)
            privacy = scale * torch.randn(2, 4, 8, 8, generator=generator)
            adaptive.measure(objective, privacy, torch.ones(()))
        share = float(adaptive.weight * privacy.norm() / objective.norm())
        assert share == pytest.approx(0.5, rel=0.15)


def test_the_weight_does_not_rise_as_cells_reach_their_bound() -> None:
    """With a quarter of the cells below the bound, the push per cell is the same, and so half as large in all."""
    objective = torch.ones(1, 1, 8, 8)
    privacy = torch.ones(1, 1, 8, 8)
    few = privacy.clone()
    few[..., 4:, :] = 0
    few[..., :, 4:] = 0
    weights = []
    for gradient, active in ((privacy, 1.0), (few, 0.25)):
        adaptive = AdaptiveWeight(1)
        adaptive.measure(objective, gradient, torch.tensor(active))
        weights.append(float(adaptive.weight))
    assert weights[0] == pytest.approx(weights[1])
    adaptive.measure(objective, torch.zeros_like(privacy), torch.zeros(()))
    assert math.isfinite(float(adaptive.weight))


def test_the_weight_belongs_to_the_state() -> None:
    first, second = AdaptiveWeight(0.5), AdaptiveWeight(0.5)
    first.measure(torch.ones(3), torch.full((3,), 0.1), torch.ones(()))
    second.load_state_dict(first.state_dict())
    assert second.weight == first.weight
    assert float(first.weight) == pytest.approx(5)


@pytest.mark.parametrize("values", [{"blur": 1}, {"blur": math.nan}, {"blur": 1000}, {"edge_weight": -1}])
def test_numbers_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError):
        PrivacyTerm(**values)


def test_other_refusals() -> None:
    with pytest.raises(InputError, match="one of them above 0"):
        PrivacyTerm(colour_weight=0, edge_weight=0)
    for share in (-0.1, math.nan, math.inf):
        with pytest.raises(InputError, match="gradient share"):
            AdaptiveWeight(share)
