"""Train the direct reader of number plates, which reads in the tensor itself: how much text does the edge let through?

The tensors are made in the loop, by the frozen front-end and AE of one model. Part of them is coded, in simulation,
at random QPs, so that the reader also reads decoded tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from featcodec.errors import InputError
from featcodec.networks.features import Features
from featcodec.privacy.direct_reader import (
    DirectReader,
    DirectReaderConfig,
    load_direct_reader,
    on_grid,
    save_direct_reader,
)
from featcodec.privacy.private_details import read_private_details
from featcodec.privacy.readers import Pixels
from featcodec.privacy.text_head import PLATE_FORMAT
from featcodec.split_model import SplitModel
from featcodec.training.data.plate_windows import (
    BORDER_COLUMNS,
    BORDER_ROWS,
    PlateWindows,
    plain_batches,
    read_plate_windows,
    window_batches,
)
from featcodec.training.loop import Loop
from featcodec.training.loop_options import LoopOptions
from featcodec.training.losses.objective import mean_of
from featcodec.training.plate_reader import as_targets, check_texts, reading_loss, share_of_characters
from featcodec.training.setup import check_one_tensor, features_of, frozen_model, tensor_of
from featcodec.training.simulated_coding import SimulatedCoding, simulate_coding

DIRECT_READER_FILE = "direct-reader.safetensors"
_QPS = (26.0, 44.0)
_UNCODED = 0.5
_SHOWN = 16
Batch = tuple[Pixels, npt.NDArray[np.float32], list[str]]


@dataclass(frozen=True, eq=False)
class PlateWindowData:
    """The plates of a run.

    Attributes:
        images: plates to train on.
        held_out: plates that choose the best checkpoint.
    """

    images: PlateWindows
    held_out: PlateWindows

    @classmethod
    def read(cls, private: Path, folder: Path, held_out: int = 0, image_size: int = 512) -> PlateWindowData:
        """Read the plates that a file of private details lists as readable; see `read_plate_windows`.

        Raises:
            InputError: an unreadable file, an empty folder, or a text that does not fit `PLATE_FORMAT`.
        """
        data = cls(*read_plate_windows(read_private_details(private), folder, image_size, held_out))
        check_texts(private, (*data.images.texts, *data.held_out.texts))
        return data


@dataclass(frozen=True)
class DirectReaderTask:
    """What to train.

    Attributes:
        detector: name or path.
        bottleneck: checkpoint of AE and AD, or None for latent coding.
        hidden_channels: see `DirectReaderConfig`.
        start: a direct reader to go on from, of this edge or another one; its hidden channels are used. If its tensors
            have another number of channels, its first layers are replaced by new ones.
        split: for latent coding, the last layer of the front-end; None means the default of the detector.
    """

    detector: str | Path
    bottleneck: Path | None
    hidden_channels: tuple[int, int, int] = DirectReaderConfig.hidden_channels
    start: Path | None = None
    split: int | None = None


def train_direct_reader(task: DirectReaderTask, data: PlateWindowData, options: LoopOptions) -> Path:
    """Run the stage.

    Returns:
        the checkpoint of the last step. The checkpoint that is best on the held-out plates is in the same folder.

    Raises:
        FeatcodecError: bad input, several tensors that cross the wire, or training that diverged.
    """
    model = frozen_model(task.detector, task.bottleneck, task.split)
    check_one_tensor(model, "a direct reader")
    torch.manual_seed(options.seed)
    reader = _new_reader(task, model)
    settings: dict[str, Any] = {
        "stage": "direct-reader",
        "data": {"plates": len(data.images), "held_out": len(data.held_out)},
        "edge": model.edge_fingerprint.hex(),
        "hidden_channels": list(reader.config.hidden_channels),
        "start": None if task.start is None else task.start.name,
        **({} if task.split is None else {"split": task.split}),
    }
    loop = Loop(options, settings)
    model.to(loop.device)
    network = loop.train("direct-reader", reader, decays=lambda parameter: parameter.ndim > 1)
    coding = SimulatedCoding(model.quantizer.low, model.quantizer.high, *_QPS, uncoded=_UNCODED)

    def save_models(which: str, metrics: Mapping[str, float]) -> None:
        reader.config = replace(reader.config, training={**loop.settings, "metrics": dict(metrics)})
        save_direct_reader(options.output / f"{which}-{DIRECT_READER_FILE}", reader)

    def batches(first_step: int) -> Iterator[Batch]:
        steps = range(first_step, options.steps)
        return window_batches(data.images, options.batch_size, steps, options.seed, rank=loop.fabric.global_rank)

    def held_out() -> Mapping[str, float]:
        return held_out_direct_reading(loop, data.held_out, model, reader, network)

    for step, batch in loop.steps(batches, save_models, held_out if len(data.held_out) else None):
        pictures, boxes = _as_tensors(loop, batch)
        with loop.autocast():
            windows = _windows_of(model, pictures, coding)
            logits = network(windows, boxes)
        targets = as_targets(reader, batch[2]).to(loop.device)
        loss = reading_loss(logits, targets)
        loop.descend("direct-reader", loss)
        loop.log(step, {"loss": loss, "characters": share_of_characters(logits, targets)})
        if (step + 1) % options.save_every == 0:
            loop.show(step, "plates", pictures[:_SHOWN])
    return options.output / f"last-{DIRECT_READER_FILE}"


def held_out_direct_reading(
    loop: Loop, plates: PlateWindows, model: SplitModel, reader: DirectReader, network: nn.Module
) -> dict[str, float]:
    """Loss and share of characters read in uncompressed tensors of plates as they are."""
    terms = []
    for batch in plain_batches(plates, loop.options.batch_size):
        pictures, boxes = _as_tensors(loop, batch)
        logits = network(_windows_of(model, pictures), boxes)
        targets = as_targets(reader, batch[2]).to(loop.device)
        values = {"loss": reading_loss(logits, targets), "characters": share_of_characters(logits, targets)}
        terms.append((len(targets), values))
    return mean_of(terms)


def _new_reader(task: DirectReaderTask, model: SplitModel) -> DirectReader:
    edge = model.edge_fingerprint.hex()
    config = DirectReaderConfig(
        model.channels,
        edge,
        hidden_channels=task.hidden_channels,
        split=model.split,
        pixels_per_sample=model.pixels_per_sample,
    )
    if task.start is None:
        return DirectReader(config)
    start = load_direct_reader(task.start)
    if start.alphabets != PLATE_FORMAT:
        raise InputError(f"{task.start}: reads plates of another format; leave `start` out")
    reader = DirectReader(replace(config, hidden_channels=start.config.hidden_channels))
    new = reader.state_dict()
    fitting = {name: tensor for name, tensor in start.state_dict().items() if tensor.shape == new[name].shape}
    reader.load_state_dict({**new, **fitting})
    return reader


def _as_tensors(loop: Loop, batch: Batch) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, 160, 256) float RGB in [0, 1] and boxes, on the device."""
    pictures, boxes, _ = batch
    as_input = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    return as_input.to(loop.device), torch.from_numpy(boxes).to(loop.device)


def _windows_of(model: SplitModel, pictures: Tensor, coding: SimulatedCoding | None = None) -> Tensor:
    """(B, grid_channels, 10, 24): the middle of the tensors on the reader's grid, uncompressed or after coding."""
    with torch.no_grad():
        tensors: Features = tensor_of(model, features_of(model.detector, pictures))
        if coding is not None:
            tensors = simulate_coding(tensors, coding).decoded
    assert isinstance(tensors, Tensor)  # noqa: S101  (`check_one_tensor` refused several)
    arranged = on_grid(tensors, model.pixels_per_sample)
    return arranged[:, :, BORDER_ROWS:-BORDER_ROWS, BORDER_COLUMNS:-BORDER_COLUMNS]
