"""Class names to the numbers of a Frigate label map.

Frigate looks a detector's class number up in its label map. Two maps come with Frigate: `/labelmap/coco-80.txt` counts
COCO's 80 classes; `/labelmap.txt`, which is its default, has COCO's own ids less one, with gaps. In both, Frigate calls
some vehicles "car". Numbers are looked up by names here, because the class ids of a detector are its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from featcodec.errors import InputError
from featcodec.system.files import read_bounded

COCO_80, COCO_91 = "coco-80", "coco-91"
_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis",
    "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier",
    "toothbrush",
)  # fmt: skip
"""COCO's 80 classes (https://cocodataset.org/#detection-2017), as YOLO detectors count them."""
_GAPS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
"""COCO's ids from 1 to 90 that no class of 2017 has."""
_STREET_SIGN = 11
_ALIASES = {
    "pedestrian": "person",
    "rider": "person",
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "traffic sign": "street sign",
    "truck": "car",
    "bus": "car",
}
"""What a class is called where the map does not have its own name; of vehicles, as Frigate does it."""
_MAX_BYTES = 1 << 20
_NUMBER = re.compile(r"[0-9]{1,4}")


def read_label_map(name: str | Path) -> dict[str, int]:
    """The number of each label.

    Args:
        name: `coco-80`, `coco-91` (Frigate's default map), or a label map file as Frigate reads it: a label per line,
            with its number before it or not.

    Raises:
        InputError: the file cannot be read, or is not a label map.
    """
    if str(name) == COCO_80:
        return {label: number for number, label in enumerate(_NAMES)}
    if str(name) == COCO_91:
        ids = [number for number in range(1, 91) if number not in _GAPS]
        return {**{label: coco - 1 for label, coco in zip(_NAMES, ids, strict=True)}, "street sign": _STREET_SIGN}
    path = Path(name)
    remedy = "give a `labelmap` as Frigate has it"
    data = read_bounded(path, _MAX_BYTES, InputError, what="label map", remedy=remedy)
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    is_numbered = bool(lines) and lines[0].partition(" ")[0].isdigit()
    labels: dict[str, int] = {}
    for place, line in enumerate(filter(None, lines)):
        number, _, label = line.partition(" ") if is_numbered else (str(place), "", line)
        if not _NUMBER.fullmatch(number):
            raise InputError(f"{path}: {line[:40]!r} is not a number and a label; {remedy}")
        labels.setdefault(label.strip().lower(), int(number))
    if not labels:
        raise InputError(f"{path}: holds no labels; {remedy}")
    return labels


def number_of(label: str, labels: Mapping[str, int]) -> int | None:
    """The number of a detector's class in a label map; None if the map has nothing like it."""
    name = label.strip().lower()
    return labels.get(name, labels.get(_ALIASES.get(name, "")))
