"""A folder of scenes: images, COCO annotations and private details."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from featcodec.errors import InputError, OutputError
from featcodec.images.annotations import read_json
from featcodec.scenes.canvas import Detail
from featcodec.scenes.scene import CLASSES, SIZE, SceneObject, draw_scene
from featcodec.system.batching import cores, read_ahead
from featcodec.system.files import write_once
from featcodec.system.workers import processes

ANNOTATIONS = "annotations.json"
PRIVATE = "private.json"
IMAGES = "images"

_COMPRESSION = 1
"""Compression level of the PNGs. Sensor noise hardly compresses, and higher levels take longer than drawing."""

_OUR_NAMES = re.compile(r"\d{6,}\.png")


@dataclass(frozen=True)
class Truth:
    """The ground truth of one scene.

    Attributes:
        index: number of the scene, from 0; also its image id.
        objects: the objects that a detector should find.
        details: the private details.
    """

    index: int
    objects: tuple[SceneObject, ...]
    details: tuple[Detail, ...]

    @property
    def file_name(self) -> str:
        """Name of the image file."""
        return f"{self.index:06d}.png"


def write_scenes(
    folder: Path, count: int, seed: int = 0, *, workers: int | None = None, overwrite: bool = False
) -> Generator[Truth, None, None]:
    """Draw scenes into images/. When all are drawn, write private.json and annotations.json, in this order.

    Image `index` depends only on (seed, index). An interrupted run leaves no annotations.json. Another run draws the
    same images again.

    Args:
        folder: where the scenes go.
        count: number of scenes.
        seed: 0 or more.
        workers: number of processes that draw. With 1 this process draws itself. None means one per core.
        overwrite: replace scenes that exist.

    Yields:
        the truth of each scene, in order, as soon as its image is written.

    Raises:
        OutputError: the folder already holds annotations or other images, or cannot be written.
    """
    annotations = folder / ANNOTATIONS
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is not a folder; choose another `output`")
    if annotations.exists():
        if not overwrite:
            raise OutputError(f"{annotations}: exists; use `overwrite` or another `output`")
        _remove_older(folder)
    truths = []
    draw = partial(_draw, folder / IMAGES, seed, overwrite)
    with contextlib.closing(_each(draw, count, workers or cores())) as drawn:
        for truth in drawn:
            truths.append(truth)
            yield truth
    write_once(folder / PRIVATE, _json(private_content(truths)), overwrite=overwrite)
    write_once(annotations, _json(coco_content(truths, seed)), overwrite=overwrite)


def coco_content(truths: list[Truth], seed: int) -> dict[str, Any]:
    """Return the content of a COCO annotation file. Boxes are left, top, width, height of the visible pixels."""
    objects = [(truth.index, found) for truth in truths for found in truth.objects]
    return {
        "info": {"description": "street scenes drawn by featcodec", "seed": seed},
        "images": [
            {"id": truth.index, "file_name": truth.file_name, "width": SIZE, "height": SIZE} for truth in truths
        ],
        "annotations": [
            {
                "id": number,
                "image_id": index,
                "category_id": CLASSES.index(found.class_name) + 1,
                "bbox": list(found.box),
                "area": found.area,
                "iscrowd": 0,
            }
            for number, (index, found) in enumerate(objects, start=1)
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": "street"} for number, name in enumerate(CLASSES, start=1)
        ],
    }


def private_content(truths: list[Truth]) -> dict[str, Any]:
    """Return the private details: kind, box (left, top, width, height in pixels), text, and whether it is readable."""
    details = [(truth.index, detail) for truth in truths for detail in truth.details]
    return {
        "images": [{"id": truth.index, "file_name": truth.file_name} for truth in truths],
        "details": [
            {
                "image_id": index,
                "kind": detail.kind,
                "bbox": _rounded(detail.box),
                "text": detail.text,
                "readable": detail.readable,
            }
            for index, detail in details
        ],
    }


def _rounded(box: tuple[float, float, float, float]) -> list[float]:
    # The edges are rounded, not the sizes: a box must not reach over the edge of the image.
    left, top, right, bottom = (round(edge, 2) for edge in box)
    return [left, top, round(right - left, 2), round(bottom - top, 2)]


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def _draw(images: Path, seed: int, overwrite: bool, index: int) -> Truth:
    scene = draw_scene(seed, index)
    truth = Truth(index, scene.objects, scene.details)
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "PNG", compress_level=_COMPRESSION)
    write_once(images / truth.file_name, buffer.getvalue(), overwrite=overwrite)
    return truth


def _each(draw: partial[Truth], count: int, workers: int) -> Generator[Truth, None, None]:
    """Draw every scene, in order."""
    workers = min(workers, count)
    if workers == 1:
        yield from map(draw, range(count))
        return
    killed = OutputError("a process that draws was killed (out of memory?); use fewer `workers`")
    with processes(workers, killed, __name__) as pool:
        yield from read_ahead(pool, draw, range(count), depth=4 * workers)


def _remove_older(folder: Path) -> None:
    """Remove an older set, the annotations first. After an interruption the rest does not look like a set."""
    try:
        listed = [str(image["file_name"]) for image in read_json(folder / ANNOTATIONS)["images"]]
    except (InputError, KeyError, TypeError):
        listed = []
    try:
        (folder / ANNOTATIONS).unlink()
        for name in (PRIVATE, *(f"{IMAGES}/{name}" for name in listed if _OUR_NAMES.fullmatch(name))):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be replaced ({error.strerror}); choose another `output`") from None
