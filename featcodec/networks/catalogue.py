"""The checkpoints that ship with the package: detectors, bottlenecks, layouts and restorations, all trained by us.

Attackers and the plate reader also ship, but without a name. They are found by the networks that they were trained for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SHIPPED_FOLDER = Path(__file__).parent / "shipped"
"""The folder of the checkpoints that ship with the package."""

AUTO = "auto"
"""The choice of the network that ships for the other networks, if any."""
NONE = "none"
"""The choice of no network."""

LICENCE = "AGPL-3.0"


@dataclass(frozen=True)
class Shipped:
    """A checkpoint that ships with the package.

    Attributes:
        name: the name that an option takes; for a layout or restoration, the names of the networks it was made for.
        made_for: 16 hex digits that name what the checkpoint was made for: the detector for a bottleneck, the model for
            a layout (`FeatureCodec.model.fingerprint`), the streams for a restoration. Empty for a detector.
        file_name: the file name in the package's folder `shipped`.
        description: a text for `featcodec models`.
        successor: for a checkpoint that was replaced and stays for its streams: the name of the one to use for new
            streams. Else empty.
    """

    name: str
    made_for: str
    file_name: str
    description: str
    successor: str = ""

    @property
    def path(self) -> Path:
        """The path of the checkpoint."""
        return SHIPPED_FOLDER / self.file_name


_YOLOV5N, _SCENES, _SCENES11 = "53961ef2ce19a847", "cfc19399c2931abc", "5b050d60eec612e3"
DETECTOR_FINGERPRINTS = {"yolov5n": _YOLOV5N, "scenes": _SCENES, "scenes11": _SCENES11}
"""Fingerprints (16 hex digits) by name: the detectors that other networks ship for."""

SHIPPED_DETECTORS: dict[str, Shipped] = {
    detector.name: detector
    for detector in (
        Shipped(
            "scenes", "", "scenes-detector.safetensors", "YOLOv5n's architecture, anchor-based, our synthetic scenes"
        ),
        Shipped("scenes11", "", "scenes11-detector.safetensors", "YOLO11n, anchor-free, our synthetic scenes"),
    )
}
SHIPPED_BOTTLENECKS: tuple[Shipped, ...] = (
    Shipped(
        "guarded",
        _YOLOV5N,
        "yolov5n-guarded.safetensors",
        "yolov5n, 20 channels, trained for rate and accuracy and against attackers",
    ),
    Shipped(
        "veiled",
        _YOLOV5N,
        "yolov5n-veiled.safetensors",
        "yolov5n, 20 channels, as guarded, with more weight on hiding the picture",
    ),
    Shipped(
        "private",
        _YOLOV5N,
        "yolov5n-private.safetensors",
        "yolov5n, 20 channels, as guarded, with most weight on hiding the picture",
    ),
    Shipped("compact", _YOLOV5N, "yolov5n-compact.safetensors", "yolov5n, 20 channels, trained for rate and accuracy"),
    Shipped(
        "guarded-v1",
        _YOLOV5N,
        "yolov5n-guarded-v1.safetensors",
        "yolov5n, 20 channels, the earlier guarded, with the same AE; it stays for its streams",
        successor="guarded",
    ),
    Shipped(
        "private-v1",
        _YOLOV5N,
        "yolov5n-private-v1.safetensors",
        "yolov5n, 20 channels, the earlier private; it stays for its streams",
        successor="private",
    ),
    Shipped(
        "alley", _SCENES, "scenes-alley.safetensors", "scenes, 20 channels, trained for rate and against attackers"
    ),
    Shipped("street", _SCENES, "scenes-street.safetensors", "scenes, 20 channels, trained against one attacker"),
    Shipped(
        "avenue",
        _SCENES11,
        "scenes11-avenue.safetensors",
        "scenes11, 20 channels, trained for rate and against attackers",
    ),
)
"""The first bottleneck of a detector is the detector's default."""
SHIPPED_LAYOUTS: tuple[Shipped, ...] = (
    Shipped("yolov5n, latent", _YOLOV5N, "yolov5n-latent-layout.safetensors", "the features themselves, 64 channels"),
)
"""At most one layout per model and split."""
SHIPPED_RESTORATIONS: tuple[Shipped, ...] = (
    Shipped(
        "yolov5n, latent", "1ee775756ebb7c76", "yolov5n-latent-restoration.safetensors", "with its layout, 64 channels"
    ),
    Shipped("scenes, street", "aae1ab49ba209545", "scenes-street-restoration.safetensors", "20 channels"),
    Shipped("scenes11, avenue", "cca1d609adca1186", "scenes11-avenue-restoration.safetensors", "20 channels"),
    Shipped("yolov5n, compact", "4c275d9c2ae6da92", "yolov5n-compact-restoration.safetensors", "20 channels"),
)
"""At most one restoration per stream fingerprint and split."""


def shipped_for(shipped: Sequence[Shipped], fingerprint: bytes) -> list[Shipped]:
    """The checkpoints that were made for a fingerprint, the default first."""
    return [each for each in shipped if each.made_for == fingerprint.hex()]


def list_shipped(shipped: Sequence[Shipped], made_for: str) -> list[dict[str, str]]:
    """The rows that `featcodec models` shows for these checkpoints.

    Args:
        shipped: checkpoints of one kind.
        made_for: the key under which a row holds `Shipped.made_for`.
    """
    return [
        {
            "name": each.name,
            made_for: each.made_for,
            "licence": LICENCE,
            "description": each.description,
            "path": str(each.path),
        }
        for each in shipped
    ]
