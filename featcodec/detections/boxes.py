"""The detections of one image, and the filter that chooses boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from featcodec.errors import InputError

if TYPE_CHECKING:
    from featcodec.images.reading import ImageLike

_SHOWN = 3


@dataclass(frozen=True)
class BoxFilter:
    """Which boxes are kept. The defaults are those of YOLOv5's COCO validation.

    Attributes:
        conf: boxes with a lower score are dropped, 0..1.
        iou: if boxes of one class overlap more than this, only the best box is kept, 0..1.
        max_det: the largest number of boxes per image, at least 1.

    Raises:
        InputError: a value is out of range.
    """

    conf: float = 0.001
    iou: float = 0.6
    max_det: int = 300

    def __post_init__(self) -> None:
        if not 0 <= self.conf <= 1 or not 0 <= self.iou <= 1 or self.max_det < 1:
            raise InputError(f"{self} is out of range; use 0 to 1 for conf and iou, and at least 1 for max_det")


class Detection(NamedTuple):
    """One box.

    Attributes:
        xyxy: left, top, right, bottom in pixels of the original image.
        score: in (0, 1].
        class_id: index into the detector's class names.
        name: the class name.
    """

    xyxy: tuple[float, float, float, float]
    score: float
    class_id: int
    name: str


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The boxes of one image, best first. You can iterate over the boxes, index them, `filter` them and `draw` them.

    Attributes:
        xyxy: (N, 4) float32; left, top, right, bottom in pixels of the original image, inside it.
        scores: (N,) float32 in (0, 1].
        class_ids: (N,) int64, indices into `names`.
        names: the detector's class names.
        width, height: size of the original image in pixels.
    """

    xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    names: tuple[str, ...]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        return map(self._one, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice | list[int] | list[bool] | npt.NDArray[Any]) -> Detections: ...
    def __getitem__(self, index: int | slice | list[int] | list[bool] | npt.NDArray[Any]) -> Detection | Detections:
        """One box, or some of them.

        Args:
            index: a number for one box; a slice, a list or array of numbers, or (N,) booleans for some boxes.

        Raises:
            IndexError: there is no such box.
        """
        if isinstance(index, (int, np.integer)):
            return self._one(range(len(self))[index])
        # An empty list would become an array of floats, which numpy does not take as an index.
        chosen = index if isinstance(index, slice) else np.asarray(index, dtype=None if len(index) else np.int64)
        return replace(self, xyxy=self.xyxy[chosen], scores=self.scores[chosen], class_ids=self.class_ids[chosen])

    def filter(self, score: float = 0.25, names: str | Iterable[str] | None = None) -> Detections:
        """Only the boxes with a high enough score and, if `names` is given, of these classes.

        Args:
            score: boxes with a lower score are dropped, 0 to 1.
            names: class names that are kept; None keeps all.

        Raises:
            InputError: the detector has no class of that name.
        """
        kept = self.scores >= score
        if names is not None:
            wanted = [names] if isinstance(names, str) else list(names)
            if unknown := [name for name in wanted if name not in self.names]:
                raise InputError(f"the detector has no class {unknown[0]!r}; its classes are {', '.join(self.names)}")
            kept &= np.isin(self.class_ids, [index for index, name in enumerate(self.names) if name in wanted])
        return self[kept]

    def draw(self, image: ImageLike, score: float = 0.25) -> npt.NDArray[np.uint8]:
        """The image with the boxes on it.

        Args:
            image: the original image: a path, a PIL image, or a (height, width, 3) uint8 RGB array.
            score: boxes below it are left out.

        Returns:
            (height, width, 3) uint8 RGB.

        Raises:
            InputError: the image cannot be read, or its size is not the size that the detections were made on.
        """
        from featcodec.detections.drawing import draw_boxes  # noqa: PLC0415  (it imports this module)

        return draw_boxes(image, self, least_score=score)

    def __repr__(self) -> str:
        shown = ", ".join(f"{each.name} {each.score:.2f}" for each in self[:_SHOWN])
        more = ", ..." if len(self) > _SHOWN else ""
        return f"Detections({len(self)} boxes on {self.width}x{self.height} pixels: {shown}{more})"

    def _one(self, index: int) -> Detection:
        class_id = int(self.class_ids[index])
        left, top, right, bottom = self.xyxy[index].tolist()
        return Detection((left, top, right, bottom), float(self.scores[index]), class_id, self.names[class_id])

    def to_coco(
        self, image_id: int | str, category_ids: Mapping[int, int] | None = None, name: PurePath | None = None
    ) -> list[dict[str, Any]]:
        """The boxes as COCO results (https://cocodataset.org/#format-results).

        Args:
            image_id: the image's id in the annotation file.
            category_ids: class id -> category id. Classes that are not in it are left out. With None, a detector of
                COCO's 80 classes uses COCO's own ids (1..90), and any other detector uses its class ids.
            name: the image's path within its run, without ending (`Source.name`).

        Returns:
            dicts of image_id, image_name (if there is a name), image_size [width, height] in pixels (annotations of
            images of another size do not fit), category_id, category_name (the class name), bbox [left, top, width,
            height] and score. The names say what is meant also if an annotation file has other ids.
        """
        if category_ids is None:
            category_ids = default_category_ids(self.names)
        image = {
            "image_id": image_id,
            **({} if name is None else {"image_name": name.as_posix()}),
            "image_size": [self.width, self.height],
        }
        results = []
        for box, score, class_id in zip(self.xyxy.tolist(), self.scores.tolist(), self.class_ids.tolist(), strict=True):
            if class_id in category_ids:
                bbox = [round(value, 3) for value in (box[0], box[1], box[2] - box[0], box[3] - box[1])]
                category = {"category_id": category_ids[class_id], "category_name": self.names[class_id]}
                results.append({**image, **category, "bbox": bbox, "score": round(score, 6)})
        return results


# The COCO-2017 detection categories: their ids have gaps (https://cocodataset.org/#detection-2017).
_COCO_GAPS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
COCO_IDS = tuple(category for category in range(1, 91) if category not in _COCO_GAPS)
_COCO_SIGNATURE = {0: "person", 9: "traffic light", 39: "bottle", 79: "toothbrush"}


def default_category_ids(names: tuple[str, ...]) -> dict[int, int]:
    """Class id -> category id, without an annotation file; see `Detections.to_coco`."""
    is_coco = len(names) == len(COCO_IDS) and all(names[index] == name for index, name in _COCO_SIGNATURE.items())
    return dict(enumerate(COCO_IDS)) if is_coco else {index: index for index in range(len(names))}
