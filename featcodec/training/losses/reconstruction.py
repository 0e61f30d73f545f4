"""L_rec, the loss of the reconstruction network (paper, Eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EDGE_WEIGHT = 5.0
"""The paper's beta."""

_SOBEL_X = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


def reconstruction_loss(reconstruction: Tensor, images: Tensor, edge_weight: float = EDGE_WEIGHT) -> Tensor:
    """L1(X, X^) + beta * L1(Sx * X, Sx * X^) + beta * L1(Sy * X, Sy * X^), means over all elements.

    Args:
        reconstruction, images: (B, 3, H, W) RGB in [0, 1].
        edge_weight: beta; 0 means L1 alone, as for the final attack.

    Returns:
        a scalar, float32.
    """
    with torch.autocast(images.device.type, enabled=False):
        difference = reconstruction.float() - images.float()
        loss = difference.abs().mean()
        if edge_weight:
            # Convolution is linear, so the edges of the difference are the difference of the edges.
            loss = loss + edge_weight * _sobel(difference).abs().mean(dim=(0, 2, 3)).view(3, 2).mean(0).sum()
        return loss


def _sobel(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 6, H - 2, W - 2): horizontal and vertical gradient of each colour."""
    horizontal = torch.tensor(_SOBEL_X, device=images.device, dtype=images.dtype)
    kernels = torch.stack((horizontal, horizontal.T)).unsqueeze(1).repeat(3, 1, 1, 1)
    return F.conv2d(images, kernels, groups=3)
