"""Batches of a training set, augmented or only letterboxed. The batch of a step depends on (seed, step) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import featcodec.detectors.ultralytics_quiet  # noqa: F401  (before anything of ultralytics)

# isort: split
import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcodec.errors import InputError, TrainingError
from featcodec.images.letterbox import Letterbox
from featcodec.system.batching import parts, read_ahead
from featcodec.system.workers import processes
from featcodec.training.data.datasets import LabelledImage, packed, unpacked
from featcodec.training.data.samples import MEMORY, Augmentation, TrainingSample, TrainingSamples, at_least

_BATCHES_AHEAD = 2
"""Batches that wait per worker."""


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Images of one size, with the boxes of all of them in one list.

    Attributes:
        images: (B, 3, S, S) uint8 RGB in [0, 255].
        boxes: (N, 4) float32, centre x, centre y, width, height as fractions of S.
        classes: (N,) int64.
        image_index: (N,) int64, for each box the number of its image in the batch.
        labelled: (B,) bool, False for images without labels.
    """

    images: Tensor
    boxes: Tensor
    classes: Tensor
    image_index: Tensor
    labelled: Tensor

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """The fields, in order. The arrays share their memory with the tensors."""
        return tuple(getattr(self, field.name).numpy() for field in fields(self))

    @classmethod
    def from_arrays(cls, arrays: tuple[npt.NDArray[Any], ...]) -> TrainingBatch:
        """Undo `arrays`."""
        return cls(*map(torch.from_numpy, arrays))

    def to(self, device: torch.device | str) -> TrainingBatch:
        """The same batch on a device."""
        return TrainingBatch(
            self.images.to(device),
            self.boxes.to(device),
            self.classes.to(device),
            self.image_index.to(device),
            self.labelled.to(device),
        )


class _TrainingBatches:
    """Item k is the batch of step k."""

    def __init__(
        self, images: Sequence[LabelledImage], *, batch_size: int, rank: int, world_size: int, **of_samples: Any
    ) -> None:
        self.samples = TrainingSamples(images, **of_samples)
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size

    def __getitem__(self, step: int) -> TrainingBatch:
        first = (step * self.world_size + self.rank) * self.batch_size
        return _collate([self.samples[number] for number in range(first, first + self.batch_size)])


def training_batches(  # noqa: PLR0913  (all of them say which batches)
    images: Sequence[LabelledImage],
    augmentation: Augmentation,
    *,
    batch_size: int,
    first_step: int,
    steps: int,
    seed: int,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[TrainingBatch]:
    """The batches of training steps `first_step` to `first_step + steps - 1`, in order.

    Step k has the same batch wherever a run starts, and with any number of workers. In step k, the processes of a
    distributed run together see what one process with `world_size` times the batch size would see.

    Args:
        images: images to train on.
        augmentation: how the images vary.
        batch_size: images per batch of this process.
        first_step: the first step, or the step where a run resumes.
        steps: number of steps.
        seed: at least 0.
        workers: number of processes that prepare batches ahead; 0 makes each batch in this process when it is needed.
        rank, world_size: number of this process, and number of processes.

    Raises:
        InputError: there are no images, or a number is out of range; while iterating: an image cannot be read.
        TrainingError: while iterating: a worker was killed.
    """
    at_least(0, first_step=first_step, steps=steps, workers=workers, rank=rank)
    at_least(1, batch_size=batch_size, world_size=world_size)
    if rank >= world_size:
        raise InputError(f"rank {rank} is not below the world size {world_size}")
    last_step = first_step + steps
    make = partial(
        _TrainingBatches,
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
        augmentation=augmentation,
        seed=seed,
        count=last_step * batch_size * world_size,
        memory=MEMORY // max(1, workers),
    )
    batches = make(images)  # also with workers, because it checks its arguments
    numbers = range(first_step, last_step)
    return _from_workers(make, images, numbers, workers) if workers else map(batches.__getitem__, numbers)


def _from_workers(
    make: Callable[[Sequence[LabelledImage]], _TrainingBatches],
    images: Sequence[LabelledImage],
    steps: range,
    workers: int,
) -> Iterator[TrainingBatch]:
    killed = TrainingError(
        "a process that prepares batches was killed (out of memory?); go on with `resume` and fewer `workers`"
    )
    with processes(workers, killed, __name__, prepare=_start_worker, arguments=(make, packed(images))) as pool:
        for arrays in read_ahead(pool, _arrays_of_step, steps, _BATCHES_AHEAD * workers):
            yield TrainingBatch.from_arrays(arrays)


def letterboxed_batches(images: Sequence[LabelledImage], image_size: int, batch_size: int) -> Iterator[TrainingBatch]:
    """The images in order and without augmentation, as a detector sees them in a square letterbox.

    Args:
        images: any number of images.
        image_size: side of the square in pixels, a multiple of 32 up to 4096.
        batch_size: images per batch; the last batch may have fewer.

    Raises:
        InputError: a number is out of range; while iterating: an image cannot be read.
    """
    at_least(1, batch_size=batch_size)
    Letterbox.fit(1, 1, image_size)
    return (_collate([_letterboxed(image, image_size) for image in group]) for group in parts(images, batch_size))


def _letterboxed(image: LabelledImage, image_size: int) -> TrainingSample:
    pixels = image.read()
    letterbox = Letterbox.fit(pixels.shape[1], pixels.shape[0], image_size, square=True)
    scale = np.array([*letterbox.resized, *letterbox.resized], np.float32)
    offset = np.array([*letterbox.offset, 0, 0], np.float32)
    boxes = (image.boxes * scale + offset) / np.float32(image_size)
    pixels = letterbox.apply(pixels).transpose(2, 0, 1)
    return TrainingSample(
        torch.from_numpy(np.ascontiguousarray(pixels)),
        torch.from_numpy(boxes),
        torch.from_numpy(image.classes),
        image.labelled,
    )


def _collate(samples: Sequence[TrainingSample]) -> TrainingBatch:
    counts = torch.tensor([len(sample.classes) for sample in samples])
    return TrainingBatch(
        torch.stack([sample.image for sample in samples]),
        torch.cat([sample.boxes for sample in samples]),
        torch.cat([sample.classes for sample in samples]),
        torch.repeat_interleave(torch.arange(len(samples)), counts),
        torch.tensor([sample.labelled for sample in samples]),
    )


_of_worker: _TrainingBatches
"""In a worker: the batches. A worker gets them once, because they hold the list of all images."""


def _start_worker(make: Callable[[Sequence[LabelledImage]], _TrainingBatches], images: tuple[Any, ...]) -> None:
    """Use one thread per worker. The workers already run in parallel; more threads would only wait for each other."""
    global _of_worker  # noqa: PLW0603  (a process has nothing else to keep them in)
    _of_worker = make(unpacked(*images))
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _arrays_of_step(step: int) -> tuple[npt.NDArray[Any], ...]:
    return _of_worker[step].arrays()
