"""L_rec against hand-computed values and an independent implementation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from featcodec.training.losses.reconstruction import EDGE_WEIGHT, reconstruction_loss

SOBEL_X = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float64)


def sobel(image: npt.NDArray[np.float64], kernel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One channel, where the kernel fits, one sample after the other."""
    height, width = image.shape
    return np.array(
        [
            [(image[y : y + 3, x : x + 3] * kernel).sum() for x in range(width - 2)]  # cross-correlation: signs cancel
            for y in range(height - 2)
        ]
    )


def brute_force(reconstruction: torch.Tensor, images: torch.Tensor, beta: float) -> float:
    """Eq. 2: each L1 is the sum of absolute differences over the number of all elements."""
    pairs = [
        (found, original)
        for found_image, image in zip(reconstruction.double().numpy(), images.double().numpy(), strict=True)
        for found, original in zip(found_image, image, strict=True)
    ]
    total = np.mean([np.abs(found - original) for found, original in pairs])
    for kernel in (SOBEL_X, SOBEL_X.T):
        total += beta * np.mean([np.abs(sobel(found, kernel) - sobel(original, kernel)) for found, original in pairs])
    return float(total)


@pytest.mark.parametrize("beta", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 9, 12), (3, 3, 3, 5)])
def test_it_is_equation_2(shape: tuple[int, ...], beta: float) -> None:
    generator = torch.Generator().manual_seed(sum(shape))
    images, reconstruction = (torch.rand(shape, generator=generator) for _ in range(2))
    found = reconstruction_loss(reconstruction, images, beta)
    assert found.shape == ()
    assert float(found) == pytest.approx(brute_force(reconstruction, images, beta), rel=1e-5)


def test_the_default_weight_is_the_papers() -> None:
    assert EDGE_WEIGHT == 5
    images, reconstruction = torch.rand(2, 1, 3, 8, 8)
    assert reconstruction_loss(reconstruction, images) == reconstruction_loss(reconstruction, images, 5)


@pytest.mark.parametrize("beta", [0.0, 5.0, 100.0])
def test_a_constant_offset_has_no_edges(beta: float) -> None:
    images = torch.rand(2, 3, 8, 8)
    assert reconstruction_loss(images + 0.25, images, beta) == pytest.approx(0.25, abs=2e-6 * (1 + beta))


def test_a_step_edge_by_hand() -> None:
    """Half of the picture is 0.5 too bright: L1 0.25, and 4 * 0.5 in two of six columns of one gradient."""
    images = torch.zeros(1, 3, 8, 8)
    across, down = images.clone(), images.clone()
    across[..., 4:] = 0.5
    down[..., 4:, :] = 0.5
    for reconstruction in (across, down, -across):
        assert reconstruction_loss(reconstruction, images, 0) == pytest.approx(0.25)
        assert reconstruction_loss(reconstruction, images, 5) == pytest.approx(0.25 + 5 * 2 * 2 / 6)


def test_one_colour_counts_a_third() -> None:
    images = torch.zeros(1, 3, 8, 8)
    reconstruction = images.clone()
    reconstruction[:, 1, :, 4:] = 0.5
    assert reconstruction_loss(reconstruction, images, 5) == pytest.approx((0.25 + 5 * 2 * 2 / 6) / 3)


def test_size_and_batch_do_not_change_its_scale() -> None:
    images, reconstruction = torch.rand(2, 1, 3, 16, 16)
    once = float(reconstruction_loss(reconstruction, images))
    repeated = reconstruction_loss(reconstruction.repeat(3, 1, 1, 1), images.repeat(3, 1, 1, 1))
    assert float(repeated) == pytest.approx(once, rel=1e-5)


def test_equal_pictures_and_beta_0() -> None:
    images, reconstruction = torch.rand(2, 2, 3, 8, 8)
    assert reconstruction_loss(images, images) == 0
    assert float(reconstruction_loss(reconstruction, images, 0)) == pytest.approx(
        float((reconstruction - images).abs().mean())
    )


def test_half_precision_is_computed_in_float32_with_gradient() -> None:
    reconstruction = torch.rand(1, 3, 8, 8).to(torch.bfloat16).requires_grad_()
    loss = reconstruction_loss(reconstruction, torch.rand(1, 3, 8, 8))
    assert loss.dtype == torch.float32
    loss.backward()
    assert reconstruction.grad is not None
    assert reconstruction.grad.abs().sum() > 0
