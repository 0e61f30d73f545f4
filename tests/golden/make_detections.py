"""Makes golden bitstreams of networks that ship: every later featcodec must find these boxes in them.

    .venv/bin/python tests/golden/make_detections.py

Files here are never regenerated, only added (see make.py). Per case: NAME.266 or NAME.265, the bitstream of a drawn
scene, and NAME.json, the boxes with a score of 0.3 or more, computed in float32 on a CPU.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from featcodec import FeatureCodec
from featcodec.scenes.dataset import IMAGES, write_scenes
from featcodec.system.files import write_atomically

FOLDER = Path(__file__).parent / "detections"
LEAST_SCORE = 0.3
SEED = 77


def add(name: str, scene: Path, detector: str, qp: int, **settings: Any) -> None:
    """Add one golden file, unless it exists."""
    if any(FOLDER.glob(f"{name}.26?")):
        print(f"{name}: exists, left alone")
        return
    codec = FeatureCodec.load(detector, device="cpu", image_size=320, **settings)
    data = codec.encode(scene, qp)
    # As the test decodes it: with the parts that are found from the bytes.
    found = FeatureCodec.for_stream(data, device="cpu").decode(data).filter(LEAST_SCORE)
    write_atomically(FOLDER / f"{name}{codec.video_codec.standard.suffix}", data)
    write_atomically(FOLDER / f"{name}.json", (json.dumps(found.to_coco(0), indent=1) + "\n").encode())
    print(f"{name}: {len(data)} bytes, {len(found)} boxes")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for _ in write_scenes(Path(folder), 1, seed=SEED):
            pass
        (scene,) = (Path(folder) / IMAGES).iterdir()
        add("scenes-alley-qp34", scene, "scenes", 34)
        add("scenes-latent-hevc-qp30", scene, "scenes", 30, bottleneck=None, video_codec="hevc")
        add("scenes11-avenue-qp34", scene, "scenes11", 34)
        add("scenes11-latent10-qp30", scene, "scenes11", 30, bottleneck=None, split=10)
        add("scenes11-latent22-hevc-qp30", scene, "scenes11", 30, bottleneck=None, split=22, video_codec="hevc")
        add("scenes11-latent6-qp38", scene, "scenes11", 38, bottleneck=None, split=6)
