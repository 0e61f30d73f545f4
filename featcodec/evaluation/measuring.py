"""The work of a sweep on some images: what is done once for all points (`prepare`), and for each point (`score`).

It has no state, so threads share it (`bench`), and other machines can do it (`featcodec.cluster.sweep`).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from featcodec.evaluation.methods import Method, Picture, Samples
from featcodec.images.letterbox import Letterboxed
from featcodec.images.reading import reading
from featcodec.pipeline.coding import CODED_SAMPLES
from featcodec.pipeline.common import network_parts
from featcodec.privacy.similarity import similarity_of
from featcodec.system.batching import parts
from featcodec.system.paths import Source

BATCH = 8
"""The largest number of images that one encoder process codes."""

S = TypeVar("S")
D = TypeVar("D")


@dataclass(frozen=True)
class Item(Generic[S]):
    """A prepared image, without its samples.

    Attributes:
        number: which image of the data set it is.
        side_info: what the method keeps beside the samples.
        shape: of the samples.
        pixels: number of letterboxed pixels.
        original: (width, height) of the original image.
    """

    number: int
    side_info: S
    shape: tuple[int, ...]
    pixels: int
    original: tuple[int, int]


@dataclass(frozen=True)
class Scored:
    """The outcome of one image at one point.

    Attributes:
        number: which image of the data set it is.
        bytes, slice_bytes: size of the file, and of what is coded picture data in it.
        original: (width, height) of the original image.
        results: the detections as COCO results.
        quality: the scores of the attack by their names, or None without an attack.
    """

    number: int
    bytes: int
    slice_bytes: int
    original: tuple[int, int]
    results: list[dict[str, Any]]
    quality: Mapping[str, float] | None


@dataclass
class Clock:
    """Seconds by stage, summed over images."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - started})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add the times of other work."""
        for stage, value in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + value


@dataclass(frozen=True, eq=False)
class Measuring(Generic[S, D]):
    """A method on the images of a data set.

    Attributes:
        method: the method.
        sources: the images.
        image_ids: the id of each image in the annotations.
        categories: the category id of each class of the detector, as `Detections.to_coco` takes them.
        ignore_exif: how the images are read; see `read_image`.
    """

    method: Method[S, D]
    sources: Sequence[Source]
    image_ids: Sequence[int | str]
    categories: dict[int, int]
    ignore_exif: bool

    def read(self, number: int) -> tuple[int, Letterboxed]:
        """Read an image.

        Raises:
            InputError: it cannot be read.
        """
        with reading(self.sources[number].path, ignore_exif=self.ignore_exif) as pixels:
            return number, self.method.codec.letterbox(pixels)

    def prepare(self, images: Sequence[tuple[int, Letterboxed]], clock: Clock) -> list[tuple[Item[S], Samples]]:
        """Do all steps before the picture is coded.

        Args:
            images: numbered images of one letterboxed shape, not more than the networks take at once.
            clock: gets the time of the front-end.
        """
        with clock.of("front_end"):
            prepared = self.method.prepare([image for _, image in images])
        return [
            (Item(number, side_info, samples.shape, pixels_of(image), _original(image)), samples)
            for (number, image), (side_info, samples) in zip(images, prepared, strict=True)
        ]

    def score(self, value: int | None, batch: Sequence[tuple[Item[S], Samples]], clock: Clock) -> list[Scored]:
        """Code, decode and score images at a point.

        Args:
            value: QP or quality; None for a method without a parameter.
            batch: images of one shape, not more than one encoder process codes (`batches_of`).
            clock: gets the times of the stages.
        """
        method, items = self.method, [item for item, _ in batch]
        with clock.of("encode"):
            files = method.encode([(item.side_info, samples) for item, samples in batch], value)
        # From here on only the bytes are used.
        with clock.of("decode"):
            decoded = [method.decode(data, item.original) for data, item in zip(files, items, strict=True)]
        with clock.of("back_end"):
            detections = [one for part in network_parts(decoded, items[0].pixels) for one in method.back_end(part)]
        pictures = [picture for part in network_parts(decoded, items[0].pixels) for picture in method.attack(part)]
        qualities = [self._quality(*pair) for pair in zip(items, pictures, strict=True)] if pictures else []
        return [
            Scored(
                item.number,
                len(data),
                method.slice_bytes(data),
                item.original,
                found.to_coco(self.image_ids[item.number], self.categories),
                qualities[place] if qualities else None,
            )
            for place, (item, data, found) in enumerate(zip(items, files, detections, strict=True))
        ]

    def _quality(self, item: Item[S], picture: Picture) -> dict[str, float]:
        _, image = self.read(item.number)
        original = image.letterbox.crop(image.pixels).astype(np.float32) / 255
        return similarity_of(original, picture)


def batches_of(items: Sequence[Item[S]]) -> list[list[Item[S]]]:
    """Return batches of one shape for encoder processes. The largest come first, so that all cores end together."""
    by_shape: dict[tuple[int, ...], list[Item[S]]] = {}
    for item in items:
        by_shape.setdefault(item.shape, []).append(item)
    batches = [[*batch] for group in by_shape.values() for batch in parts(group, _coded_at_once(group[0]))]
    return sorted(batches, key=lambda batch: -len(batch) * batch[0].pixels)


def _coded_at_once(item: Item[Any]) -> int:
    return max(1, min(BATCH, CODED_SAMPLES // math.prod(item.shape)))


def pixels_of(image: Letterboxed) -> int:
    """The number of letterboxed pixels."""
    return image.letterbox.width * image.letterbox.height


def _original(image: Letterboxed) -> tuple[int, int]:
    return image.letterbox.original_width, image.letterbox.original_height
