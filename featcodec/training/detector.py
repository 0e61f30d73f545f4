"""Stage 0: train a detector from scratch, before any bottleneck is trained behind it.

The architecture is YOLOv5's, or one of ultralytics' families (YOLOv8 to YOLO26). The training is YOLOv5's: the loss of
the architecture, BatchNorm that learns, weight decay on kernels alone, and a moving average of the weights. The
held-out images judge the average, and the checkpoints hold it. Checkpoints are in float16, as YOLOv5's releases are.
The state of the run is in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.detectors import (
    DetectorConfig,
    FamilyConfig,
    SplitDetector,
    build_detector,
    configuration_of,
    load_detector,
    read_detector,
    save_detector,
)
from featcodec.detectors.anchor_free import AnchorFree, initialize_head
from featcodec.detectors.configuration import Configuration
from featcodec.detectors.layers import Layer
from featcodec.errors import InputError
from featcodec.fingerprints import FINGERPRINT_BYTES
from featcodec.training.data.batches import TrainingBatch
from featcodec.training.loop import Loop
from featcodec.training.loop_options import LoopOptions
from featcodec.training.losses.detection import DetectionLoss, detection_loss_for
from featcodec.training.losses.objective import mean_of
from featcodec.training.moving_average import MovingAverage
from featcodec.training.setup import TrainingData, as_pictures, batches_from, check_asked, held_out_batches

DETECTOR_FILE = "detector.safetensors"
_FURTHER = {"Segment": "masks", "Pose": "keypoints"}
"""What heads find besides boxes, by how their names begin."""


@dataclass(frozen=True)
class DetectorTask:
    """What to train.

    Attributes:
        names: class names, one per class id of the data.
        depth_multiple, width_multiple: sizes of YOLOv5's architecture; None means those of `start`, or of yolov5n.
        architecture: one of ultralytics' detectors, like yolo11n, instead of YOLOv5's.
        start: a detector of the same classes to go on from, instead of random weights.
    """

    names: tuple[str, ...]
    depth_multiple: float | None = None
    width_multiple: float | None = None
    start: Path | None = None
    architecture: str | None = None


class RawOutputs(nn.Module):
    """A detector that returns undecoded outputs, as its loss needs them. The optimizer trains this module.

    Args:
        detector: shared with the caller.
    """

    def __init__(self, detector: SplitDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pictures: Tensor) -> Any:
        """(B, 3, H, W) RGB in [0, 1] -> the head's undecoded outputs; those of both branches, if it has two."""
        detector = self.detector
        levels = detector.neck(detector.front(pictures))
        head = detector.head
        if isinstance(head, AnchorFree) and head.has_two_branches:
            return head.both_raw(levels)
        return head.raw(levels)


def train_detector(task: DetectorTask, data: TrainingData, options: LoopOptions) -> Path:
    """Run the stage.

    Returns:
        the checkpoint of the last step. The checkpoint that is best on the held-out images is in the same folder.

    Raises:
        FeatcodecError: bad input, or training that diverged.
    """
    if not all(image.labelled for image in [*data.images, *data.held_out]):
        raise InputError("a detector learns from labelled images only; leave out images without labels")
    torch.manual_seed(options.seed)
    config, layers = _new_detector(task)
    loop = Loop(options, {"stage": "detector", "data": data.describe(), **_describe(task, config)})
    # The weights still change, so this detector has no fingerprint: only a checkpoint gets one.
    detector = SplitDetector(layers, config.names, bytes(FINGERPRINT_BYTES)).to(memory_format=torch.channels_last)
    path = RawOutputs(detector)
    network = loop.train("detector", path, decays=is_kernel)
    average = loop.keep("average", MovingAverage(path))
    loss = detection_loss_for(detector)

    def save_models(which: str, metrics: Mapping[str, float]) -> None:
        described = replace(config, training={**loop.settings, "metrics": dict(metrics)})
        save_detector(options.output / f"{which}-{DETECTOR_FILE}", described, average.network.detector.layers)

    def held_out() -> Mapping[str, float]:
        return held_out_loss(loop, data, loss, average.network)

    for step, batch in loop.steps(partial(batches_from, loop, data), save_models, held_out if data.held_out else None):
        with loop.autocast():
            terms = losses_of(loss, network, batch)
        loop.descend("detector", terms["loss"])
        average.update(path, step)
        loop.log(step, terms)
    return options.output / f"last-{DETECTOR_FILE}"


