"""Stage 1: train AE and AD on the detector's own loss (paper, section IV), with the optional terms of `objective`.

The detector is frozen and in eval mode. For a quick start, train twice. The first run uses feature matching alone: this
needs no back-end and no labels. The second run goes on from the first one, with the other terms and a fresh optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from featcodec.detectors import SplitDetector, load_detector
from featcodec.errors import InputError
from featcodec.networks.bottleneck import Bottleneck, BottleneckConfig, check_match, load_bottleneck, save_bottleneck
from featcodec.networks.fusion import Level, default_sizes, largest_fusion_scale
from featcodec.packing.quantize import UniformQuantizer
from featcodec.split_model import SplitModel
from featcodec.training.loop import Loop
from featcodec.training.loop_options import LoopOptions
from featcodec.training.losses.objective import PAPER_WEIGHTS, CodingPath, Objective, ObjectiveWeights, mean_of
from featcodec.training.setup import (
    TrainingData,
    as_pictures,
    batches_from,
    check_asked,
    features_of,
    held_out_batches,
)
from featcodec.training.simulated_coding import SimulatedCoding

BOTTLENECK_FILE = "bottleneck.safetensors"
PAPER_CLIP = (-3.0, 3.0)


@dataclass(frozen=True)
class BottleneckTask:
    """What to train.

    Attributes:
        detector: name or path.
        split: last layer of the front-end, 0..4.
        channels, hidden_channels: sizes of the bottleneck; None means a third and two thirds of the feature channels,
            and for several levels what `featcodec.networks.fusion.default_sizes` says.
        fusion_scale: the scale at which several levels are fused; None means the default.
        clip: clip range of the tensor; None means the range of `start`, or [-3, 3] as in the paper.
        weights: weights of the loss terms.
        simulation: QPs of simulated coding, or None for no simulated coding.
        start: a bottleneck to go on from, instead of random weights.
    """

    detector: str | Path
    split: int = 4
    channels: int | None = None
    hidden_channels: int | None = None
    fusion_scale: int | None = None
    clip: tuple[float, float] | None = None
    weights: ObjectiveWeights = PAPER_WEIGHTS
    simulation: SimulatedCoding | None = None
    start: Path | None = None


def train_bottleneck(task: BottleneckTask, data: TrainingData, options: LoopOptions) -> Path:
    """Run the stage.

    Returns:
        the checkpoint of the last step. The checkpoint that is best on the held-out images is in the same folder.

    Raises:
        FeatcodecError: bad input, or training that diverged.
    """
    settings = {"stage": "bottleneck", "data": data.describe(), **_describe(task)}
    loop = Loop(options, settings)
    torch.manual_seed(options.seed)
    detector = load_detector(task.detector, split=task.split, device=str(loop.device), half=False)
    bottleneck = _new_bottleneck(task, detector)
    pixels = SplitModel(detector, bottleneck).pixels_per_sample
    path = loop.train("bottleneck", CodingPath(bottleneck, task.simulation, pixels))
    objective = Objective(detector)

    def save_models(which: str, metrics: Mapping[str, float]) -> None:
        training = {**loop.settings, "metrics": dict(metrics)}
        bottleneck.config = replace(bottleneck.config, training=training)
        save_bottleneck(options.output / f"{which}-{BOTTLENECK_FILE}", bottleneck)

    def held_out() -> Mapping[str, float]:
        return held_out_objective(loop, data, objective, task.weights, path)

    for step, batch in loop.steps(partial(batches_from, loop, data), save_models, held_out if data.held_out else None):
        with loop.autocast():
            features = features_of(detector, as_pictures(batch))
            _, restored, rate = path(features)
            terms = objective(task.weights, batch, features, restored, rate)
        loop.descend("bottleneck", terms["loss"])
        loop.log(step, terms)
    return options.output / f"last-{BOTTLENECK_FILE}"


def held_out_objective(
    loop: Loop, data: TrainingData, objective: Objective, weights: ObjectiveWeights, path: CodingPath
) -> dict[str, float]:
    """Means of the terms over the held-out images, always at the same simulated QPs."""
    found = []
    for number, batch in enumerate(held_out_batches(loop, data)):
        torch.manual_seed(number)
        features = features_of(objective.detector, as_pictures(batch))
        _, restored, rate = path(features)
        found.append((len(batch.images), objective(weights, batch, features, restored, rate)))
    return mean_of(found)


def _new_bottleneck(task: BottleneckTask, detector: SplitDetector) -> Bottleneck:
    if task.clip is not None:
        UniformQuantizer(*task.clip)  # refuses an invalid range
    if task.start is not None:
        bottleneck = load_bottleneck(task.start)
        config = bottleneck.config
        check_match(config, detector.fingerprint, detector.split, str(task.start))
        check_asked(
            task.start,
            ("{} channels", config.channels, task.channels),
            ("{} hidden channels", config.hidden_channels, task.hidden_channels),
            ("fusion scale {}", config.fusion_scale, task.fusion_scale),
        )
        low, high = task.clip or (config.clip_low, config.clip_high)
        bottleneck.config = replace(config, clip_low=low, clip_high=high)
        return bottleneck
    clip_low, clip_high = task.clip or PAPER_CLIP
    levels = detector.levels
    _check_fusion_scale(task.fusion_scale, levels)
    sizes = default_sizes(levels, task.fusion_scale, task.channels)
    fused = levels if len(levels) > 1 else ()
    return Bottleneck(
        BottleneckConfig(
            feature_channels=sum(level.channels for level in levels),
            hidden_channels=task.hidden_channels or sizes.hidden_channels,
            channels=sizes.channels,
            clip_low=clip_low,
            clip_high=clip_high,
            split=task.split,
            detector_fingerprint=detector.fingerprint.hex(),
            training={},
            level_channels=tuple(level.channels for level in fused),
            level_scales=tuple(level.scale for level in fused),
            fusion_scale=sizes.fusion_scale,
        )
    )


def _check_fusion_scale(asked: int | None, levels: Sequence[Level]) -> None:
    largest = largest_fusion_scale(levels)
    if asked is not None and not 0 <= asked <= largest:
        raise InputError(
            f"a fusion scale of {asked} is not within 0..{largest}, the scales of what crosses; leave it out"
        )


def _describe(task: BottleneckTask) -> dict[str, object]:
    """The task for a checkpoint's config, without paths."""
    description = asdict(task)
    description["detector"] = Path(task.detector).name
    if task.fusion_scale is None:
        del description["fusion_scale"]  # older runs do not have it, and go on
    if task.start is not None:
        start = load_bottleneck(task.start)
        description["start"] = {"fingerprint": start.fingerprint().hex(), **start.config.training}
    return description
