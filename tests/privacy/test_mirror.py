"""What RecNet mirrors: the layers of real front-ends, of any split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import featcodec.detectors.ultralytics_quiet  # noqa: F401  (before ultralytics)
from featcodec.detectors import SplitDetector, load_detector
from featcodec.detectors.layers import Layer
from featcodec.errors import FeatcodecError
from featcodec.privacy.mirror import check_stages, mirrored_stages, paper_repeats, paper_stages

Graph = list[tuple[nn.Module, tuple[int, ...]]]


def detector_of(graph: Graph, split: int) -> SplitDetector:
    """A detector of these layers, with a head that is never run."""
    head = (nn.Identity(), (len(graph) - 1,))
    return SplitDetector([Layer(*layer) for layer in (*graph, head)], ["cat"], bytes(8), split)


@pytest.mark.parametrize("name", ["tiny_yolov5", "tiny_yolov5u"])
@pytest.mark.parametrize("fuse", [True, False])
def test_yolov5_behind_model_4_is_the_papers(request: pytest.FixtureRequest, name: str, fuse: bool) -> None:
    """Both have one bottleneck in model.2 and two in model.4, as yolov5n and yolov5s."""
    detector = load_detector(request.getfixturevalue(name), device="cpu", fuse=fuse)
    stages = mirrored_stages(detector)
    channels = detector.feature_shapes(64, 64)[0][0]
    assert stages == paper_stages(channels, (2, 1))
    assert paper_repeats(channels, stages) == (2, 1)
    check_stages(stages, 0)


def test_earlier_splits_lack_the_later_layers(tiny_yolov5: Path) -> None:
    detector = load_detector(tiny_yolov5, device="cpu")
    whole = mirrored_stages(detector)
    for split in range(4):
        assert mirrored_stages(detector.at(split)) == whole[4 - split :]
        assert paper_repeats(16, whole[4 - split :]) is None


def yolo11(split: int, last: tuple[int, ...] = (18, 10)) -> SplitDetector:
    """The graph of yolo11 up to layer 19, at a fraction of its width. `last` are the sources of layer 19."""
    from ultralytics.nn.modules import C2PSA, SPPF, C3k2, Concat, Conv

    return detector_of(
        [
            (Conv(3, 4, 3, 2), (-1,)),
            (Conv(4, 8, 3, 2), (0,)),
            (C3k2(8, 16, 1, False, 0.25), (1,)),
            (Conv(16, 16, 3, 2), (2,)),
            (C3k2(16, 32, 2, False, 0.25), (3,)),
            (Conv(32, 32, 3, 2), (4,)),
            (C3k2(32, 32, 3, True), (5,)),
            (Conv(32, 128, 3, 2), (6,)),
            (C3k2(128, 128, 1, True), (7,)),
            (SPPF(128, 128, 5), (8,)),
            (C2PSA(128, 128, 1), (9,)),
            (nn.Upsample(scale_factor=2.0, mode="nearest"), (10,)),
            (Concat(1), (11, 6)),
            (C3k2(160, 48, 1, False), (12,)),
            (nn.Upsample(scale_factor=2.0, mode="nearest"), (13,)),
            (Concat(1), (14, 4)),
            (C3k2(80, 24, 1, False), (15,)),
            (Conv(24, 24, 3, 2), (16,)),
            (Concat(1), (17, 13)),
            (Concat(1), last),
        ],
        split,
    )


BACKBONE = (
    *(("c3", 128, 1), ("c3", 128, 1), ("c3", 128, 1), ("deconv", 32, 3)),
    *(("c3", 32, 3), ("deconv", 32, 3)),
    *(("c3", 16, 2), ("deconv", 16, 3)),
    *(("c3", 8, 1), ("deconv", 4, 3), ("deconv", 3, 3)),
)


def test_the_backbone_of_yolo11_behind_layer_10() -> None:
    """C2PSA and SPPF have one repeat; layers that change the channels are undone."""
    stages = mirrored_stages(yolo11(10))
    assert stages == BACKBONE
    check_stages(stages, 2)


def test_the_way_back_passes_the_neck_without_enlarging() -> None:
    """From the coarsest level, which is layer 10 as long as it crosses; a concatenation has no weights to undo."""
    for split in (11, 12, 13, 14, 15, 16):
        assert mirrored_stages(yolo11(split)) == BACKBONE
    behind_the_last_use = yolo11(16, last=(18, 17))
    assert mirrored_stages(behind_the_last_use)[:2] == (("c3", 160, 1), ("c3", 32, 3))


def test_blocks_of_yolov9() -> None:
    from ultralytics.nn.modules import ADown, Conv, RepNCSPELAN4

    graph: Graph = [
        (Conv(3, 8, 3, 2), (-1,)),
        (RepNCSPELAN4(8, 16, 8, 4, 3), (0,)),
        (ADown(16, 24), (1,)),
    ]
    assert mirrored_stages(detector_of(graph, 2)) == (("deconv", 16, 3), ("c3", 8, 3), ("deconv", 3, 3))


def test_a_step_of_four_is_two_doublings() -> None:
    graph: Graph = [(nn.Conv2d(3, 8, 4, 4), (-1,))]
    assert mirrored_stages(detector_of(graph, 0)) == (("deconv", 8, 3), ("deconv", 3, 3))


class Joined(nn.Module):
    """Takes several tensors in one output, as no layer of ultralytics' detectors does."""

    def forward(self, several: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return torch.cat(several, 1)


def halves_joined() -> Graph:
    from ultralytics.nn.modules import CBLinear

    return [(nn.Conv2d(3, 8, 2, 2), (-1,)), (CBLinear(8, [4, 4]), (0,)), (Joined(), (1,))]


def enlarged() -> Graph:
    return [(nn.Conv2d(3, 8, 4, 4), (-1,)), (nn.Conv2d(8, 8, 2, 2), (0,)), (nn.Upsample(scale_factor=2), (1,))]


@pytest.mark.parametrize(
    ("graph", "problem"),
    [(enlarged, "enlarges"), (halves_joined, "has no single tensor as input")],
    ids=["enlarges", "several"],
)
def test_what_cannot_be_mirrored_is_refused(graph: Callable[[], Graph], problem: str) -> None:
    with pytest.raises(FeatcodecError, match=rf"cannot mirror layer 2, which {problem}; train a strong RecNet"):
        mirrored_stages(detector_of(graph(), 2))
