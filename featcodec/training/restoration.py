"""Train a restoration: a network in the cloud that undoes coding noise. Detector and bottleneck are frozen.

The teacher is the back-end on features that were not coded. The student is the back-end on decoded tensors after the
restoration. The noise comes from real VVC bitstreams, or it is simulated: that is faster and a good start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.errors import InputError, WeightsError
from featcodec.networks.layouts import choose_layout, stream_fingerprint
from featcodec.networks.restoration import (
    Restoration,
    RestorationConfig,
    default_hidden_channels,
    load_restoration,
    save_restoration,
)
from featcodec.split_model import SplitModel
from featcodec.training.coded_batches import CodedBatch, Wire, coder_for
from featcodec.training.loop import Loop
from featcodec.training.loop_options import LoopOptions
from featcodec.training.losses.objective import Objective, ObjectiveWeights
from featcodec.training.real_coding import QpRange
from featcodec.training.setup import TrainingData, check_asked, check_one_tensor, frozen_model
from featcodec.video import EncoderSettings, choose_profile
from featcodec.video.profiles import Profile

RESTORATION_FILE = "restoration.safetensors"
RESTORATION_WEIGHTS = ObjectiveWeights(detection=0, features=0.3, neck=1, predictions=0.3)
DEFAULT_BLOCKS = 1


@dataclass(frozen=True)
class RestorationTask:
    """What to train.

    Attributes:
        detector: name or path.
        bottleneck: checkpoint, name of a shipped one, "auto", or "none" for latent coding.
        layout: checkpoint, "none", or "auto": the one that ships for this tensor, if any.
        hidden_channels: width of the network; None means that of `start`, or a width that fits the tensor's channels.
        blocks: number of ResBlocks; None means that of `start`, or 1.
        weights: weights of the loss terms; L_obj and rate are not used.
        qps: the QPs that the restoration learns for.
        simulated: whether coding is simulated.
        profile: settings of the real encoder.
        start: a restoration to go on from, instead of one that has no effect.
        split: for latent coding, the last layer of the front-end; None means the default of the detector.

    Raises:
        InputError: all weights are 0, or a term that is not used here has a weight.
    """

    detector: str | Path
    bottleneck: str | Path = "auto"
    layout: str | Path = "auto"
    hidden_channels: int | None = None
    blocks: int | None = None
    weights: ObjectiveWeights = RESTORATION_WEIGHTS
    qps: QpRange = field(default_factory=QpRange)
    simulated: bool = False
    profile: Profile = field(default_factory=choose_profile)
    start: Path | None = None
    split: int | None = None

    def __post_init__(self) -> None:
        if self.weights.detection or self.weights.rate:
            raise InputError("a restoration learns only from features, neck and predictions; give no other weight")
        if not (self.weights.features or self.weights.neck or self.weights.predictions):
            raise InputError("all weights are 0, so nothing would be learned; give at least one weight above 0")


def train_restoration(task: RestorationTask, data: TrainingData, options: LoopOptions) -> Path:
    """Run the stage.

    Returns:
        the checkpoint of the last step. The checkpoint that is best on the held-out images is in the same folder.

    Raises:
        FeatcodecError: bad input, several tensors that cross the wire, or training that diverged.
    """
    model = frozen_model(task.detector, task.bottleneck, task.split)
    check_one_tensor(model, "a restoration")
    layout = choose_layout(task.layout, model.fingerprint, model.channels, model.split)
    stream = stream_fingerprint(model.fingerprint, layout).hex()
    encoder = task.profile.settings(bottleneck=model.bottleneck is not None)
    loop = Loop(options, {"stage": "restoration", "data": data.describe(), **_describe(task, stream, encoder)})
    torch.manual_seed(options.seed)
    restoration = _new_restoration(task, model, stream)
    coder = coder_for(model, layout, encoder, simulated=task.simulated)
    wire = Wire(model.to(loop.device), coder)
    objective = Objective(model.detector)
    network = loop.train("restoration", restoration)

    def save_models(which: str, metrics: Mapping[str, float]) -> None:
        restoration.config = replace(restoration.config, training={**loop.settings, "metrics": dict(metrics)})
        save_restoration(options.output / f"{which}-{RESTORATION_FILE}", restoration)

    def held_out() -> Mapping[str, float]:
        return held_out_objective(loop, data, task, wire, objective, network)

    batches = partial(wire.batches, loop, data, task.qps)
    for step, coded in loop.steps(batches, save_models, held_out if data.held_out else None):
        with loop.autocast():
            terms = _terms(task.weights, objective, wire.model, coded, network(coded.decoded, coded.qp))
        loop.descend("restoration", terms["loss"])
        loop.log(step, terms)
    return options.output / f"last-{RESTORATION_FILE}"


def held_out_objective(
    loop: Loop, data: TrainingData, task: RestorationTask, wire: Wire, objective: Objective, network: nn.Module
) -> dict[str, float]:
    """Means of the terms over the held-out images, see `Wire.held_out`; "loss unrestored" is without restoration."""

    def terms(coded: CodedBatch) -> dict[str, Tensor]:
        restored = _terms(task.weights, objective, wire.model, coded, network(coded.decoded, coded.qp))
        without = _terms(task.weights, objective, wire.model, coded, coded.decoded)
        return {**restored, "loss unrestored": without["loss"]}

    return wire.held_out(loop, data, task.qps, terms)


def _terms(
    weights: ObjectiveWeights, objective: Objective, model: SplitModel, coded: CodedBatch, restored: Tensor
) -> dict[str, Tensor]:
    return objective(weights, coded.batch, coded.features, model.expand(restored, coded.qp), restored.new_zeros(()))


def _new_restoration(task: RestorationTask, model: SplitModel, stream: str) -> Restoration:
    if task.start is None:
        return Restoration(
            RestorationConfig(
                channels=model.channels,
                hidden_channels=task.hidden_channels or default_hidden_channels(model.channels),
                blocks=DEFAULT_BLOCKS if task.blocks is None else task.blocks,
                split=model.split,
                stream_fingerprint=stream,
                training={},
            )
        )
    restoration = load_restoration(task.start)
    config = restoration.config
    if (config.channels, config.split) != (model.channels, model.split):
        raise WeightsError(
            f"{task.start}: made for {config.channels} channels behind layer {config.split}, not {model.channels} "
            f"behind {model.split}; train a restoration for this model, without `start`"
        )
    check_asked(
        task.start,
        ("{} hidden channels", config.hidden_channels, task.hidden_channels),
        ("{} blocks", config.blocks, task.blocks),
    )
    restoration.config = replace(config, stream_fingerprint=stream)
    return restoration


def _describe(task: RestorationTask, stream: str, encoder: EncoderSettings) -> dict[str, Any]:
    """The task for a checkpoint's config, without paths and without what the stream fingerprint names."""
    description = asdict(task)
    del description["bottleneck"], description["layout"], description["profile"], description["split"]
    if not task.simulated:
        description["encoder"] = {"preset": encoder.preset, "parameters": encoder.chosen}
    description |= {"detector": Path(task.detector).name, "codec": stream}
    if task.start is not None:
        start = load_restoration(task.start)
        description["start"] = {"fingerprint": start.fingerprint().hex(), **start.config.training}
    return description
