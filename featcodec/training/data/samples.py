"""Augmented samples of a training set.

The augmentation is ultralytics' own. This module adds three things. Sample n depends on (seed, n) alone, so that a run
resumes bit for bit. No file is written beside the user's images. Images without labels can be used too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import featcodec.detectors.ultralytics_quiet  # noqa: F401  (before anything of ultralytics)

# isort: split
import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from ultralytics.data.augment import Albumentations, RandomPerspective
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import DEFAULT_CFG

from featcodec.errors import InputError
from featcodec.images.letterbox import Letterbox
from featcodec.training.data.datasets import LabelledImage

MEMORY = 2 << 30
"""Most bytes of decoded images that all workers together keep."""

# Independent streams of random numbers from one seed.
_SAMPLE_STREAM, _ORDER_STREAM = range(2)


@dataclass(frozen=True)
class Augmentation:
    """How images vary. Names, defaults and effects are those of YOLOv5 and ultralytics.

    Attributes:
        image_size: longer side of an image in pixels, a multiple of 32 up to 4096.
        crop: side of the square samples in pixels, a multiple of 32, at most `image_size`; None means `image_size`. A
            smaller sample is cut from a random place in the image. Objects keep the size that they have at
            `image_size`, and the sample costs less.
        mosaic: probability that a sample is made from four images.
        hsv_h, hsv_s, hsv_v: largest change of hue, saturation and value, as fractions.
        scale: the image is scaled by 1 - scale to 1 + scale.
        translate: the image is moved by up to this fraction of the sample.
        fliplr: probability of a left-right flip.

    Raises:
        InputError: a value is out of range.
    """

    image_size: int = 512
    crop: int | None = None
    mosaic: float = 1.0
    hsv_h: float = 0.015
    hsv_s: float = 0.7
    hsv_v: float = 0.4
    scale: float = 0.5
    translate: float = 0.1
    fliplr: float = 0.5

    def __post_init__(self) -> None:
        Letterbox.fit(1, 1, self.image_size)  # refuses sizes that a detector does not take
        Letterbox.fit(1, 1, self.sample_size)
        if self.sample_size > self.image_size:
            raise InputError(f"crop {self.crop} is larger than the image size {self.image_size}; make it smaller")
        for name in ("mosaic", "hsv_h", "hsv_s", "hsv_v", "translate", "fliplr"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} {getattr(self, name)} is not a number from 0 to 1")
        if not 0 <= self.scale < 1:
            raise InputError(f"scale {self.scale} is not a number from 0 to below 1")

    @property
    def sample_size(self) -> int:
        """Side of a sample in pixels."""
        return self.image_size if self.crop is None else self.crop


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """One augmented image.

    Attributes:
        image: (3, S, S) uint8 RGB in [0, 255].
        boxes: (N, 4) float32, centre x, centre y, width, height as fractions of S.
        classes: (N,) int64.
        labelled: whether the boxes are complete; False for an image without labels, which has N = 0.
    """

    image: Tensor
    boxes: Tensor
    classes: Tensor
    labelled: bool


class _DecodedImages:
    """Decoded images in the form that ultralytics needs, kept up to a number of bytes.

    The first images stay. Images are asked for in random order, so replacing them by later images gains nothing.
    """

    def __init__(self, image_size: int, memory: int) -> None:
        self.image_size = image_size
        self._left = memory
        self._kept: dict[Path, tuple[npt.NDArray[np.uint8], tuple[int, int]]] = {}

    def load(self, source: LabelledImage) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
        """The image as (height, width, 3) uint8 BGR, the longest side `image_size`; its original (height, width).

        Raises:
            InputError: the image cannot be read.
        """
        if source.path in self._kept:
            return self._kept[source.path]
        image = source.read()
        height, width, _ = original = image.shape
        gain = self.image_size / max(height, width)
        if gain != 1:
            # Rounding and interpolation are those of training in ultralytics and YOLOv5.
            resized = (min(math.ceil(side * gain), self.image_size) for side in (width, height))
            image = cv2.resize(image, tuple(resized), interpolation=cv2.INTER_LINEAR)
        image = np.ascontiguousarray(image[:, :, ::-1])
        image.flags.writeable = False
        loaded = image, original[:2]
        if image.nbytes <= self._left:
            self._left -= image.nbytes
            self._kept[source.path] = loaded
        return loaded


class _AugmentedImages(YOLODataset):
    """ultralytics' data set over a list of images. It uses no *.cache and *.npy files and does not search the folder.

    Item i is image i, augmented with the global random numbers, as a dict in ultralytics' format.
    """

    def __init__(self, images: Sequence[LabelledImage], augmentation: Augmentation, decoded: _DecodedImages) -> None:
        self.images = images
        self.decoded = decoded
        self.sample_size = augmentation.sample_size
        # All settings are named here, so that other defaults in another version of ultralytics have no effect.
        settings = copy(DEFAULT_CFG)
        for name in ("degrees", "shear", "perspective", "flipud", "bgr", "mixup", "cutmix", "copy_paste"):
            setattr(settings, name, 0.0)
        for name in ("mosaic", "hsv_h", "hsv_s", "hsv_v", "scale", "translate", "fliplr"):
            setattr(settings, name, getattr(augmentation, name))
        settings.augmentations = []
        super().__init__(img_path=[], imgsz=augmentation.image_size, augment=True, hyp=settings, data={"names": {}})

    def get_img_files(self, _img_path: Any) -> list[str]:
        return [str(image.path) for image in self.images]

    def get_labels(self) -> list[dict[str, Any]]:
        return [
            {
                "im_file": str(image.path),
                "cls": image.classes[:, None].astype(np.float32),
                "bboxes": image.boxes,
                "segments": [],
                "normalized": True,
                "bbox_format": "xywh",
            }
            for image in self.images
        ]

    def build_transforms(self, hyp: Any) -> Any:
        # Makes Mosaic draw from the whole set. Otherwise it draws from the images loaded last, and a sample would
        # depend on what came before it.
        self.cache = "ram"
        transforms = super().build_transforms(hyp)
        # The samples must not depend on whether the package albumentations is installed.
        transforms.transforms = [each for each in transforms.transforms if not isinstance(each, Albumentations)]
        for affine in transforms.transforms[0].transforms:
            if isinstance(affine, RandomPerspective):
                # This step cuts the sample out of the middle, moved by up to `translate` of the sample's size.
                affine.size = (self.sample_size, self.sample_size)
                affine.translate += (self.imgsz - self.sample_size) / (2 * self.sample_size)
        return transforms

    def load_image(
        self, i: int, rect_mode: bool = True, resize_short: bool = False
    ) -> tuple[npt.NDArray[np.uint8], tuple[int, int], tuple[int, int]]:
        image, original = self.decoded.load(self.images[i])
        return image, original, image.shape[:2]


class TrainingSamples(Dataset[TrainingSample]):
    """Augmented samples by number. Sample n depends only on the images, the augmentation, the seed and n.

    Every epoch (as many samples as there are images) takes the images in a new order. The images of a mosaic all have
    labels, or all have none. So every sample as a whole either has labels or has none.

    Do not use it in several threads at once. ultralytics draws from the global random numbers of `random` and numpy;
    they are set before each sample and put back after it.

    Args:
        images: at least one image.
        augmentation: how the images vary.
        seed: at least 0.
        count: number of samples.
        memory: most bytes of decoded images that are kept.

    Raises:
        InputError: there are no images, or a number is negative. Reading a sample raises InputError with the name of
            the file when an image cannot be read.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        augmentation: Augmentation,
        seed: int,
        count: int,
        *,
        memory: int = MEMORY,
    ) -> None:
        if not images:
            raise InputError("no images to train on; give at least one")
        at_least(0, seed=seed, count=count)
        self.seed = seed
        self.count = count
        decoded = _DecodedImages(augmentation.image_size, memory)
        kinds: dict[bool, list[LabelledImage]] = {True: [], False: []}
        self._places = []
        for image in images:
            self._places.append((image.labelled, len(kinds[image.labelled])))
            kinds[image.labelled].append(image)
        self._kinds = {kind: _AugmentedImages(those, augmentation, decoded) for kind, those in kinds.items()}
        self._order = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> TrainingSample:
        """Sample `number`, from 0 to below the length."""
        if not 0 <= number < self.count:
            raise IndexError(number)
        epoch, position = divmod(number, len(self._places))
        labelled, index = self._places[self._order_of(epoch)[position]]
        seeds = np.random.SeedSequence(self.seed, spawn_key=(_SAMPLE_STREAM, number)).generate_state(4)
        python_state, numpy_state = random.getstate(), np.random.get_state()
        try:
            random.seed(seeds.tobytes())
            np.random.seed(seeds)
            sample = self._kinds[labelled][index]
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
        boxes, classes = sample["bboxes"].to(torch.float32), sample["cls"].flatten().to(torch.int64)
        return TrainingSample(sample["img"], boxes, classes, labelled)

    def _order_of(self, epoch: int) -> npt.NDArray[np.int64]:
        if self._order[0] != epoch:
            seed = np.random.SeedSequence(self.seed, spawn_key=(_ORDER_STREAM, epoch))
            self._order = epoch, np.random.default_rng(seed).permutation(len(self._places))
        return self._order[1]


def at_least(least: int, **numbers: int) -> None:
    """Raise InputError if a number is below `least`."""
    for name, number in numbers.items():
        if number < least:
            raise InputError(f"{name.replace('_', ' ')} {number} is below {least}")
