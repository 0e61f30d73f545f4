"""What a detector found in one image. Knows nothing of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featcodec.errors import InputError


@dataclass(frozen=True)
class BoxFilter:
    """Which boxes count. The defaults are those of YOLOv5's COCO validation.

    Attributes:
        conf: boxes of a lower score do not count, 0..1.
        iou: boxes of a class that overlap more than this are one, 0..1.
        max_det: most boxes an image, at least 1.

    Raises:
        InputError: a value is out of range.
    """

    conf: float = 0.001
    iou: float = 0.6
    max_det: int = 300

    def __post_init__(self) -> None:
        if not 0 <= self.conf <= 1 or not 0 <= self.iou <= 1 or self.max_det < 1:
            raise InputError(f"{self} is out of range: conf and iou are 0 to 1, max_det at least 1")


@dataclass(frozen=True, eq=False)
class Detections:
    """The boxes of one image, best first.

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

    def to_coco(self, image_id: int | str, category_ids: Mapping[int, int] | None = None) -> list[dict[str, Any]]:
        """The boxes as COCO results (https://cocodataset.org/#format-results).

        Args:
            image_id: the image's id in the annotation file.
            category_ids: class id -> category id; without it, COCO's own ids (1..90) for a detector of COCO's 80
                classes and the class ids themselves for any other. Classes that it lacks are left out.

        Returns:
            dicts of image_id, category_id, category_name (the class's, by which results can be matched whatever the
            ids are), bbox [left, top, width, height] and score.
        """
        if category_ids is None:
            category_ids = default_category_ids(self.names)
        results = []
        for box, score, class_id in zip(self.xyxy.tolist(), self.scores.tolist(), self.class_ids.tolist(), strict=True):
            if class_id in category_ids:
                bbox = [round(value, 3) for value in (box[0], box[1], box[2] - box[0], box[3] - box[1])]
                category = {"category_id": category_ids[class_id], "category_name": self.names[class_id]}
                results.append({"image_id": image_id, **category, "bbox": bbox, "score": round(score, 6)})
        return results


# The COCO-2017 detection categories: their ids have gaps (https://cocodataset.org/#detection-2017).
_COCO_GAPS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
COCO_IDS = tuple(category for category in range(1, 91) if category not in _COCO_GAPS)
_COCO_SIGNATURE = {0: "person", 9: "traffic light", 39: "bottle", 79: "toothbrush"}


def default_category_ids(names: tuple[str, ...]) -> dict[int, int]:
    """Class id -> category id where no annotation file says it; see `Detections.to_coco`."""
    is_coco = len(names) == len(COCO_IDS) and all(names[index] == name for index, name in _COCO_SIGNATURE.items())
    return dict(enumerate(COCO_IDS)) if is_coco else {index: index for index in range(len(names))}
