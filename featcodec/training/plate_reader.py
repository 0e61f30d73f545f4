"""Train the reader of number plates, which measures how much private text survives an attack.

The reader learns from the originals, degraded at random. A stronger reader learns from what an attack really leaves:
give the folder of reconstructions (of training images, by `featcodec invert`) after the folder of the originals. The
reconstructions are hardly degraded further.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featcodec.errors import InputError
from featcodec.privacy.plate_reader import (
    PlateReader,
    PlateReaderConfig,
    as_input,
    load_plate_reader,
    save_plate_reader,
)
from featcodec.privacy.private_details import read_private_details
from featcodec.privacy.readers import Pixels
from featcodec.privacy.text_head import PLATE_FORMAT, TextReader
from featcodec.training.data.plate_crops import PlateCrops, read_plate_crops, training_batches
from featcodec.training.loop import Loop
from featcodec.training.loop_options import LoopOptions
from featcodec.training.losses.objective import mean_of

PLATE_READER_FILE = "plate-reader.safetensors"
_SHOWN = 16


@dataclass(frozen=True, eq=False)
class PlateData:
    """The plates of a run.

    Attributes:
        images: plates to train on.
        held_out: plates that choose the best checkpoint; degraded once, always in the same way.
    """

    images: PlateCrops
    held_out: PlateCrops

    @classmethod
    def read(cls, private: Path, folders: Sequence[Path], held_out: int = 0) -> PlateData:
        """Read the plates that a file of private details lists as readable, from one or several copies of the images.

        Args:
            private: the file of private details.
            folders: the folder of the originals first; see `read_plate_crops`.
            held_out: number of images to hold out, in all folders.

        Raises:
            InputError: an unreadable file, an empty folder, or a text that does not fit `PLATE_FORMAT`.
        """
        data = cls(*read_plate_crops(read_private_details(private), folders, held_out))
        check_texts(private, (*data.images.texts, *data.held_out.texts))
        return data


def check_texts(private: Path, texts: Iterable[str]) -> None:
    """Raise InputError if a text of a file of private details does not fit `PLATE_FORMAT`."""
    for text in texts:
        if len(text) != len(PLATE_FORMAT) or any(
            one not in alphabet for one, alphabet in zip(text, PLATE_FORMAT, strict=True)
        ):
            raise InputError(
                f"{private}: a plate says {text[:20]!a}, not two letters, two digits and three letters (without "
                "I, O and Q); mark the plate as not readable"
            )


@dataclass(frozen=True)
class PlateReaderTask:
    """What to train.

    Attributes:
        config: config of the network; its alphabets are `PLATE_FORMAT`.
        start: a reader to go on from, instead of random weights; its config is used instead of `config`.
    """

    config: PlateReaderConfig = field(default_factory=PlateReaderConfig)
    start: Path | None = None


def train_plate_reader(task: PlateReaderTask, data: PlateData, options: LoopOptions) -> Path:
    """Run the stage.

    Returns:
        the checkpoint of the last step. The checkpoint that is best on the held-out plates is in the same folder.

    Raises:
        FeatcodecError: bad input, or training that diverged.
    """
    torch.manual_seed(options.seed)
    reader = PlateReader(task.config) if task.start is None else load_plate_reader(task.start)
    if reader.config.alphabets != PLATE_FORMAT:
        raise InputError(f"{task.start}: reads plates of another format; leave `start` out")
    settings: dict[str, Any] = {
        "stage": "plate-reader",
        "data": {"plates": len(data.images), "held_out": len(data.held_out)},
        "alphabets": list(reader.config.alphabets),
        "channels": list(reader.config.channels),
        "start": None if task.start is None else task.start.name,
    }
    loop = Loop(options, settings)
    network = loop.train("plate-reader", reader, decays=lambda parameter: parameter.ndim > 1)

    def save_models(which: str, metrics: Mapping[str, float]) -> None:
        reader.config = replace(reader.config, training={**loop.settings, "metrics": dict(metrics)})
        save_plate_reader(options.output / f"{which}-{PLATE_READER_FILE}", reader)

    def batches(first_step: int) -> Iterator[tuple[Pixels, list[str]]]:
        steps = range(first_step, options.steps)
        return training_batches(data.images, options.batch_size, steps, options.seed, rank=loop.fabric.global_rank)

    def held_out() -> Mapping[str, float]:
        return held_out_reading(loop, data.held_out, reader, network)

    for step, (crops, texts) in loop.steps(batches, save_models, held_out if len(data.held_out) else None):
        pictures = as_input(crops).to(loop.device)
        with loop.autocast():
            logits = network(pictures)
        targets = as_targets(reader, texts).to(loop.device)
        loss = reading_loss(logits, targets)
        loop.descend("plate-reader", loss)
        loop.log(step, {"loss": loss, "characters": share_of_characters(logits, targets)})
        if (step + 1) % options.save_every == 0:
            loop.show(step, "degraded plates", pictures[:_SHOWN])
    return options.output / f"last-{PLATE_READER_FILE}"


def held_out_reading(loop: Loop, plates: PlateCrops, reader: PlateReader, network: nn.Module) -> dict[str, float]:
    """Loss and share of characters read on degraded plates, always the same; and that share on plates as they are."""
    size = loop.options.batch_size
    degraded = training_batches(plates, size, range(-(-len(plates) // size)), seed=0)
    terms = []
    for crops, texts in degraded:
        logits, targets = network(as_input(crops).to(loop.device)), as_targets(reader, texts).to(loop.device)
        loss, characters = reading_loss(logits, targets), share_of_characters(logits, targets)
        terms.append((size, {"loss": loss, "characters": characters}))
    for first in range(0, len(plates), size):
        crops, texts = plates.plain[first : first + size], [*plates.texts[first : first + size]]
        logits, targets = network(as_input(crops).to(loop.device)), as_targets(reader, texts).to(loop.device)
        terms.append((len(texts), {"plain characters": share_of_characters(logits, targets)}))
    return mean_of(terms)


def as_targets(reader: TextReader, texts: Sequence[str]) -> Tensor:
    """The classes of the characters of texts in the reader's format, (B, positions) int64."""
    characters = reader.characters
    return torch.from_numpy(np.array([[characters.index(one) for one in text] for text in texts], np.int64))


def reading_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the network's output and (B, positions) classes, as a mean over characters."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def share_of_characters(logits: Tensor, targets: Tensor) -> Tensor:
    """The share of characters that are read correctly."""
    return (logits.argmax(-1) == targets).float().mean()
