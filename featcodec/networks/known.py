"""The detectors that can be downloaded by name: ultralytics' releases, each with its pinned address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from featcodec.networks.catalogue import LICENCE
from featcodec.system.paths import weights_folder

_ORIGINAL = "https://github.com/ultralytics/yolov5/releases/download/v7.0"
_ASSETS = "https://github.com/ultralytics/assets/releases/download"
_TASKS = {"": "80 classes", "-seg": "80 classes, masks", "-pose": "persons, 17 keypoints"}


@dataclass(frozen=True)
class KnownWeights:
    """A detector that featcodec knows by name.

    Attributes:
        name: e.g. "yolov5m".
        url: the pinned address of the weights.
        sha256: the SHA-256 of the file, or None if it is not known.
        licence: the licence of the weights.
        description: a text for `featcodec models`.
    """

    name: str
    url: str
    sha256: str | None
    licence: str
    description: str

    @property
    def path(self) -> Path:
        """The file in the weights folder, which may not exist yet."""
        return weights_folder() / f"{self.name}.pt"

    @property
    def damage(self) -> str:
        """What `is_intact` finds, in words."""
        return "it is cut off, or a web page" if self.sha256 is None else "wrong sha256"


_SHA256 = {
    "yolov5n": "4f180cf23ba0717ada0badd6c685026d73d48f184d00fc159c2641284b2ac0a3",
    "yolov5s": "8b3b748c1e592ddd8868022e8732fde20025197328490623cc16c6f24d0782ee",
    "yolov5m": "61d933360ba5a7733a36764996c800287d973889d875227f5beedd2473a97a56",
    "yolov5l": "2f603b7354c25454d1270663a14d8ddc1eea98e5eebc1d84ce0c6e3150fa155f",
    "yolov5x": "9f27a794fa0308e2606f90565164571d6f0a0ba18a3ce2e5e5d323b71c157859",
}

# Family -> release, sizes and tasks.
_FAMILIES = (
    ("yolov8", "YOLOv8", "v8.3.0", "nsmlx", ("", "-seg", "-pose")),
    ("yolov9", "YOLOv9", "v8.3.0", "tsmce", ("",)),
    ("yolov9", "YOLOv9", "v8.3.0", "ce", ("-seg",)),
    ("yolov10", "YOLOv10", "v8.3.0", "nsmblx", ("",)),
    ("yolo11", "YOLO11", "v8.3.0", "nsmlx", ("", "-seg", "-pose")),
    ("yolo12", "YOLO12", "v8.3.0", "nsmlx", ("",)),
    ("yolo26", "YOLO26", "v8.4.0", "nsmlx", ("", "-seg", "-pose")),
)


def _yolov5() -> Iterator[KnownWeights]:
    for size in "nsmlx":
        name = f"yolov5{size}"
        yield KnownWeights(
            name, f"{_ORIGINAL}/{name}.pt", _SHA256[name], LICENCE, f"YOLOv5{size}, anchor-based, COCO, 80 classes"
        )
        for form, what in (("u", "anchor-free"), ("6u", "anchor-free, P6 (strides to 64)")):
            url = f"{_ASSETS}/v8.3.0/{name}{form}.pt"
            yield KnownWeights(name + form, url, None, LICENCE, f"YOLOv5{size}{form}, {what}, COCO, 80 classes")


def _families() -> Iterator[KnownWeights]:
    for family, title, release, sizes, tasks in _FAMILIES:
        for size in sizes:
            for task in tasks:
                name = f"{family}{size}{task}"
                url = f"{_ASSETS}/{release}/{name}.pt"
                yield KnownWeights(name, url, None, LICENCE, f"{title}{size}{task}, COCO, {_TASKS[task]}")


KNOWN: dict[str, KnownWeights] = {weights.name: weights for weights in (*_yolov5(), *_families())}
