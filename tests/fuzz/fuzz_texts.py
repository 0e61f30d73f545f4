"""Damaged annotations, results, shards, CSV files of sweeps and attacks, data.yaml and label files, private.json."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mutate import damage_bytes, damage_table, damage_tree
from pictures import save_texture
from targets import READ, REFUSED, WrongError, refused_or

from featcodec.errors import InputError
from featcodec.evaluation.bd import compare
from featcodec.evaluation.coco import Kind, score
from featcodec.evaluation.curves import read_curve
from featcodec.evaluation.report.study import read_study
from featcodec.images.annotations import read_annotations
from featcodec.images.parquet import ParquetResults
from featcodec.images.results import read_results
from featcodec.images.rle import encode, runs_of
from featcodec.privacy.attack_results import read_attack_results
from featcodec.privacy.private_details import read_private_details
from featcodec.system.files import read_bounded
from featcodec.system.shards import members_of, write_index, write_shard
from featcodec.training.data.coco import read_coco
from featcodec.training.data.yolo import read_data_yaml

_NAMES = ["cat", "dog", "newt"]
_KINDS: tuple[Kind, ...] = ("bbox", "segm", "keypoints")
_RESULTS = Path(__file__).parents[2] / "results"


class Texts:
    """See `targets.Target`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._case = folder / "case"
        self._case.mkdir()
        for number in range(3):
            save_texture(folder / "images" / f"{number}.png", 32, 24, number)
            (folder / "labels").mkdir(exist_ok=True)
            (folder / "labels" / f"{number}.txt").write_text(f"{number} 0.5 0.5 0.25 0.5\n")
        self._annotations, self._results, self._private = _annotations(), _results(), _private()
        self._parquet = _parquet(self._results)
        shard = io.BytesIO()
        write_index(
            folder / "0.tar", write_shard(shard, [(f"{n}/{'x' * n * 60}.266", bytes(n * 300)) for n in range(4)])
        )
        self._shard, self._index = shard.getvalue(), (folder / "0.idx").read_bytes()
        (folder / "annotations.json").write_text(json.dumps(self._annotations))
        (folder / "results.json").write_text(json.dumps(self._results))
        self._sweep = _one_curve((_RESULTS / "scenes-val200" / "points.csv").read_text().splitlines())
        attack = _RESULTS / "yolov5n-coco64" / "attack-compact" / "attack.csv"
        self._attack = attack.read_text().splitlines()
        self._readers: tuple[Callable[[random.Random], Any], ...] = (
            *(self._read_annotations, self._read_annotations, self._read_results, self._read_curve, self._read_study),
            *(self._read_json_lines, self._read_parquet, self._read_shard),
            *(self._read_attack_results, self._read_data_yaml, self._read_labels, self._read_private, self._read_coco),
        )

    def run(self, rng: random.Random) -> str:
        """See `targets.Target.run`."""
        read = rng.choice(self._readers)
        return REFUSED if refused_or(lambda: (read(rng),)) is None else READ

    def _read_annotations(self, rng: random.Random) -> None:
        truth = read_annotations(self._write("a.json", _json(rng, self._annotations)))
        for name in ("0.png", "folder/1.png", "cam.01.png"):
            refused_or(lambda name=name: truth.image_id(Path(name)))
        _check_accuracy(score(truth, read_results(self._folder / "results.json"), rng.choice(_KINDS)))

    def _read_results(self, rng: random.Random) -> None:
        found = read_results(self._write("r.json", _json(rng, self._results)))
        _check_accuracy(score(read_annotations(self._folder / "annotations.json"), found, rng.choice(_KINDS)))

    def _read_json_lines(self, rng: random.Random) -> None:
        lines = [_json(rng, result) for result in self._results]
        read_results(self._write("r.jsonl", b"\n".join(lines)))

    def _read_parquet(self, rng: random.Random) -> None:
        read_results(self._write("r.parquet", damage_bytes(rng, self._parquet)))

    def _read_shard(self, rng: random.Random) -> None:
        data, index = (
            whole if rng.random() < 0.4 else damage_bytes(rng, whole, self._shard)
            for whole in (self._shard, self._index)
        )
        self._write("s.idx", index)
        for member, relative in members_of(self._write("s.tar", data), frozenset({".266"})):
            if ".." in relative.parts or relative.is_absolute():
                raise WrongError(f"a member {relative}")
            refused_or(lambda member=member: read_bounded(member, 1 << 20, InputError, what="stream", remedy="none"))

    def _read_curve(self, rng: random.Random) -> None:
        good, bad = self._write("good.csv", "\n".join(self._sweep)), self._write("s.csv", self._table(rng, self._sweep))
        metric = rng.choice(("ap50", "ap"))
        curves = [read_curve(path, metric, {}) for path in (good, bad)]
        compare(curves[0], curves[1], rng.choice(("pchip", "akima", "cubic")))

    def _read_study(self, rng: random.Random) -> None:
        read_study([self._write("s.csv", self._table(rng, self._sweep))], "ap50")

    def _read_attack_results(self, rng: random.Random) -> None:
        self._write("attack.csv", self._table(rng, self._attack))
        read_attack_results(self._case)

    def _read_data_yaml(self, rng: random.Random) -> None:
        text = f"path: {self._folder}\ntrain: images\nval: images\nnc: 3\nnames:\n  0: cat\n  1: dog\n  2: newt\n"
        what = rng.random()
        if what < 0.5:
            tree = {"path": str(self._folder), "train": "images", "names": {0: "cat", 1: "dog", 2: "newt"}, "nc": 3}
            data = json.dumps(damage_tree(rng, tree), ensure_ascii=rng.random() < 0.8).encode("utf-8", "surrogatepass")
        else:
            data = damage_bytes(rng, text.encode(), b"&a [*a, *a]\n!!python/object:os.system {}\n<<: *b\n")
        read_data_yaml(self._write("data.yaml", data), _NAMES)

    def _read_labels(self, rng: random.Random) -> None:
        label = self._folder / "labels" / "1.txt"
        good = label.read_bytes()
        try:
            label.write_bytes(damage_bytes(rng, good) if rng.random() < 0.5 else _encoded(_label_lines(rng)))
            text = f"path: {self._folder}\ntrain: images\nnames: [cat, dog, newt]\n"
            for image in read_data_yaml(self._write("data.yaml", text), _NAMES):
                _check_finite(image.boxes)
        finally:
            label.write_bytes(good)

    def _read_private(self, rng: random.Random) -> None:
        read_private_details(self._write("private.json", _json(rng, self._private)))

    def _read_coco(self, rng: random.Random) -> None:
        path = self._write("a.json", _json(rng, self._annotations))
        for image in read_coco(path, self._folder / "images", _NAMES):
            _check_finite(image.boxes)

    def _table(self, rng: random.Random, lines: list[str]) -> bytes:
        if rng.random() < 0.3:
            return damage_bytes(rng, "\n".join(lines).encode())
        return _encoded(damage_table(rng, lines))

    def _write(self, name: str, content: bytes | str) -> Path:
        path = self._case / name
        path.write_bytes(content if isinstance(content, bytes) else _encoded(content))
        return path


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _json(rng: random.Random, tree: Any) -> bytes:
    if rng.random() < 0.2:
        return damage_bytes(rng, json.dumps(tree).encode())
    return json.dumps(damage_tree(rng, tree), ensure_ascii=rng.random() < 0.8).encode("utf-8", "surrogatepass")


