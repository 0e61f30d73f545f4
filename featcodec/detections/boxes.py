"""The detections of one image, with masks or keypoints if a detector finds them, and the filter that chooses boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from featcodec.detections.masks import Mask
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


class _Box(NamedTuple):
    xyxy: tuple[float, float, float, float]
    score: float
    class_id: int
    name: str


class Detection(_Box):
    """One box: a named tuple of its first four attributes.

    Attributes:
        xyxy: left, top, right, bottom in pixels of the original image.
        score: in (0, 1].
        class_id: index into the detector's class names.
        name: the class name.
        mask: the pixels of the object, or None if the detector does not find masks.
        keypoints: (K, 3) float32, see `Detections.keypoints`, or None if the detector does not find them.
    """

    # Not fields of the tuple: programs take it apart into four.
    mask: Mask | None = None
    keypoints: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The boxes of one image, best first. You can iterate over the boxes, index them, `filter` them and `draw` them.

    Attributes:
        xyxy: (N, 4) float32; left, top, right, bottom in pixels of the original image, inside it.
        scores: (N,) float32 in (0, 1].
        class_ids: (N,) int64, indices into `names`.
        names: the detector's class names.
        width, height: size of the original image in pixels.
        masks: N masks of the size of the original image, or None if the detector does not find masks. A mask may be
            empty.
        keypoints: (N, K, 3) float32, or None if the detector does not find keypoints: x and y in pixels of the original
            image, inside it, and a score in [0, 1] that the keypoint can be seen (1 if the detector does not say it).
    """

    xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    names: tuple[str, ...]
    width: int
    height: int
    masks: tuple[Mask, ...] | None = None
    keypoints: npt.NDArray[np.float32] | None = None

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
        masks = self.masks
        if masks is not None:
            masks = tuple(masks[place] for place in np.arange(len(self))[chosen])
        return replace(
            self,
            xyxy=self.xyxy[chosen],
            scores=self.scores[chosen],
            class_ids=self.class_ids[chosen],
            masks=masks,
            keypoints=None if self.keypoints is None else self.keypoints[chosen],
        )

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
        """The image with the boxes on it, and with their masks or keypoints if there are any.

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
        further = "" if self.masks is None else " with masks"
        if self.keypoints is not None:
            further += f" with {self.keypoints.shape[1]} keypoints"
        return f"Detections({len(self)} boxes{further} on {self.width}x{self.height} pixels: {shown}{more})"

    def _one(self, index: int) -> Detection:
        class_id = int(self.class_ids[index])
        left, top, right, bottom = self.xyxy[index].tolist()
        found = Detection((left, top, right, bottom), float(self.scores[index]), class_id, self.names[class_id])
        if self.masks is not None:
            found.mask = self.masks[index]
        if self.keypoints is not None:
            found.keypoints = self.keypoints[index]
        return found

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
            height] and score. The names say what is meant also if an annotation file has other ids. With masks, also
            segmentation (an RLE of size and counts); with keypoints, also keypoints: x, y and score of each in turns.
        """
        if category_ids is None:
            category_ids = default_category_ids(self.names)
        image = {
            "image_id": image_id,
            **({} if name is None else {"image_name": name.as_posix()}),
            "image_size": [self.width, self.height],
        }
        results = []
        boxes = zip(self.xyxy.tolist(), self.scores.tolist(), self.class_ids.tolist(), strict=True)
        for place, (box, score, class_id) in enumerate(boxes):
            if class_id in category_ids:
                bbox = [round(value, 3) for value in (box[0], box[1], box[2] - box[0], box[3] - box[1])]
                category = {"category_id": category_ids[class_id], "category_name": self.names[class_id]}
                results.append({**image, **category, "bbox": bbox, "score": round(score, 6), **self._further(place)})
        return results

    def _further(self, place: int) -> dict[str, Any]:
        """What COCO's results have besides the box."""
        further: dict[str, Any] = {}
        if self.masks is not None:
            further["segmentation"] = self.masks[place].to_coco()
        if self.keypoints is not None:
            further["keypoints"] = [round(value, 3) for value in self.keypoints[place].ravel().tolist()]
        return further


# The COCO-2017 detection categories: their ids have gaps (https://cocodataset.org/#detection-2017).
_COCO_GAPS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
COCO_IDS = tuple(category for category in range(1, 91) if category not in _COCO_GAPS)
_COCO_SIGNATURE = {0: "person", 9: "traffic light", 39: "bottle", 79: "toothbrush"}


def default_category_ids(names: tuple[str, ...]) -> dict[int, int]:
    """Class id -> category id, without an annotation file; see `Detections.to_coco`."""
    is_coco = len(names) == len(COCO_IDS) and all(names[index] == name for index, name in _COCO_SIGNATURE.items())
    return dict(enumerate(COCO_IDS)) if is_coco else {index: index for index in range(len(names))}
