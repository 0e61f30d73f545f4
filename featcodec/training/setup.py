"""The frozen networks and the images that every stage starts from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featcodec.detectors import SplitDetector
from featcodec.errors import InputError
from featcodec.networks.features import Features, levels_of
from featcodec.split_model import SplitModel
from featcodec.training.data.batches import TrainingBatch, letterboxed_batches, training_batches
from featcodec.training.data.datasets import LabelledImage
from featcodec.training.data.samples import Augmentation
from featcodec.training.loop import Loop


@dataclass(frozen=True)
class TrainingData:
    """The images of a run.

    Attributes:
        images: images to train on, with and without labels.
        held_out: images that choose the best checkpoint. They are never trained on and are not the validation set.
        augmentation: how images vary.
        workers: number of processes that prepare batches ahead.
    """

    images: Sequence[LabelledImage]
    held_out: Sequence[LabelledImage]
    augmentation: Augmentation
    workers: int = 0

    def describe(self) -> dict[str, Any]:
        """A description of the images for a checkpoint's config, without paths."""
        return {
            "images": len(self.images),
            "labelled": sum(image.labelled for image in self.images),
            "held_out": len(self.held_out),
            "augmentation": asdict(self.augmentation),
            # Older runs do not have it, and go on.
            **({"ignore_exif": True} if any(image.ignore_exif for image in self.images) else {}),
        }


def frozen_model(detector: str | Path, bottleneck: str | Path | None, split: int | None = None) -> SplitModel:
    """The networks around the wire: on the CPU, in eval mode, without gradients, in float32 (autocast lowers it).

    Args:
        detector, bottleneck, split: as `SplitModel.load` takes them.
    """
    return SplitModel.load(detector, bottleneck, split=split, device="cpu", half=False)


def check_one_tensor(model: SplitModel, what: str) -> None:
    """Make sure that one tensor crosses the wire.

    Args:
        model: the networks around the wire.
        what: what needs it, in words.

    Raises:
        InputError: several cross.
    """
    count = len(model.levels)
    if count > 1:
        raise InputError(
            f"{what} is for one tensor, but {count} cross behind layer {model.split}; give a `bottleneck`, which "
            "fuses them"
        )


def check_asked(start: Path, *values: tuple[str, Any, Any]) -> None:
    """Make sure that the checkpoint a run goes on from has the values that were asked for.

    Args:
        start: the checkpoint.
        values: for each value, its words for a message (with "{}" for the number), the checkpoint's value, and the
            value that was asked for. None means that no value was asked for.

    Raises:
        InputError: the checkpoint has another value.
    """
    for words, has, asked in values:
        if asked not in (None, has):
            raise InputError(f"{start}: has {words.format(has)}, not {asked}; leave out this setting, or `start`")


def batches_from(loop: Loop, data: TrainingData, first_step: int) -> Iterator[TrainingBatch]:
    """The batches of this process from a given step on, on the device."""
    options = loop.options
    batches = training_batches(
        data.images,
        data.augmentation,
        batch_size=options.batch_size,
        first_step=first_step,
        steps=options.steps - first_step,
        seed=options.seed,
        workers=data.workers,
        rank=loop.fabric.global_rank,
        world_size=loop.fabric.world_size,
    )
    return (batch.to(loop.device) for batch in batches)


def held_out_batches(loop: Loop, data: TrainingData) -> Iterator[TrainingBatch]:
    """The held-out images, letterboxed to the augmentation's image size, on the device."""
    size = data.augmentation.image_size
    return (batch.to(loop.device) for batch in letterboxed_batches(data.held_out, size, loop.options.batch_size))


def as_pictures(batch: TrainingBatch) -> Tensor:
    """(B, 3, H, W) float32 RGB in [0, 1]."""
    return batch.images.float() / 255


def features_of(detector: SplitDetector, pictures: Tensor) -> Features:
    """The front-end's feature tensor, or its levels, without gradient."""
    with torch.no_grad():
        return detector.front(pictures)


def tensor_of(model: SplitModel, features: Features) -> Tensor:
    """The one tensor that crosses the wire, (B, C, H, W) before coding; `check_one_tensor` refuses several."""
    if model.bottleneck is not None:
        return model.bottleneck.encode(features)
    (tensor,) = levels_of(features)
    return tensor


def tensors_of(model: SplitModel, pictures: Tensor) -> Features:
    """The tensors that cross the wire, uncompressed and without gradient."""
    with torch.no_grad():
        return model.encode(pictures)
