"""What the predictions of a detector hold besides boxes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What stands in the rows of a detector's predictions, and how boxes are chosen from them.

    The rows are centre x, y, width, height in letterboxed pixels, the class scores, the coefficients of the mask, and
    the keypoints. The order is that of ultralytics' heads.

    Attributes:
        classes: number of classes, at least 1.
        masks: number of mask coefficients, which is that of prototypes; 0 if the detector finds no masks.
        keypoints: number of keypoints, and numbers of each: 2 for x and y in letterboxed pixels, 3 with a score in
            [0, 1] that it can be seen. None if the detector finds no keypoints.
        needs_nms: whether several boxes may be predicted for one object. Heads that match one box with each object
            (YOLOv10, YOLO26) need no NMS.

    Raises:
        ValueError: a number is out of range.
    """

    classes: int
    masks: int = 0
    keypoints: tuple[int, int] | None = None
    needs_nms: bool = True

    def __post_init__(self) -> None:
        if self.classes < 1 or self.masks < 0:
            raise ValueError(f"{self} must have classes, and a number of masks from 0")
        if self.keypoints is not None and (self.keypoints[0] < 1 or self.keypoints[1] not in (2, 3)):
            raise ValueError(f"{self} must have keypoints of 2 or 3 numbers each")

    @property
    def further(self) -> int:
        """The number of rows behind the class scores."""
        count, numbers = self.keypoints or (0, 0)
        return self.masks + count * numbers

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return 4 + self.classes + self.further
