"""Stage 2: train the attacker, RecNet, on L_rec with the bottleneck fixed (paper, section IV).

Stage 4, the final attack, does the same with a fresh RecNet: see `featcodec.training.attack`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featcodec.errors import WeightsError
from featcodec.networks.features import Features, features_of_levels, levels_of
from featcodec.privacy.attackers import AttackerNet, bind, load_attacker
from featcodec.privacy.image_quality import edge_psnr, mean_decibel, one_colour, psnr, shows_nothing
from featcodec.privacy.mirror import mirrored_stages, paper_repeats
from featcodec.privacy.recnet import RecNet, RecNetConfig, save_recnet
from featcodec.privacy.strong_recnet import (
    DEFAULT_BLOCKS,
    DEFAULT_HIDDEN_CHANNELS,
    StrongRecNet,
    StrongRecNetConfig,
    save_strong_recnet,
)
from featcodec.split_model import SplitModel
from featcodec.training.data.batches import letterboxed_batches
from featcodec.training.loop import Loop
from featcodec.training.loop_options import LoopOptions
from featcodec.training.losses.reconstruction import EDGE_WEIGHT, reconstruction_loss, structural_similarity
from featcodec.training.setup import (
    TrainingData,
    as_pictures,
    batches_from,
    frozen_model,
    held_out_batches,
    tensors_of,
)
from featcodec.training.simulated_coding import SimulatedCoding, simulate_coding

RECNET_FILE = "recnet.safetensors"
_SHOWN = 4
_FLOOR_BATCH = 8


@dataclass(frozen=True)
class StrongAttack:
    """What makes a RecNet a strong one.

    Attributes:
        hidden_channels, blocks: the size of the network.
        edge_weight: beta of L_rec.
        similarity_weight: weight of 1 - SSIM.
        qp_low, qp_high: it learns from tensors that are coded at QPs from this range, beside those that are not coded.
        uncoded: share of tensors that are not coded.
        normalized: whether the network has BatchNorm.
        colours_first: share of the steps, at the beginning, that learn from L1 alone. Before the picture is known, no
            edges at all are the best guess of the edges, and a network may stay there.
    """

    hidden_channels: int = DEFAULT_HIDDEN_CHANNELS
    blocks: int = DEFAULT_BLOCKS
    edge_weight: float = 0.5
    similarity_weight: float = 0.1
    qp_low: float = 22.0
    qp_high: float = 46.0
    uncoded: float = 0.5
    normalized: bool = True
    colours_first: float = 0.2


@dataclass(frozen=True)
class RecNetTask:
    """What to attack, and how.

    Attributes:
        detector: name or path.
        bottleneck: checkpoint of AE and AD, name of a shipped one, or None for RecNet-latent.
        edge_weight: beta of L_rec; 0 is L1 alone.
        start: a RecNet to go on from, instead of random weights.
        strong: train a strong RecNet, with its own loss and its own diet; None trains the paper's RecNet on tensors
            that are not coded.
        split: for latent coding, the last layer of the front-end; None means the default of the detector.
    """

    detector: str | Path
    bottleneck: str | Path | None
    edge_weight: float = EDGE_WEIGHT
    start: Path | None = None
    strong: StrongAttack | None = None
    split: int | None = None


def train_recnet(task: RecNetTask, data: TrainingData, options: LoopOptions, stage: str = "recnet") -> Path:
    """Run the stage.

    Returns:
        the checkpoint of the last step. The checkpoint that is best on the held-out images is in the same folder.

    Raises:
        FeatcodecError: bad input, or training that diverged.
    """
    model = frozen_model(task.detector, task.bottleneck, task.split)
    settings: dict[str, Any] = {
        "stage": stage,
        "data": data.describe(),
        "detector": Path(task.detector).name,
        "bottleneck": None if model.bottleneck is None else model.bottleneck.fingerprint().hex(),
        "edge_weight": task.edge_weight,
        "start": None if task.start is None else task.start.name,
        **({} if task.strong is None else {"strong": asdict(task.strong)}),
        **({} if task.split is None else {"split": task.split}),
    }
    loop = Loop(options, settings)
    torch.manual_seed(options.seed)
    recnet = _network(task, model)
    model.to(loop.device)
    network = loop.train("recnet", recnet)
    loss_of = partial(_loss, task)
    code = _diet(task, model)

    def save_models(which: str, metrics: Mapping[str, float]) -> None:
        save_attacker(options.output / f"{which}-{RECNET_FILE}", recnet, {**loop.settings, "metrics": dict(metrics)})

    def held_out() -> Mapping[str, float]:
        return held_out_reconstruction(loop, data, model, network, loss_of)

    for step, batch in loop.steps(partial(batches_from, loop, data), save_models, held_out if data.held_out else None):
        pictures = as_pictures(batch)
        with loop.autocast():
            reconstruction = network(*code(tensors_of(model, pictures)))
            if task.strong is not None and step < task.strong.colours_first * options.steps:
                loss = reconstruction_loss(reconstruction, pictures, 0)
            else:
                loss = loss_of(reconstruction, pictures)
        loop.descend("recnet", loss)
        loop.log(step, {"loss": loss})
        if (step + 1) % options.save_every == 0:
            loop.show(step, "original, reconstruction", torch.cat((pictures[:_SHOWN], reconstruction[:_SHOWN])))
    return options.output / f"last-{RECNET_FILE}"


def _network(task: RecNetTask, model: SplitModel) -> AttackerNet:
    if task.start is not None:
        recnet = recnet_for(task.start, model)
        if isinstance(recnet, StrongRecNet) != (task.strong is not None):
            kinds = ("the paper's RecNet", "a strong RecNet")
            found, wanted = kinds if task.strong is not None else reversed(kinds)
            raise WeightsError(f"{task.start}: is {found}, but {wanted} is trained here; start from one of that kind")
        return recnet
    if task.strong is not None:
        return new_strong_recnet(
            model, task.strong.hidden_channels, task.strong.blocks, normalized=task.strong.normalized
        )
    return new_recnet(model)


def _loss(task: RecNetTask, reconstruction: Tensor, pictures: Tensor) -> Tensor:
    if task.strong is None:
        return reconstruction_loss(reconstruction, pictures, task.edge_weight)
    similarity = structural_similarity(reconstruction, pictures).mean()
    loss = reconstruction_loss(reconstruction, pictures, task.strong.edge_weight)
    return loss + task.strong.similarity_weight * (1 - similarity)


def _diet(task: RecNetTask, model: SplitModel) -> Callable[[Features], tuple[Features, Tensor | None]]:
    """How tensors are coded before a RecNet learns from them."""
    if task.strong is None:
        return lambda coded: (coded, None)
    strong, quantizer = task.strong, model.quantizer
    simulation = SimulatedCoding(quantizer.low, quantizer.high, strong.qp_low, strong.qp_high, strong.uncoded)

    def code(coded: Features) -> tuple[Features, Tensor]:
        with torch.no_grad():
            decoded, _, qp = simulate_coding(coded, simulation)
        # Tensors that are not coded are not clipped either, as in the attack on images.
        bare = qp.reshape(-1, 1, 1, 1) == 0
        pairs = zip(levels_of(coded), levels_of(decoded), strict=True)
        return features_of_levels([torch.where(bare, before.float(), after) for before, after in pairs]), qp

    return code


def save_attacker(path: Path, recnet: AttackerNet, training: dict[str, Any]) -> None:
    """Write a RecNet of either kind, and how it was trained.

    Raises:
        OutputError: the file cannot be written.
    """
    if isinstance(recnet, StrongRecNet):
        recnet.config = replace(recnet.config, training=training)
        save_strong_recnet(path, recnet)
    else:
        recnet.config = replace(recnet.config, training=training)
        save_recnet(path, recnet)


def new_recnet(model: SplitModel) -> RecNet:
    """A RecNet with random weights that mirrors a model's front-end and AE.

    Raises:
        FeatcodecError: the front-end has a layer that cannot be mirrored.
    """
    config = None if model.bottleneck is None else model.bottleneck.config
    levels = model.detector.levels
    channels = sum(level.channels for level in levels)
    stages = mirrored_stages(model.detector)
    repeats = paper_repeats(channels, stages) if len(levels) == 1 else None
    several = levels if len(levels) > 1 else ()
    return RecNet(
        RecNetConfig(
            feature_channels=channels,
            hidden_channels=0 if config is None else config.hidden_channels,
            channels=0 if config is None else config.channels,
            repeats=repeats or (0, 0),
            model_fingerprint=model.fingerprint.hex(),
            training={},
            edge_fingerprint=model.edge_fingerprint.hex(),
            split=model.split,
            stages=() if repeats else stages,
            level_channels=tuple(level.channels for level in several),
            level_scales=tuple(level.scale for level in several),
            fusion_scale=0 if config is None else config.fusion_scale,
        )
    )


def new_strong_recnet(model: SplitModel, hidden_channels: int, blocks: int, *, normalized: bool = True) -> StrongRecNet:
    """A strong RecNet with random weights for the tensors of a model."""
    levels = model.levels
    several = levels if len(levels) > 1 else ()
    return StrongRecNet(
        StrongRecNetConfig(
            channels=sum(level.channels for level in levels),
            hidden_channels=hidden_channels,
            blocks=blocks,
            edge_fingerprint=model.edge_fingerprint.hex(),
            training={},
            normalized=normalized,
            split=model.split,
            pixels_per_sample=model.pixels_per_sample,
            level_channels=tuple(level.channels for level in several),
            level_scales=tuple(level.scale for level in several),
        )
    )


def held_out_reconstruction(
    loop: Loop,
    data: TrainingData,
    model: SplitModel,
    recnet: nn.Module,
    loss_of: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, float]:
    """The loss, and PSNR and edge-PSNR in dB: means over the held-out images, in a square letterbox with its border.

    The tensors are not coded. These values show how a run goes on. `featcodec audit` measures without the border.
    """
    losses, qualities, edge_qualities = [], [], []
    for batch in held_out_batches(loop, data):
        pictures = as_pictures(batch)
        reconstruction = recnet(tensors_of(model, pictures))
        losses.append(float(loss_of(reconstruction, pictures)) * len(pictures))
        for original, found in zip(_as_arrays(pictures), _as_arrays(reconstruction.float()), strict=True):
            qualities.append(psnr(original, found))
            edge_qualities.append(edge_psnr(original, found))
    loss = sum(losses) / len(qualities)
    return {"loss": loss, "PSNR": mean_decibel(qualities), "edge-PSNR": mean_decibel(edge_qualities)}


def notes_on_attack(recnet: Path, data: TrainingData) -> list[str]:
    """Say if a trained RecNet failed: a weak attacker makes a defence look better than it is.

    Args:
        recnet: checkpoint that `train_recnet` wrote.
        data: what it was trained with. Nothing is said without held-out images.

    Returns:
        one note, or none.
    """
    metrics = load_attacker(recnet).config.training.get("metrics", {})
    if "PSNR" not in metrics or not data.held_out:
        return []
    floors = [
        psnr(original, one_colour(original))
        for batch in letterboxed_batches(data.held_out, data.augmentation.image_size, _FLOOR_BATCH)
        for original in _as_arrays(as_pictures(batch))
    ]
    floor = mean_decibel(floors)
    if not shows_nothing(metrics["PSNR"], floor):
        return []
    return [
        f"the attack failed: on the held-out images, {metrics['PSNR']:.2f} dB is not clearly above the {floor:.2f} dB "
        "of pictures of one colour. This does not show that the tensor is private: train longer, or with another "
        "learning rate or seed"
    ]


def _as_arrays(pictures: Tensor) -> Any:
    return pictures.permute(0, 2, 3, 1).cpu().numpy()


def recnet_for(path: Path, model: SplitModel) -> AttackerNet:
    """Load a trained RecNet of either kind for another model of the same shape.

    Raises:
        WeightsError: the checkpoint is unreadable, or its RecNet takes tensors of another shape than the model's.
    """
    recnet = load_attacker(path)
    if isinstance(recnet, StrongRecNet):
        channels, needed = str(recnet.config.channels), str(sum(level.channels for level in model.levels))
    else:
        channels, needed = (
            str((each.feature_channels, each.channels)) for each in (recnet.config, new_recnet(model).config)
        )
    if channels != needed:
        raise WeightsError(
            f"{path}: made for (feature, tensor) channels {channels}, not {needed}; train a RecNet for this model"
        )
    if (recnet.config.inputs, recnet.config.pixels_per_sample) != (model.levels, model.pixels_per_sample):
        raise WeightsError(f"{path}: made for tensors of other sizes; train a RecNet for this model")
    bind(recnet, model)
    return recnet
