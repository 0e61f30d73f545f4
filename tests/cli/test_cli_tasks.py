"""`evaluate` with masks and keypoints: what is printed, and what is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featcodec.images.rle import encode

Run = Callable[..., tuple[int, str, str]]

BOX = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 60]}
POINTS = [20, 20, 2] * 17


def mask(width: int) -> dict[str, Any]:
    pixels = np.zeros((100, 120), bool)
    pixels[10:70, 10 : 10 + width] = True
    return {"size": [100, 120], "counts": encode(pixels)}


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[Path | str]]:
    """Writes results and annotations with these fields, and returns the arguments of evaluate."""

    def write(truth: dict[str, Any], result: dict[str, Any]) -> list[Path | str]:
        content = {
            "images": [{"id": 1, "file_name": "1.jpg", "width": 120, "height": 100}],
            "annotations": [{**BOX, "id": 1, "iscrowd": 0, "area": 2400, **truth}],
            "categories": [{"id": 1, "name": "person"}],
        }
        (tmp_path / "t.json").write_text(json.dumps(content))
        (tmp_path / "r.json").write_text(json.dumps([{**BOX, "score": 0.5, **result}]))
        return ["evaluate", tmp_path / "r.json", "--annotations", tmp_path / "t.json"]

    return write


def test_masks_are_compared_besides_boxes(run: Run, files: Callable[..., list[Path | str]]) -> None:
    evaluate = files({"segmentation": [[10, 10, 50, 10, 50, 70, 10, 70]]}, {"segmentation": mask(26)})
    both = "1 images  boxes: AP50 100.00  AP 100.00  masks: AP50 100.00  AP 40.00\n"
    assert run(*evaluate) == (0, both, "")
    assert run(*evaluate, "--task", "segm") == (0, "1 images  masks: AP50 100.00  AP 40.00\n", "")
    assert run(*evaluate, "--task", "bbox") == (0, "1 images  AP50 100.00  AP 100.00\n", "")
    report = json.loads(run(*evaluate, "--json")[1])
    boxes, masks = {"ap50": 100, "ap": 100, "ap75": 100}, {"mask_ap50": 100, "mask_ap": 40, "mask_ap75": 0}
    assert report.pop("unmatched") == {}
    assert report == pytest.approx({"images": 1, "bpp": None, "bytes": None, **boxes, **masks})
    report = json.loads(run(*evaluate, "--task", "segm", "--json")[1])
    assert (report["ap50"], report["ap"], report["ap75"]) == (None, None, None)
    assert report["mask_ap"] == pytest.approx(40)


def test_keypoints_are_compared_besides_boxes(run: Run, files: Callable[..., list[Path | str]]) -> None:
    truth = {"keypoints": POINTS, "num_keypoints": 17}
    evaluate = files(truth, {"keypoints": [20, 20, 0.3] * 17})
    both = "1 images  boxes: AP50 100.00  AP 100.00  keypoints: AP50 100.00  AP 100.00\n"
    assert run(*evaluate) == (0, both, "")
    report = json.loads(run(*evaluate, "--json")[1])
    assert [key for key in report if "ap" in key] == [
        *("ap50", "ap", "ap75"),
        *("keypoints_ap50", "keypoints_ap", "keypoints_ap75"),
    ]


def test_boxes_alone_are_as_before(run: Run, files: Callable[..., list[Path | str]]) -> None:
    evaluate = files({"segmentation": "unused", "keypoints": None}, {})
    assert run(*evaluate) == (0, "1 images  AP50 100.00  AP 100.00\n", "")
    assert list(json.loads(run(*evaluate, "--json")[1])) == [
        *("images", "bpp", "bytes", "ap50", "ap", "ap75", "unmatched")
    ]


def test_what_the_files_lack_is_said_with_the_remedy(run: Run, files: Callable[..., list[Path | str]]) -> None:
    code, out, err = run(*files({}, {"segmentation": mask(40)}))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "t.json: 1 of 1 annotations have no segmentation" in err
    assert "or use --task bbox" in err
    assert run(*files({}, {"segmentation": mask(40)}), "--task", "bbox")[0] == 0
    code, out, err = run(*files({"segmentation": mask(40)}, {}), "--task", "segm")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "entry 1 of the results has no segmentation to compare with it; use another --task" in err
    code, _, err = run(*files({}, {"segmentation": {"size": [100, 120], "counts": "0" * 50}}))
    assert (code, err.count("\n")) == (1, 1)
    assert "r.json: entry 1 of the results has the segmentation " in err
