"""Letterbox: fits an image into the detector's input and maps boxes back (as YOLOv5 does for validation)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from featcodec.bitstream import SideInfo
from featcodec.errors import InputError
from featcodec.images.resizing import resize

STRIDE = 32
"""The largest stride of most detectors; P6 models have 64. The sides of the letterboxed image are multiples of it."""
PADDING = 114
"""Gray value of the border."""
MAX_IMAGE_SIZE = 4096

S = TypeVar("S", bound=np.generic)


def _opencv() -> Any:
    """OpenCV, or None: an edge may be without it."""
    try:
        import cv2  # noqa: PLC0415
    except ImportError:
        return None
    return cv2


cv2 = _opencv()


@dataclass(frozen=True)
class Letterbox:
    """How one image lies in the detector's input. The bitstream holds these four numbers.

    Attributes:
        original_width, original_height: size of the original image in pixels.
        width, height: size of the letterboxed image in pixels; the longer side is the image size.
    """

    original_width: int
    original_height: int
    width: int
    height: int

    @classmethod
    def fit(
        cls, original_width: int, original_height: int, image_size: int, *, square: bool = False, stride: int = STRIDE
    ) -> Letterbox:
        """Scale the longest side to `image_size` and pad to multiples of the stride, or to a square.

        Args:
            original_width, original_height: pixels, at least 1.
            image_size: pixels of the longest side, a multiple of the stride up to 4096.
            square: pad to image_size x image_size.
            stride: the largest stride of the detector, 32 or 64.

        Raises:
            InputError: the image size is not a multiple of the stride, from the stride to 4096.
        """
        if image_size % stride or not stride <= image_size <= MAX_IMAGE_SIZE:
            raise InputError(f"image size {image_size} is not a multiple of {stride} from {stride} to {MAX_IMAGE_SIZE}")
        if square:
            return cls(original_width, original_height, image_size, image_size)
        gain = image_size / max(original_width, original_height)
        width, height = (-(-_scaled(side, gain) // stride) * stride for side in (original_width, original_height))
        return cls(original_width, original_height, width, height)

    @property
    def resized(self) -> tuple[int, int]:
        """(width, height) of the scaled image inside the border."""
        gain = max(self.width, self.height) / max(self.original_width, self.original_height)
        return min(_scaled(self.original_width, gain), self.width), min(
            _scaled(self.original_height, gain), self.height
        )

    @property
    def offset(self) -> tuple[int, int]:
        """The (left, top) border in pixels. An odd pixel goes to the right or to the bottom."""
        width, height = self.resized
        return (self.width - width) // 2, (self.height - height) // 2

    def apply(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The letterboxed image.

        Args:
            image: (original_height, original_width, 3) uint8.

        Returns:
            (height, width, 3) uint8. A larger image is shrunk by area interpolation, a smaller image is enlarged
            bilinearly. The border has the value 114.
        """
        width, height = self.resized
        shrinks = max(width, height) < max(self.original_width, self.original_height)
        if (width, height) != (self.original_width, self.original_height):
            if cv2 is None:
                image = resize(image, width, height, shrinks=shrinks)
            else:
                interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
                image = cv2.resize(image, (width, height), interpolation=interpolation)
        canvas = np.full((self.height, self.width, 3), PADDING, np.uint8)
        self.crop(canvas)[:] = image
        return canvas

    def crop(self, picture: npt.NDArray[S]) -> npt.NDArray[S]:
        """A letterboxed picture without its border.

        Args:
            picture: (height, width, ...) of any type.

        Returns:
            a view of the picture with the size `resized`.
        """
        left, top = self.offset
        width, height = self.resized
        return picture[top : top + height, left : left + width]

    def place(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Map a box from original pixels to letterboxed pixels.

        Args:
            box: left, top, width, height in original pixels.

        Returns:
            left, top, right, bottom in letterboxed pixels; not clipped.
        """
        (width, height), (left, top) = self.resized, self.offset
        across, down = width / self.original_width, height / self.original_height
        x, y, wide, high = box
        return left + x * across, top + y * down, left + (x + wide) * across, top + (y + high) * down

    def undo(self, xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map boxes (N, 4) from letterboxed pixels to original pixels, clipped to the image."""
        return self.undo_points(xyxy.reshape(-1, 2, 2)).reshape(-1, 4)

    def undo_points(self, points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map points (..., 2) of x and y from letterboxed pixels to original pixels, clipped to the image."""
        width, height = self.resized
        gain = np.array([width / self.original_width, height / self.original_height], np.float32)
        limit = np.array([self.original_width, self.original_height], np.float32)
        undone = (points - np.array(self.offset, np.float32)) / gain
        return np.clip(undone, 0, limit).astype(np.float32, copy=False)


@dataclass(frozen=True, eq=False)
class Letterboxed:
    """An image as the detector sees it.

    Attributes:
        letterbox: how the image lies in the detector's input.
        pixels: (height, width, 3) uint8 RGB.
    """

    letterbox: Letterbox
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Fitting:
    """How images of any size are fitted into a detector's input.

    Attributes:
        image_size: pixels of the longest side, a multiple of the stride up to 4096.
        square: pad to image_size x image_size, instead of the minimum rectangle.
        stride: the largest stride of the detector, 32 or 64.

    Raises:
        InputError: the image size is not a multiple of the stride, from the stride to 4096.
    """

    image_size: int
    square: bool = False
    stride: int = STRIDE

    def __post_init__(self) -> None:
        self.letterbox(1, 1)

    def letterbox(self, width: int, height: int) -> Letterbox:
        """How an image of so many pixels lies in the input."""
        return Letterbox.fit(width, height, self.image_size, square=self.square, stride=self.stride)

    def apply(self, pixels: npt.NDArray[np.uint8]) -> Letterboxed:
        """Fit an image into the input.

        Args:
            pixels: (height, width, 3) uint8 RGB.
        """
        letterbox = self.letterbox(pixels.shape[1], pixels.shape[0])
        return Letterboxed(letterbox, letterbox.apply(pixels))


def letterbox_of(side_info: SideInfo) -> Letterbox:
    """The letterbox of the image of a bitstream."""
    return Letterbox(
        side_info.original_width, side_info.original_height, side_info.letterboxed_width, side_info.letterboxed_height
    )


def _scaled(side: int, gain: float) -> int:
    return max(1, round(side * gain))
