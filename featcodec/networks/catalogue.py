"""What comes with the package: detectors, bottlenecks, layouts and restorations, all trained by us.

Attackers and the plate reader ship, too, but have no name: they are found by what they were trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SHIPPED_FOLDER = Path(__file__).parent / "shipped"
"""Checkpoints that come with the package."""

AUTO = "auto"
"""Where a network is chosen: the one that ships for the others, if any."""
NONE = "none"
"""Where a network is chosen: do without."""

LICENCE = "AGPL-3.0"


@dataclass(frozen=True)
class Shipped:
    """A checkpoint that comes with the package.

    Attributes:
        name: what an option takes, or, of layouts and restorations, whose it is.
        made_for: 16 hex digits that name what it was trained behind: the detector of a bottleneck, the tensor of a
            layout (`FeatureCodec.model.fingerprint`), the codec of a restoration; empty for a detector.
        file_name: in the package's folder `shipped`.
        description: for `featcodec models`.
    """

    name: str
    made_for: str
    file_name: str
    description: str

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return SHIPPED_FOLDER / self.file_name


_YOLOV5N, _SCENES = "53961ef2ce19a847", "cfc19399c2931abc"
DETECTOR_FINGERPRINTS = {"yolov5n": _YOLOV5N, "scenes": _SCENES}
"""16 hex digits by name, of the detectors that something ships for."""

SHIPPED_DETECTORS: dict[str, Shipped] = {
    detector.name: detector
    for detector in (
        Shipped(
            "scenes", "", "scenes-detector.safetensors", "YOLOv5n's architecture, anchor-based, our synthetic scenes"
        ),
    )
}
SHIPPED_BOTTLENECKS: tuple[Shipped, ...] = (
    Shipped("compact", _YOLOV5N, "yolov5n-compact.safetensors", "yolov5n, 20 channels, trained for rate and accuracy"),
    Shipped("private", _YOLOV5N, "yolov5n-private.safetensors", "yolov5n, 20 channels, trained against an attacker"),
    Shipped("street", _SCENES, "scenes-street.safetensors", "scenes, 20 channels, trained against an attacker"),
)
"""The first one of a detector is its default."""
SHIPPED_LAYOUTS: tuple[Shipped, ...] = (
    Shipped("yolov5n, latent", _YOLOV5N, "yolov5n-latent-layout.safetensors", "the features themselves, 64 channels"),
)
"""One a tensor at most."""
SHIPPED_RESTORATIONS: tuple[Shipped, ...] = (
    Shipped(
        "yolov5n, latent", "1ee775756ebb7c76", "yolov5n-latent-restoration.safetensors", "with its layout, 64 channels"
    ),
    Shipped("scenes, street", "aae1ab49ba209545", "scenes-street-restoration.safetensors", "20 channels"),
    Shipped("yolov5n, compact", "4c275d9c2ae6da92", "yolov5n-compact-restoration.safetensors", "20 channels"),
)
"""One a codec at most."""


def shipped_for(shipped: Sequence[Shipped], fingerprint: bytes) -> list[Shipped]:
    """Those that were made for the networks of a fingerprint, the default first."""
    return [each for each in shipped if each.made_for == fingerprint.hex()]


def list_shipped(shipped: Sequence[Shipped], made_for: str) -> list[dict[str, str]]:
    """What `featcodec models` shows of them.

    Args:
        shipped: of one kind.
        made_for: what the networks that they were made for are called.
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
