"""A model as `featcodec export` writes it, made once for all workers of a test run: torch.onnx takes many seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pictures import texture

from featcodec import FeatureCodec
from featcodec.export.folder import Exported, export_codec
from featcodec.system.locks import locked

SIDE = 128
QP = 30


def small_codec(detector: str | Path = "scenes", bottleneck: str | Path = "street", **settings: Any) -> FeatureCodec:
    """A codec for small pictures, on the CPU, for HEVC. The default has everything but a layout."""
    return FeatureCodec.load(
        detector, bottleneck=bottleneck, **{"image_size": SIDE, "device": "cpu", "video_codec": "hevc", **settings}
    )


def export_small(codec: FeatureCodec, folder: Path) -> Exported:
    """Export a codec; it is compared on textures."""
    return export_codec(codec, folder, [texture(160, 120, seed) for seed in range(4)], detector="small", default_qp=QP)


def export_once(folder: Path) -> Path:
    """Export the default `small_codec`, unless another worker has done it."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        model = folder / "model"
        if not model.exists():
            export_small(small_codec(), model)
    return model
