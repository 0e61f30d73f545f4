"""Train a restoration: a network in the cloud that undoes coding noise. Detector and bottleneck are frozen.

The teacher is the back-end on features that were not coded, the student the back-end on what the restoration makes of
decoded ones. The noise is that of real VVC bitstreams, or simulated: faster, and a good start. VVC and front-end work
on the next batch while the restoration learns from the present one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.errors import InputError, WeightsError
from featcodec.fingerprints import joined_fingerprint
from featcodec.networks.layouts import choose_layout
from featcodec.networks.restoration import (
    Restoration,
    RestorationConfig,
    default_hidden_channels,
    load_restoration,
    save_restoration,
)
from featcodec.packing.frames import Packing
from featcodec.packing.layout import Layout
from featcodec.split_model import SplitModel
from featcodec.training.data.batches import TrainingBatch
from featcodec.training.loop import Loop, LoopOptions
from featcodec.training.losses.objective import Objective, ObjectiveWeights, mean_of
from featcodec.training.real_coding import GROUPS, Coder, QpRange, code_groups, one_ahead, real_coder, simulated_coder
from featcodec.training.setup import (
    TrainingData,
    as_pictures,
    batches_from,
    check_asked,
    features_of,
    frozen_model,
    held_out_batches,
)
from featcodec.video import EncoderSettings, choose_profile, open_tried_video_codec
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
        hidden_channels: None means that of `start`, else by the coded tensor's channels.
        blocks: ResBlocks; None means those of `start`, else 1.
        weights: of the loss terms; without L_obj and rate.
        qps: which QPs it learns to restore.
        simulated: whether coding is simulated.
        profile: settings of the real encoder.
        start: a restoration to go on from, instead of one that has no effect.

    Raises:
        InputError: weights that teach nothing, or of terms that are none here.
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

    def __post_init__(self) -> None:
        if self.weights.detection or self.weights.rate:
            raise InputError("a restoration learns from features, neck and predictions alone; give no other weight")
        if not (self.weights.features or self.weights.neck or self.weights.predictions):
            raise InputError("all weights are 0, so that nothing would be learned; give one of them")


@dataclass(frozen=True, eq=False)
class CodedBatch:
    """A batch after the wire.

    Attributes:
        batch: the images.
        features: (B, C, H, W), the front-end's feature tensor, not coded.
        decoded: (B, c, H, W) float32, what came over the wire, dequantized.
        qp: (B,) float32, the QP of each.
    """

    batch: TrainingBatch
    features: Tensor
    decoded: Tensor
    qp: Tensor


@dataclass(frozen=True, eq=False)
class Wire:
    """All that does not change: the networks, and what codes the tensors between them.

    Attributes:
        model: in eval mode.
        coder: codes and decodes tensors.
    """

    model: SplitModel
    coder: Coder

    def cross(self, batch: TrainingBatch, qps: list[int]) -> CodedBatch:
        """Front-end, AE and coding, without gradient; QPs as `code_groups` takes them."""
        features = features_of(self.model.detector, as_pictures(batch))
        with torch.no_grad():
            tensors = self.model.reduce(features)
        return CodedBatch(batch, features, *code_groups(self.coder, tensors, qps))


def train_restoration(task: RestorationTask, data: TrainingData, options: LoopOptions) -> Path:
    """Run the stage.

    Returns:
        the checkpoint of the last step; the best on the held-out images lies beside it.

    Raises:
        FeatcodecError: bad input, or training that diverged.
    """
    model = frozen_model(task.detector, task.bottleneck)
    layout = choose_layout(task.layout, model.fingerprint, model.channels, model.split)
    stream = joined_fingerprint(model.fingerprint, None if layout is None else layout.fingerprint()).hex()
    encoder = task.profile.settings(bottleneck=model.bottleneck is not None)
    loop = Loop(options, {"stage": "restoration", "data": data.describe(), **_describe(task, stream, encoder)})
    torch.manual_seed(options.seed)
    restoration = _new_restoration(task, model, stream)
    wire = Wire(model.to(loop.device), _coder(task, model, layout, encoder))
    objective = Objective(model.detector)
    network = loop.train("restoration", restoration)

    def save_models(which: str, metrics: Mapping[str, float]) -> None:
        restoration.config = replace(restoration.config, training={**loop.settings, "metrics": dict(metrics)})
        save_restoration(options.output / f"{which}-{RESTORATION_FILE}", restoration)

    def held_out() -> Mapping[str, float]:
        return held_out_objective(loop, data, task, wire, objective, network)

    def batches(first_step: int) -> Iterator[CodedBatch]:
        return _coded_batches(loop, data, task.qps, wire, first_step)

    for step, coded in loop.steps(batches, save_models, held_out if data.held_out else None):
        with loop.autocast():
            terms = _terms(task.weights, objective, wire.model, coded, network(coded.decoded, coded.qp))
        loop.descend("restoration", terms["loss"])
        loop.log(step, terms)
    return options.output / f"last-{RESTORATION_FILE}"


def held_out_objective(
    loop: Loop, data: TrainingData, task: RestorationTask, wire: Wire, objective: Objective, network: nn.Module
) -> dict[str, float]:
    """Mean terms over the held-out images, at the same QPs every time, spread over the whole range.

    Returns:
        the terms, and as "loss unrestored" the loss without the restoration.
    """
    batches = -(-len(data.held_out) // loop.options.batch_size)
    qps = task.qps.spread(GROUPS * batches)
    found = []
    for number, batch in enumerate(held_out_batches(loop, data)):
        coded = wire.cross(batch, qps[GROUPS * number : GROUPS * (number + 1)])
        terms = _terms(task.weights, objective, wire.model, coded, network(coded.decoded, coded.qp))
        without = _terms(task.weights, objective, wire.model, coded, coded.decoded)
        found.append((len(batch.images), {**terms, "loss unrestored": without["loss"]}))
    return mean_of(found)


def _coded_batches(loop: Loop, data: TrainingData, qps: QpRange, wire: Wire, first_step: int) -> Iterator[CodedBatch]:
    seed, rank = loop.options.seed, loop.fabric.global_rank

    def code(numbered: tuple[int, TrainingBatch]) -> CodedBatch:
        step, batch = numbered
        return wire.cross(batch, qps.drawn(seed, step, rank))

    return one_ahead(code, enumerate(batches_from(loop, data, first_step), first_step))


def _terms(
    weights: ObjectiveWeights, objective: Objective, model: SplitModel, coded: CodedBatch, restored: Tensor
) -> dict[str, Tensor]:
    return objective(weights, coded.batch, coded.features, model.expand(restored), restored.new_zeros(()))


def _coder(task: RestorationTask, model: SplitModel, layout: Layout | None, encoder: EncoderSettings) -> Coder:
    if task.simulated:
        return simulated_coder(model.quantizer)
    packing = Packing.near_square(model.channels, model.quantizer, layout)
    return real_coder(packing, open_tried_video_codec("ffmpeg", encoder))


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
            f"behind {model.split}; train a restoration for this codec, without `start`"
        )
    check_asked(
        task.start,
        ("{} hidden channels", config.hidden_channels, task.hidden_channels),
        ("{} blocks", config.blocks, task.blocks),
    )
    restoration.config = replace(config, stream_fingerprint=stream)
    return restoration


def _describe(task: RestorationTask, stream: str, encoder: EncoderSettings) -> dict[str, Any]:
    """The task for a checkpoint's config, without paths and what the streams' fingerprint says."""
    description = asdict(task)
    del description["bottleneck"], description["layout"], description["profile"]
    if not task.simulated:
        description["encoder"] = {"preset": encoder.preset, "parameters": encoder.chosen}
    description |= {"detector": Path(task.detector).name, "codec": stream}
    if task.start is not None:
        start = load_restoration(task.start)
        description["start"] = {"fingerprint": start.fingerprint().hex(), **start.config.training}
    return description
