"""What encoding and decoding of many files share: bounds, and keeping one bad item from spoiling its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from featcodec.codec import FeatureCodec
from featcodec.errors import FeatcodecError

WAITING_IMAGES = 32
"""How many images may overtake one that waits for others of its shape."""

_NETWORK_BATCH = {"cpu": 4, "mps": 8, "cuda": 16}
_NETWORK_PIXELS = 4 << 20
"""Most pixels in a batch of the networks: four images of 1024x1024."""

T = TypeVar("T")
R = TypeVar("R")


def network_batch(codec: FeatureCodec) -> int:
    """How many images of one shape the networks take at once on the codec's device."""
    return _NETWORK_BATCH[codec.detector.device.type]


def one_bad_apart(run: Callable[[list[T]], Sequence[R]], group: list[T], pixels: int) -> Iterator[tuple[T, R | str]]:
    """Run networks on a group in batches that memory can bear; where a batch fails, on each item alone.

    Args:
        run: takes items and gives a result for each.
        group: items of equal shape.
        pixels: letterboxed pixels of the largest.

    Yields:
        each item with its result, or with one line on what went wrong.
    """
    size = max(1, _NETWORK_PIXELS // pixels)
    for start in range(0, len(group), size):
        batch = group[start : start + size]
        try:
            results = run(batch)
        except (FeatcodecError, RuntimeError, MemoryError) as error:  # torch's allocators raise RuntimeError
            if len(batch) > 1:
                for item in batch:
                    yield from one_bad_apart(run, [item], pixels)
            elif isinstance(error, FeatcodecError):
                yield batch[0], str(error)
            else:
                reason = (str(error).splitlines() or ["out of memory"])[0]
                yield batch[0], f"the networks failed on it ({reason}); use a smaller --image-size or another --device"
        else:
            yield from zip(batch, results, strict=True)


def one_line(error: Exception | str, path: Path) -> str:
    """A message in one line that names the file."""
    text = " ".join(str(error).split())
    return text if str(path) in text else f"{path}: {text}"
