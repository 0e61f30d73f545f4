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

from featcodec.detectors import SplitDetector
from featcodec.detectors.split import DEFAULT_SPLIT
from featcodec.errors import InputError, WeightsError
from featcodec.fingerprints import joined_fingerprint
from featcodec.networks.bottleneck import Bottleneck, choose_bottleneck
from featcodec.networks.layouts import choose_layout
from featcodec.networks.restoration import (
    Restoration,
    RestorationConfig,
    default_hidden_channels,
    load_restoration,
    save_restoration,
)
from featcodec.packing.layout import Layout
from featcodec.packing.quantize import LATENT_CLIP, UniformQuantizer
from featcodec.training.data.batches import TrainingBatch
from featcodec.training.loop import Loop, LoopOptions
from featcodec.training.losses.objective import Objective, ObjectiveWeights, mean_of
from featcodec.training.real_coding import GROUPS, Coder, QpRange, code_groups, one_ahead, real_coder, simulated_coder
from featcodec.training.recnet import fingerprint_of_codec
from featcodec.training.setup import (
    TrainingData,
    as_pictures,
    batches_from,
    features_of,
    frozen_detector,
    held_out_batches,
)
from featcodec.video import EncoderSettings, choose_profile, open_tried_codec
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
class FrozenCodec:
    """All that does not change: the codec whose noise is learned.

    Attributes:
        detector: in eval mode.
        bottleneck: AE and AD, or None for latent coding.
        coder: what codes and decodes the coded tensor.
    """

    detector: SplitDetector
    bottleneck: Bottleneck | None
    coder: Coder

    def over_the_wire(self, batch: TrainingBatch, qps: list[int]) -> CodedBatch:
        """Front-end, AE and coding, without gradient; QPs as `code_groups` takes them."""
        features = features_of(self.detector, as_pictures(batch))
        with torch.no_grad():
            coded = features if self.bottleneck is None else self.bottleneck.encode(features)
        return CodedBatch(batch, features, *code_groups(self.coder, coded, qps))

    def finish(self, coded: Tensor) -> Tensor:
        """AD, where there is one: the coded tensor to features."""
        return coded if self.bottleneck is None else self.bottleneck.decode(coded)


def train_restoration(task: RestorationTask, data: TrainingData, options: LoopOptions) -> Path:
    """Run the stage.

    Returns:
        the checkpoint of the last step; the best on the held-out images lies beside it.

    Raises:
        FeatcodecError: bad input, or training that diverged.
    """
    detector, bottleneck = _frozen_networks(task)
    tensor = bytes.fromhex(fingerprint_of_codec(detector, bottleneck))
    channels = detector.feature_shape(64, 64)[0] if bottleneck is None else bottleneck.config.channels
    layout = choose_layout(task.layout, tensor, channels, detector.split)
    fingerprint = joined_fingerprint(tensor, None if layout is None else layout.fingerprint()).hex()
    encoder = task.profile.settings(bottleneck=bottleneck is not None)
    loop = Loop(options, {"stage": "restoration", "data": data.describe(), **_describe(task, fingerprint, encoder)})
    torch.manual_seed(options.seed)
    restoration = _new_restoration(task, detector, channels, fingerprint)
    coder = _coder(task, bottleneck, layout)
    codec = FrozenCodec(detector.to(loop.device), None if bottleneck is None else bottleneck.to(loop.device), coder)
    objective = Objective(detector)
    network = loop.train("restoration", restoration)

    def save_models(which: str, metrics: Mapping[str, float]) -> None:
        restoration.config = replace(restoration.config, training={**loop.settings, "metrics": dict(metrics)})
        save_restoration(options.output / f"{which}-{RESTORATION_FILE}", restoration)

    def held_out() -> Mapping[str, float]:
        return held_out_objective(loop, data, task, codec, objective, network)

    def batches(first_step: int) -> Iterator[CodedBatch]:
        return _coded_batches(loop, data, task.qps, codec, first_step)

    for step, coded in loop.steps(batches, save_models, held_out if data.held_out else None):
        with loop.autocast():
            terms = _terms(task.weights, objective, codec, coded, network(coded.decoded, coded.qp))
        loop.descend("restoration", terms["loss"])
        loop.log(step, terms)
    return options.output / f"last-{RESTORATION_FILE}"


