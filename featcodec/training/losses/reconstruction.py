"""L_rec, the loss of the reconstruction network (paper, Eq. 2), and structural similarity for the strong one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EDGE_WEIGHT = 5.0
"""The paper's beta."""

_SSIM_WINDOW, _SSIM_STRIDE = 11, 4
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2
_SOBEL_X = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


def reconstruction_loss(
    reconstruction: Tensor, images: Tensor, edge_weight: float = EDGE_WEIGHT, *, squared: bool = False
) -> Tensor:
    """L1(X, X^) + beta * L1(Sx * X, Sx * X^) + beta * L1(Sy * X, Sy * X^), means over all elements.

    Args:
        reconstruction, images: (B, 3, H, W) RGB in [0, 1].
        edge_weight: beta; 0 means L1 alone, as for the final attack.
        squared: take squares in place of absolute values, which is not in the paper. A network that learns from
            absolute values draws no edge that it is not sure of; with squares, it draws its expectation of every edge.

    Returns:
        a scalar, float32.
    """
    with torch.autocast(images.device.type, enabled=False):
        difference = reconstruction.float() - images.float()
        loss = size_of(difference, squared=squared).mean()
        if edge_weight:
            # Convolution is linear, so the edges of the difference are the difference of the edges.
            edges = size_of(edges_of(difference), squared=squared)
            loss = loss + edge_weight * edges.mean(dim=(0, 2, 3)).view(3, 2).mean(0).sum()
        return loss


def size_of(difference: Tensor, *, squared: bool) -> Tensor:
    """Absolute values, or squares."""
    return difference.square() if squared else difference.abs()


def structural_similarity(reconstruction: Tensor, images: Tensor) -> Tensor:
    """SSIM (Wang et al. 2004, Eq. 13) with windows of 11x11 equal weights, the mean over pixels and colours.

    This is a loss term, with a box instead of the Gaussian window because it is faster. To measure, use a library.

    Args:
        reconstruction, images: (B, 3, H, W) RGB in [0, 1], H and W at least 11.

    Returns:
        (B,) float32, 1 for equal pictures.
    """
    with torch.autocast(images.device.type, enabled=False):
        first, second = reconstruction.float(), images.float()
        moments = torch.cat((first, second, first * first, second * second, first * second), 1)
        means = F.avg_pool2d(moments, _SSIM_WINDOW, stride=_SSIM_STRIDE)
        mean_1, mean_2, square_1, square_2, product = means.chunk(5, 1)
        both = mean_1 * mean_2
        variances = square_1 + square_2 - mean_1.square() - mean_2.square()
        contrast = (2 * (product - both) + _SSIM_C2) / (variances + _SSIM_C2)
        similarity = contrast * (2 * both + _SSIM_C1) / (mean_1.square() + mean_2.square() + _SSIM_C1)
        return similarity.mean((1, 2, 3))


def edges_of(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 6, H - 2, W - 2): horizontal and vertical gradient of each colour."""
    horizontal = torch.tensor(_SOBEL_X, device=images.device, dtype=images.dtype)
    kernels = torch.stack((horizontal, horizontal.T)).unsqueeze(1).repeat(3, 1, 1, 1)
    return F.conv2d(images, kernels, groups=3)
