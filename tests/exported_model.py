"""The edge of an exported model, made once for all workers of a test run: torch.onnx takes many seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pictures import texture

from featcodec import FeatureCodec
from featcodec.edge.model_file import EDGE_FILE, MODEL_FILE
from featcodec.export.folder import FLOAT32, Exported, Trial, export_codec, make_edge, model_file_of
from featcodec.system.folders import atomic_folder
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
    return export_codec(
        codec, folder, Trial([texture(160, 120, seed) for seed in range(4)]), detector="small", default_qp=QP
    )


def make_edge_once(folder: Path) -> Path:
    """Export the edge of the default `small_codec`, unless another worker has done it. An edge needs no cloud.onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        model = folder / "model"
        if not model.exists():
            codec = small_codec()
            edge = make_edge(codec)
            with atomic_folder(model, ()) as part:
                (part / EDGE_FILE).write_bytes(edge)
                (part / MODEL_FILE).write_bytes(model_file_of(codec, "small", QP, FLOAT32, edge, b"").to_json())
    return model