def held_out_objective(
    loop: Loop, data: TrainingData, task: RestorationTask, codec: FrozenCodec, objective: Objective, network: nn.Module
) -> dict[str, float]:
    """Mean terms over the held-out images, at the same QPs every time, spread over the whole range.

    Returns:
        the terms, and as "loss unrestored" the loss without the restoration.
    """
    batches = -(-len(data.held_out) // loop.options.batch_size)
    qps = task.qps.spread(GROUPS * batches)
    found = []
    for number, batch in enumerate(held_out_batches(loop, data)):
        coded = codec.over_the_wire(batch, qps[GROUPS * number : GROUPS * (number + 1)])
        terms = _terms(task.weights, objective, codec, coded, network(coded.decoded, coded.qp))
        without = _terms(task.weights, objective, codec, coded, coded.decoded)
        found.append((len(batch.images), {**terms, "loss unrestored": without["loss"]}))
    return mean_of(found)


def _coded_batches(
    loop: Loop, data: TrainingData, qps: QpRange, codec: FrozenCodec, first_step: int
) -> Iterator[CodedBatch]:
    seed, rank = loop.options.seed, loop.fabric.global_rank

    def code(numbered: tuple[int, TrainingBatch]) -> CodedBatch:
        step, batch = numbered
        return codec.over_the_wire(batch, qps.drawn(seed, step, rank))

    return one_ahead(code, enumerate(batches_from(loop, data, first_step), first_step))


def _terms(
    weights: ObjectiveWeights, objective: Objective, codec: FrozenCodec, coded: CodedBatch, restored: Tensor
) -> dict[str, Tensor]:
    return objective(weights, coded.batch, coded.features, codec.finish(restored), restored.new_zeros(()))


def _frozen_networks(task: RestorationTask) -> tuple[SplitDetector, Bottleneck | None]:
    """Detector and bottleneck, on the CPU."""
    detector = frozen_detector(task.detector, DEFAULT_SPLIT, torch.device("cpu"))
    bottleneck = choose_bottleneck(task.bottleneck, detector.fingerprint)
    if bottleneck is not None:
        detector.split = bottleneck.config.split
    return detector, bottleneck


def _coder(task: RestorationTask, bottleneck: Bottleneck | None, layout: Layout | None) -> Coder:
    quantizer = UniformQuantizer(*LATENT_CLIP) if bottleneck is None else bottleneck.config.quantizer()
    if task.simulated:
        return simulated_coder(quantizer)
    vvc = open_tried_codec("ffmpeg", task.profile.settings(bottleneck=bottleneck is not None))
    return real_coder(quantizer if layout is None else layout.quantizer(), layout, vvc)


def _new_restoration(
    task: RestorationTask, detector: SplitDetector, channels: int, codec_fingerprint: str
) -> Restoration:
    if task.start is None:
        return Restoration(
            RestorationConfig(
                channels=channels,
                hidden_channels=task.hidden_channels or default_hidden_channels(channels),
                blocks=DEFAULT_BLOCKS if task.blocks is None else task.blocks,
                split=detector.split,
                codec_fingerprint=codec_fingerprint,
                training={},
            )
        )
    restoration = load_restoration(task.start)
    config = restoration.config
    if (config.channels, config.split) != (channels, detector.split):
        raise WeightsError(
            f"{task.start}: made for {config.channels} channels behind layer {config.split}, not {channels} behind "
            f"{detector.split}; train a restoration for this codec, without --start"
        )
    for what, has, asked in (
        ("hidden channels", config.hidden_channels, task.hidden_channels),
        ("blocks", config.blocks, task.blocks),
    ):
        if asked not in (None, has):
            raise InputError(f"{task.start}: has {has} {what}, not {asked}; leave that out, or --start")
    restoration.config = replace(config, codec_fingerprint=codec_fingerprint)
    return restoration


def _describe(task: RestorationTask, codec_fingerprint: str, encoder: EncoderSettings) -> dict[str, Any]:
    """The task for a checkpoint's config, without paths and what the codec's fingerprint says."""
    description = asdict(task)
    del description["bottleneck"], description["layout"], description["profile"]
    if not task.simulated:
        description["encoder"] = {"preset": encoder.preset, "parameters": encoder.chosen}
    description |= {"detector": Path(task.detector).name, "codec": codec_fingerprint}
    if task.start is not None:
        start = load_restoration(task.start)
        description["start"] = {"fingerprint": start.fingerprint().hex(), **start.config.training}
    return description
