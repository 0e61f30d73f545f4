"""What the rows of predictions are."""

from __future__ import annotations

from typing import Any

import pytest

from featcodec.detectors import Task


def test_rows_are_counted() -> None:
    assert Task(80).rows == 84
    assert (Task(80, masks=32).rows, Task(80, masks=32).further) == (116, 32)
    assert Task(1, keypoints=(17, 3)).rows == 56
    assert Task(1).needs_nms


@pytest.mark.parametrize(
    "changes", [{"classes": 0}, {"masks": -1}, {"keypoints": (0, 3)}, {"keypoints": (17, 4)}], ids=repr
)
def test_what_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must have"):
        Task(**{"classes": 2, **changes})