def is_kernel(parameter: Tensor) -> bool:
    """Whether weight decay applies: a convolution's weights have four axes, BatchNorm's weights and biases have one."""
    return parameter.ndim > 1


def losses_of(loss: DetectionLoss, network: nn.Module, batch: TrainingBatch) -> dict[str, Tensor]:
    """The loss of a labelled batch as "loss", with gradient, and its parts, without gradient.

    Args:
        loss: the loss that fits the network's head.
        network: `RawOutputs`, wrapped or not.
        batch: on the network's device.
    """
    height, width = batch.images.shape[-2:]
    raw = network(as_pictures(batch))
    losses = loss(raw, batch.boxes, batch.classes, batch.image_index, (height, width))
    return {
        "loss": losses.total,
        "box": losses.box,
        "objectness": losses.objectness,
        "classification": losses.classification,
    }


def held_out_loss(loop: Loop, data: TrainingData, loss: DetectionLoss, network: nn.Module) -> dict[str, float]:
    """Mean loss and parts over the held-out images, letterboxed."""
    return mean_of([(len(batch.images), losses_of(loss, network, batch)) for batch in held_out_batches(loop, data)])


def _new_detector(task: DetectorTask) -> tuple[DetectorConfig | FamilyConfig, list[Layer]]:
    if task.start is not None:
        return _started(task, task.start)
    if task.architecture is not None:
        if (task.depth_multiple, task.width_multiple) != (None, None):
            raise InputError(f"{task.architecture} has its own sizes; leave out depth and width, or the `architecture`")
        configuration = configuration_of(task.architecture).with_classes(len(task.names))
        _check_boxes_alone(task.architecture, configuration)
        family = FamilyConfig(task.names, configuration.mapping())
        layers = build_detector(family)
        head = layers[-1].module
        assert isinstance(head, AnchorFree)  # noqa: S101  (for mypy)
        initialize_head(head)
        return family, layers
    default = DetectorConfig(task.names)
    depth, width = task.depth_multiple, task.width_multiple
    config = replace(
        default,
        depth_multiple=default.depth_multiple if depth is None else depth,
        width_multiple=default.width_multiple if width is None else width,
    )
    return config, build_detector(config)


def _started(task: DetectorTask, start: Path) -> tuple[DetectorConfig | FamilyConfig, list[Layer]]:
    """The detector to go on from. What was asked for must be what it has."""
    config, layers = read_detector(start)
    check_asked(start, ("the classes {}", list(config.names), list(task.names)))
    if isinstance(config, DetectorConfig):
        check_asked(
            start,
            ("the depth multiple {}", config.depth_multiple, task.depth_multiple),
            ("the width multiple {}", config.width_multiple, task.width_multiple),
            ("the architecture {}", "YOLOv5", task.architecture),
        )
    else:
        _check_boxes_alone(str(start), config.layers())
        check_asked(start, ("its own depth{}", "", task.depth_multiple), ("its own width{}", "", task.width_multiple))
        if task.architecture is not None:
            asked = configuration_of(task.architecture).with_classes(len(task.names))
            if asked != config.layers():
                raise InputError(f"{start}: is not a {task.architecture}; leave out the `architecture`, or `start`")
    return config, layers


def _check_boxes_alone(name: str, configuration: Configuration) -> None:
    """Refuse a head of which a part would never learn: the loss is that of boxes."""
    kind = next((kind for head, kind in _FURTHER.items() if configuration.head.startswith(head)), None)
    if kind is not None:
        raise InputError(
            f"{name}: a detector with {kind} is not trained here, only one for boxes; train it with ultralytics, "
            "and use its best.pt"
        )


def _describe(task: DetectorTask, config: DetectorConfig | FamilyConfig) -> dict[str, object]:
    """The task for a checkpoint's config, without paths. A resumed run must have the same sizes and classes."""
    description: dict[str, object] = {"classes": list(config.names)}
    if isinstance(config, DetectorConfig):
        description["multiples"] = [config.depth_multiple, config.width_multiple]
        description["anchors"] = [list(map(list, level)) for level in config.anchors]
    else:
        description["architecture"] = task.architecture or "as in start"
    if task.start is not None:
        start = load_detector(task.start, device="cpu")
        description["start"] = {"fingerprint": start.fingerprint.hex(), **config.training}
    return description
