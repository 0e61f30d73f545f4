"""What RecNet mirrors: the layers of a front-end, from the coarsest level back to the picture.

The way back passes no layer that enlarges: where tensors are concatenated, it goes on to the one that was made first,
which is the backbone's. Downsampling layers become transposed convolutions, all other layers inverse-C3 blocks with as
many repeats as the layer has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from featcodec.detectors import SplitDetector
from featcodec.detectors.layers import PICTURE
from featcodec.detectors.measure import LayerShape
from featcodec.errors import FeatcodecError
from featcodec.networks.checkpoints import MAX_CHANNELS, check_sizes

C3, DECONV = "c3", "deconv"
Stage = tuple[str, int, int]
"""("c3", output channels, repeats) or ("deconv", output channels, kernel); the latter doubles height and width."""

MAX_STAGES = 64
MAX_REPEATS = 64
_MAX_REPEATS_IN_ALL = 256
_KERNELS = (2, 8)
_DEFAULT_KERNEL = 3


def mirrored_stages(detector: SplitDetector) -> tuple[Stage, ...]:
    """The stages that mirror a front-end, from the coarsest level to the picture.

    Raises:
        FeatcodecError: a layer on the way back enlarges its input, or takes no single tensor.
    """
    place, shapes = detector.crossing[-1], detector.shapes
    stages: list[Stage] = []
    while place != PICTURE:
        source = _source(detector.sources[place], place, shapes)
        stages += _inverse(detector.layers[place], place, shapes[place], shapes[source])
        place = source
    return tuple(stages)


def paper_stages(feature_channels: int, repeats: tuple[int, int]) -> tuple[Stage, ...]:
    """The stages of the paper's RecNet (Fig. 2): those of a YOLOv5 that is split behind model.4.

    Args:
        feature_channels: channels of the feature tensor.
        repeats: of the two inverse-C3 blocks, deepest first.
    """
    width, (deep, shallow) = feature_channels, repeats
    return (
        (C3, width, deep),
        (DECONV, width // 2, 3),
        (C3, width // 2, shallow),
        (DECONV, width // 4, 3),
        (DECONV, 3, 6),
    )


def paper_repeats(feature_channels: int, stages: Sequence[Stage]) -> tuple[int, int] | None:
    """The repeats of the paper's RecNet if these are its stages, else None."""
    repeats = [size for kind, _, size in stages if kind == C3]
    if len(repeats) != 2:
        return None
    both = repeats[0], repeats[1]
    return both if tuple(stages) == paper_stages(feature_channels, both) else None


def check_stages(stages: Sequence[Stage], coarsest: int) -> None:
    """Raise ValueError unless the stages lead from a level of that scale to a picture, within bounds."""
    check_sizes("number of stages", [len(stages)], 1, MAX_STAGES)
    check_sizes("channels of stages", [channels for _, channels, _ in stages], 1, MAX_CHANNELS)
    for kind, _, size in stages:
        if kind not in (C3, DECONV):
            raise ValueError(f"{kind!r:.40}: not a kind of stage")
        check_sizes(f"size of a {kind} stage", [size], *((0, MAX_REPEATS) if kind == C3 else _KERNELS))
    check_sizes("repeats in all", [sum(size for kind, _, size in stages if kind == C3)], 0, _MAX_REPEATS_IN_ALL)
    check_sizes("number of deconv stages", [doublings_of(stages)], coarsest, coarsest + 6)
    if stages[-1][1] != 3:
        raise ValueError(f"the last stage makes {stages[-1][1]} colours, not 3")


def doublings_of(stages: Sequence[Stage]) -> int:
    """How often the stages double height and width."""
    return sum(kind == DECONV for kind, _, _ in stages)


def _source(sources: Sequence[int], place: int, single: Collection[int]) -> int:
    possible = [source for source in sources if source in single]
    if not possible:
        raise _refusal(place, "has no single tensor as input")
    return min(possible)


def _inverse(layer: nn.Module, place: int, made: LayerShape, given: LayerShape) -> list[Stage]:
    """The stages that undo one layer, which made one shape of the other."""
    if made.stride < given.stride:
        raise _refusal(place, "enlarges")
    if made.stride > given.stride:
        doublings = (made.stride // given.stride).bit_length() - 1
        kernel = min(max(_kernel_of(layer), _KERNELS[0]), _KERNELS[1])
        return [(DECONV, made.channels, kernel)] * (doublings - 1) + [(DECONV, given.channels, kernel)]
    if next(layer.parameters(), None) is None:
        return []  # a concatenation, or nothing at all
    return [(C3, given.channels, min(_repeats_of(layer), MAX_REPEATS))]


def _kernel_of(layer: nn.Module) -> int:
    """The kernel of a downsampling layer that is one convolution (ultralytics' Conv); else the usual one."""
    convolution = getattr(layer, "conv", None)
    return convolution.kernel_size[0] if isinstance(convolution, nn.Conv2d) else _DEFAULT_KERNEL


def _repeats_of(layer: nn.Module) -> int:
    """How many blocks ultralytics' block repeats in a row (its `m`, or that of a part of it); 1 if it repeats none."""
    rows = (getattr(part, "m", None) for part in layer.modules())
    return next((len(row) for row in rows if isinstance(row, (nn.Sequential, nn.ModuleList)) and len(row)), 1)


def _refusal(place: int, problem: str) -> FeatcodecError:
    return FeatcodecError(f"RecNet cannot mirror layer {place}, which {problem}; train a strong RecNet (`strong`)")
