"""What crosses the wire, as attackers must know it: the shape of each tensor, and how many pixels a sample covers."""

from __future__ import annotations

from featcodec.detectors import SplitDetector
from featcodec.errors import InputError
from featcodec.split_model import SplitModel

_SIDE = 64
"""Pixels per side of a picture that every detector takes."""

Shape = tuple[int, int, int]
"""(channels, height, width)."""


def feature_shapes(detector: SplitDetector) -> tuple[Shape, ...]:
    """The shape of each level that crosses behind a detector's split, the finest first, for 64x64 pixels."""
    return detector.feature_shapes(_SIDE, _SIDE)


def tensor_shapes(model: SplitModel) -> tuple[Shape, ...]:
    """The shape of each tensor that crosses the wire, the finest first, for 64x64 pixels: one with a bottleneck."""
    return model.tensor_shapes(_SIDE, _SIDE)


def pixels_per_sample(shapes: tuple[Shape, ...]) -> int:
    """Pixels that a sample of the finest tensor covers, per side."""
    return _SIDE // shapes[0][2]


def check_one_tensor(model: SplitModel, what: str) -> None:
    """Make sure that one tensor crosses the wire.

    Args:
        model: the networks around the wire.
        what: what needs it, in words.

    Raises:
        InputError: several cross.
    """
    count = len(tensor_shapes(model))
    if count > 1:
        raise InputError(
            f"{what} is for one tensor, but {count} cross behind layer {model.split}; give a `bottleneck`, which "
            "fuses them"
        )