def _check_accuracy(accuracy: Any) -> None:
    """AP is in percent; without any true box it is not a number."""
    for name in ("ap", "ap50", "ap75"):
        value = getattr(accuracy, name)
        if not (math.isnan(value) or 0 <= value <= 100 + 1e-9):
            raise WrongError(f"{name} is {value}")


def _check_finite(boxes: Any) -> None:
    if not all(math.isfinite(float(number)) for box in boxes for number in box):
        raise WrongError(f"a box that is not finite: {boxes}")


def _label_lines(rng: random.Random) -> str:
    cells = ("0", "1", "2", "3", "-1", "1.0", "0.5", "0.25", "1.5", "nan", "inf", "1e400", "x", "", "0 0 0", "9" * 400)
    return "\n".join(" ".join(rng.choices(cells, k=rng.choice((4, 5, 5, 5, 6, 9)))) for _ in range(rng.randrange(1, 5)))


def _annotations() -> dict[str, Any]:
    return {
        "info": {"description": "toy"},
        "images": [{"id": n, "file_name": f"{n}.png", "width": 32, "height": 24} for n in range(3)],
        "annotations": [
            {
                **{"id": n + 1, "image_id": n, "category_id": n + 1, "bbox": [4, 3, 9.5, 8], "area": 76, "iscrowd": 0},
                **{"segmentation": _segmentation(n), "keypoints": [5, 4, 2, 9, 8.5, 1, 0, 0, 0], "num_keypoints": 2},
            }
            for n in range(3)
        ],
        "categories": [{"id": n + 1, "name": name, "supercategory": "animal"} for n, name in enumerate(_NAMES)],
    }


def _segmentation(form: int) -> Any:
    """A mask as a polygon, as counts in numbers, or as compressed counts."""
    pixels = np.zeros((24, 32), bool)
    pixels[3:11, 4:13] = True
    counts = encode(pixels)
    runs = {"size": [24, 32], "counts": runs_of(counts, 32, 24).tolist()}
    return ([[4, 3, 13, 3, 13.5, 11, 4, 11]], runs, {"size": [24, 32], "counts": counts})[form]


def _results() -> list[dict[str, Any]]:
    return [
        {
            **{"image_id": n, "image_name": str(n), "category_id": n + 1, "category_name": name},
            **{"bbox": [4, 3, 9, 8], "score": 0.9 - n / 10, "image_size": [32, 24]},
            **{"segmentation": _segmentation(2), "keypoints": [5, 4, 0.9, 9, 8, 0.5, 1, 1, 0.1]},
        }
        for n, name in enumerate(_NAMES)
    ]


def _parquet(results: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    with ParquetResults(file, [(result["image_id"], result["image_name"]) for result in results]) as table:
        table.write(results)
    return file.getvalue()


def _private() -> dict[str, Any]:
    plate = {"kind": "plate", "bbox": [4, 3, 9.5, 8], "text": "AB 123", "readable": True}
    face = {"kind": "face", "bbox": [1, 1, 3, 3], "text": None, "readable": False}
    return {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(3)],
        "details": [{"image_id": n, **detail} for n in range(3) for detail in (plate, face)],
    }


def _one_curve(lines: list[str]) -> list[str]:
    """The header and the rows of the bottleneck, which are one curve."""
    return [line for number, line in enumerate(lines) if number == 0 or line.startswith("bottleneck,")]
