"""A small set to sweep over: pictures, and what the uncoded detector finds in them as the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from make_checkpoints import NAMES
from pictures import save_texture
from PIL import Image

from featcodec import FeatureCodec
from featcodec.evaluation.dataset import Dataset, open_dataset
from featcodec.images.annotations import read_annotations
from featcodec.images.reading import IMAGE_SUFFIXES
from featcodec.system.paths import expand_sources

SIDE = 96
SHAPES = ((96, 64), (64, 96), (120, 80), (90, 90))


def make_sweep_set(folder: Path, detector: Path, count: int = 5) -> Path:
    """Pictures of four shapes in in/, and annotations.json with the three best boxes of each."""
    codec = FeatureCodec.load(detector, bottleneck=None, image_size=SIDE)
    images, boxes = [], []
    for number in range(count):
        width, height = SHAPES[number % len(SHAPES)]
        path = save_texture(folder / f"in/{number}.png", width, height, seed=number)
        images.append({"id": number, "file_name": path.name, "width": width, "height": height})
        with Image.open(path) as image:
            found = codec.detect(np.array(image)).to_coco(number)
        boxes += [{key: box[key] for key in ("image_id", "category_id", "bbox")} for box in found[:3]]
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def dataset_of(folder: Path, *names: str) -> Dataset:
    """The whole set, or some of its pictures."""
    arguments = [str(folder / "in" / name) for name in names] or [str(folder / "in")]
    sources = expand_sources(arguments, IMAGE_SUFFIXES, "images")
    return open_dataset(sources, read_annotations(folder / "annotations.json"))
