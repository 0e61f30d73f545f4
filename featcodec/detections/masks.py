"""The mask of an object: which pixels of an image belong to it, kept as COCO's run-length code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featcodec.images import rle


@dataclass(frozen=True)
class Mask:
    """Which pixels of an image belong to an object.

    Attributes:
        width, height: size of the image in pixels.
        counts: the pixels as COCO's compressed run-length code (RLE), as `pycocotools.mask` reads and writes it.
    """

    width: int
    height: int
    counts: str

    @classmethod
    def of(
        cls,
        pixels: npt.NDArray[np.bool_],
        left: int = 0,
        top: int = 0,
        width: int | None = None,
        height: int | None = None,
    ) -> Mask:
        """The mask of given pixels.

        Args:
            pixels: (h, w) bool, the part of the image outside of which there is nothing of the object.
            left, top: where the part lies in the image.
            width, height: size of the image in pixels; None is that of the part.
        """
        h, w = pixels.shape
        width, height = w if width is None else width, h if height is None else height
        return cls(width, height, rle.encode(pixels, left, top, width, height))

    def pixels(self) -> npt.NDArray[np.bool_]:
        """The mask as (height, width) bool.

        Raises:
            ValueError: the counts are not those of a mask of this size.
        """
        return rle.decode(self.counts, self.width, self.height)

    @property
    def area(self) -> int:
        """The number of pixels that belong to the object."""
        return int(rle.runs_of(self.counts, self.width, self.height)[1::2].sum())

    def to_coco(self) -> dict[str, Any]:
        """The mask as COCO's results have it: size [height, width], and the counts as text."""
        return {"size": [self.height, self.width], "counts": self.counts}
