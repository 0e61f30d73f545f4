"""Train AD alone, on a finished AE: what the cloud can win back at no cost in bits or privacy. Not in the paper.

What an attacker gets depends on AE alone, and so do the bits. AD runs in the cloud, where width is free. It may know
the QP; then it learns to undo coding noise, as a restoration does. Teacher and student are those of `restoration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.errors import InputError
from featcodec.networks.bottleneck import Bottleneck, save_bottleneck, with_decoder
from featcodec.networks.features import Features
from featcodec.networks.layouts import choose_layout
from featcodec.training.bottleneck import BOTTLENECK_FILE
from featcodec.training.coded_batches import CodedBatch, Wire, coder_for
from featcodec.training.loop import Loop
from featcodec.training.loop_options import LoopOptions
from featcodec.training.losses.objective import Objective, ObjectiveWeights
from featcodec.training.real_coding import QpRange
from featcodec.training.restoration import RESTORATION_WEIGHTS
from featcodec.training.setup import TrainingData, frozen_model
from featcodec.video import EncoderSettings, choose_profile
from featcodec.video.profiles import Profile

UNCODED = 0.25


@dataclass(frozen=True)
class DecoderTask:
    """What to train.

    Attributes:
        detector: name or path.
        bottleneck: checkpoint of AE and AD, or the name of a shipped one. AE stays as it is.
        layout: checkpoint, "none", or "auto": the one that ships for this tensor, if any.
        hidden_channels, blocks: size of the new AD; None means that of the given one.
        knows_qp: whether the new AD takes the QP as one more channel.
        weights: weights of the loss terms; L_obj and rate are not used.
        qps: the QPs that AD learns for.
        uncoded: share of half batches that are not coded, so that AD stays good without coding.
        simulated: whether coding is simulated.
        profile: settings of the real encoder.

    Raises:
        InputError: the share is not within 0..1, or a term that is not used here has a weight.
    """

    detector: str | Path
    bottleneck: str | Path
    layout: str | Path = "auto"
    hidden_channels: int | None = None
    blocks: int | None = None
    knows_qp: bool = True
    weights: ObjectiveWeights = RESTORATION_WEIGHTS
    qps: QpRange = field(default_factory=QpRange)
    uncoded: float = UNCODED
    simulated: bool = False
    profile: Profile = field(default_factory=choose_profile)

    def __post_init__(self) -> None:
        if self.weights.detection or self.weights.rate:
            raise InputError("AD learns only from features, neck and predictions; give no other weight")
        if not 0 <= self.uncoded <= 1:
            raise InputError(f"a share of {self.uncoded} is not within 0..1; give for example {UNCODED}")


class _Decoding(nn.Module):
    """AD as a module of its own, so that the optimizer sees no AE."""

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.decoder = bottleneck.decoder
        # In a tuple, so that AE is not a part of this module.
        self._whole = (bottleneck,)

    def forward(self, decoded: Tensor, qp: Tensor) -> Features:
        return self._whole[0].decode(decoded, qp)


def train_decoder(task: DecoderTask, data: TrainingData, options: LoopOptions) -> Path:
    """Run the stage.

    Returns:
        the checkpoint of AE and AD after the last step. The checkpoint that is best on the held-out images is in the
            same folder.

    Raises:
        FeatcodecError: bad input, or training that diverged.
    """
    model = frozen_model(task.detector, task.bottleneck)
    if model.bottleneck is None:
        raise InputError("latent coding has no AD to train; give a `bottleneck`")
    layout = choose_layout(task.layout, model.fingerprint, model.channels, model.split)
    encoder = task.profile.settings(bottleneck=True)
    loop = Loop(options, {"stage": "decoder", "data": data.describe(), **_describe(task, model.bottleneck, encoder)})
    torch.manual_seed(options.seed)
    bottleneck = _new_decoder(task, model.bottleneck)
    bottleneck.requires_grad_(False)
    coder = coder_for(model, layout, encoder, simulated=task.simulated)
    wire = Wire(model.to(loop.device), coder)
    objective = Objective(model.detector)
    decoder = loop.train("decoder", _Decoding(bottleneck))

    def save_models(which: str, metrics: Mapping[str, float]) -> None:
        bottleneck.config = replace(bottleneck.config, training={**loop.settings, "metrics": dict(metrics)})
        save_bottleneck(options.output / f"{which}-{BOTTLENECK_FILE}", bottleneck)

    def terms(coded: CodedBatch) -> dict[str, Tensor]:
        restored = decoder(coded.decoded, coded.qp)
        return objective(task.weights, coded.batch, coded.features, restored, coded.decoded.new_zeros(()))

    def held_out() -> Mapping[str, float]:
        return wire.held_out(loop, data, task.qps, terms, uncoded=task.uncoded > 0)

    batches = partial(wire.batches, loop, data, task.qps, uncoded=task.uncoded)
    for step, coded in loop.steps(batches, save_models, held_out if data.held_out else None):
        with loop.autocast():
            found = terms(coded)
        loop.descend("decoder", found["loss"])
        loop.log(step, found)
    return options.output / f"last-{BOTTLENECK_FILE}"


def _new_decoder(task: DecoderTask, bottleneck: Bottleneck) -> Bottleneck:
    config = bottleneck.config
    return with_decoder(
        bottleneck,
        task.hidden_channels or config.decoder_hidden_channels or config.hidden_channels,
        config.decoder_blocks if task.blocks is None else task.blocks,
        knows_qp=task.knows_qp,
    )


def _describe(task: DecoderTask, start: Bottleneck, encoder: EncoderSettings) -> dict[str, Any]:
    """The task for a checkpoint's config, without paths."""
    description = asdict(task)
    del description["layout"], description["profile"]
    if not task.simulated:
        description["encoder"] = {"preset": encoder.preset, "parameters": encoder.chosen}
    description["detector"] = Path(task.detector).name
    description["bottleneck"] = {"fingerprint": start.fingerprint().hex(), **start.config.training}
    return description
