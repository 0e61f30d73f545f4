"""All of featcodec on street scenes that it draws itself. `featcodec demo` shows this, and bin/quickstart runs it.

Nothing here is special to the demonstration: scenes, encode, decode, evaluate, sweep and invert work as their commands
do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from featcodec.bitstream import read_file
from featcodec.bitstream.rate import bits_per_pixel
from featcodec.codec import FeatureCodec
from featcodec.detections.drawing import draw_boxes
from featcodec.errors import FeatcodecError, InputError, OutputError
from featcodec.evaluation.anchors import InputJpegMethod
from featcodec.evaluation.coco import score
from featcodec.evaluation.dataset import Dataset, open_dataset
from featcodec.evaluation.methods import FeatureMethod, UncodedMethod
from featcodec.evaluation.points import PointFile, Row
from featcodec.evaluation.sweep import Plan, sweep
from featcodec.images.annotations import read_annotations
from featcodec.images.reading import IMAGE_SUFFIXES, read_image
from featcodec.images.side_by_side import Panel, save_png, side_by_side
from featcodec.pipeline import decode_files, encode_files
from featcodec.pipeline.coding import output_path
from featcodec.privacy.attack import Attack
from featcodec.privacy.attack_files import Attacked, attack_files
from featcodec.privacy.image_quality import mean_decibel
from featcodec.privacy.plate_reader import cut_plates
from featcodec.privacy.plate_text import characters_guessed, characters_read
from featcodec.privacy.plates import PlateAudit, ReadPlate
from featcodec.scenes.dataset import ANNOTATIONS, IMAGES, PRIVATE, write_scenes
from featcodec.system.leftovers import PART_SUFFIX
from featcodec.system.paths import Source, expand_sources

DETECTOR = "scenes"
LATENT_QPS = (34, 38, 40, 42, 44, 46)
JPEG_QUALITIES = (5, 10, 20, 30, 50, 70, 90)
PICTURE = "demo.png"
CONTENTS = ("scenes", "streams", "attack", "points.csv", PICTURE)
"""What the output folder holds. Only these may be removed to start anew."""
_PLATE_ZOOM = 4
_GRAY = 127

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class DemoRow:
    """One way to send the images.

    Attributes:
        name: what is sent.
        bpp: bits per pixel.
        ap50: AP50 in percent, measured on what is received.
        psnr: PSNR of an attacker's pictures from uncompressed features, in dB; None where the picture itself is sent.
        plates: share of the characters on readable plates that are read on what is sent or reconstructed, in [0, 1];
            None where it was not measured.
    """

    name: str
    bpp: float
    ap50: float
    psnr: float | None = None
    plates: float | None = None


@dataclass(frozen=True)
class Demo:
    """The result of the demonstration.

    Attributes:
        images: number of images.
        rows: PNG, JPEG and latent coding at the bottleneck's accuracy or better, and the bottleneck.
        guessing: share of characters that a guess gets right.
        picture: original, detections, frame and what attackers see, as one PNG.
    """

    images: int
    rows: tuple[DemoRow, ...]
    guessing: float
    picture: Path


def run_demo(
    folder: Path, count: int, seed: int, qp: int, *, workers: int | None = None, say: Callable[[str], None]
) -> Demo:
    """Draw scenes, code them, finish the detection, attack, and compare.

    Args:
        folder: output folder; must be new or empty.
        count, seed: number of scenes, and their seed.
        qp: QP of the bottleneck's streams, 0..63.
        workers: encoder processes and threads at a time; None means one per core.
        say: called with one line before each step.

    Raises:
        OutputError: the folder is not empty, or cannot be written.
        FeatcodecError: a step failed.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: exists; choose another -o, or --overwrite")
    say(f"scenes: {count} street scenes -> {folder / 'scenes'}")
    scenes = folder / "scenes"
    with closing(write_scenes(scenes, count, seed, workers=workers)) as drawn:
        for _ in drawn:
            pass
    codec = FeatureCodec.load(DETECTOR)
    if codec.model.bottleneck is None:
        raise InputError(f"no bottleneck comes with the detector {DETECTOR}; install featcodec again")
    latent = FeatureCodec.load(DETECTOR, bottleneck="none")
    sources = expand_sources([str(scenes / IMAGES)], IMAGE_SUFFIXES, "images")
    dataset = open_dataset(sources, read_annotations(scenes / ANNOTATIONS))

    say(f"encode and decode: through the bottleneck at QP {qp} -> {folder / 'streams'}")
    coded = _coded(codec, dataset, folder / "streams", qp, workers)
    say("sweep: the uncoded detector, latent features and JPEG, to compare with")
    file = PointFile(folder / "points.csv")
    plans: list[Plan[Any, Any]] = [
        Plan(UncodedMethod(latent), [None]),
        Plan(FeatureMethod(latent), LATENT_QPS),
        Plan(InputJpegMethod(latent), JPEG_QUALITIES),
    ]
    with closing(sweep(plans, dataset, file, workers=workers)) as outcomes:
        _check(outcome.error for outcome in outcomes)
    say(f"invert: what an attacker sees -> {folder / 'attack'}")
    attacks = Attack.load(codec, None), Attack.load(latent, None)
    audit = PlateAudit.load(scenes / PRIVATE, None, [source.relative for source in sources])
    originals = {source.path: source.path for source in sources}
    inversion = attack_files(
        attacks[0], sources, folder / "attack", originals=originals, latent=attacks[1], plates=audit, workers=workers
    )
    with closing(inversion) as outcomes:
        inverted = list(outcomes)
    _check(outcome.error for outcome in inverted)

    picture = folder / PICTURE
    shown = max(inverted, key=lambda outcome: len(outcome.plates or ()))
    save_png(picture, _picture(codec, attacks, audit, shown.source, output_path(shown.source, folder / "streams")))
    rows = (*_anchors(file.rows(), dataset, coded, inverted), _bottleneck_row(coded, inverted, qp))
    return Demo(count, rows, characters_guessed(audit.reader.config.alphabets), picture)


def remove_older(folder: Path) -> None:
    """Remove what an earlier run left, even a run that was killed. If the folder holds anything else, remove no file.

    Raises:
        OutputError: the folder holds other things, or is not a folder.
        OSError: a file cannot be removed.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder}: is not a folder; choose another -o")
    older = sorted(folder.iterdir())
    for path in older:
        if path.name not in CONTENTS and not (path.name.startswith(".") and path.suffix == PART_SUFFIX):
            raise OutputError(
                f"{folder}: holds other things ({path.name}), so nothing is removed; move them or choose another -o"
            )
    for path in older:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _coded(codec: FeatureCodec, dataset: Dataset, folder: Path, qp: int, workers: int | None) -> tuple[float, float]:
    """Write the streams, then measure bits per pixel and AP50 from the files alone."""
    with closing(encode_files(codec, dataset.sources, folder, qp, workers=workers)) as encoded:
        _check(outcome.error for outcome in encoded)
    streams = [Source(output_path(source, folder), source.relative) for source in dataset.sources]
    categories = dataset.annotations.category_ids(codec.model.detector.names)
    sizes, results = [], []
    with closing(decode_files(codec, streams, workers=workers)) as decoded:
        for image_id, outcome in zip(dataset.image_ids, decoded, strict=True):
            _check([outcome.error])
            found = outcome.detections
            assert found is not None  # noqa: S101  (there was no error)
            results += found.to_coco(image_id, categories)
            sizes.append((outcome.source.path.stat().st_size, found.width, found.height))
    return bits_per_pixel(sizes), score(dataset.annotations, results).ap50


def _anchors(
    rows: Sequence[Row], dataset: Dataset, coded: tuple[float, float], inverted: Sequence[Attacked]
) -> list[DemoRow]:
    """PNG, and the points of JPEG and latent coding that need the fewest bits to be as accurate as the bottleneck."""
    _, ap50 = coded
    pixels = [(source.path.stat().st_size, *_size(source.path)) for source in dataset.sources]
    uncoded = next(row for row in rows if row["method"] == "uncoded")
    jpeg, latent = (_cheapest(rows, method, ap50) for method in ("input-jpeg", "latent"))
    return [
        DemoRow("PNG", bits_per_pixel(pixels), float(uncoded["ap50"]), None, _read(inverted, "original")),
        DemoRow(f"JPEG, quality {jpeg['quality']}", float(jpeg["bpp"]), float(jpeg["ap50"])),
        DemoRow(
            f"latent features, QP {latent['qp']}",
            float(latent["bpp"]),
            float(latent["ap50"]),
            mean_decibel(one.latent_quality.psnr for one in inverted if one.latent_quality is not None),
            _read(inverted, "latent"),
        ),
    ]


def _bottleneck_row(coded: tuple[float, float], inverted: Sequence[Attacked], qp: int) -> DemoRow:
    psnr = mean_decibel(one.quality.psnr for one in inverted if one.quality is not None)
    return DemoRow(f"bottleneck, QP {qp}", *coded, psnr, _read(inverted, "reconstruction"))


def _cheapest(rows: Sequence[Row], method: str, ap50: float) -> Row:
    """The cheapest point that is at least this accurate, or the most accurate point if none is."""
    points = sorted((row for row in rows if row["method"] == method), key=lambda row: float(row["bpp"]))
    enough = [row for row in points if float(row["ap50"]) >= ap50]
    return enough[0] if enough else max(points, key=lambda row: float(row["ap50"]))


def _read(inverted: Sequence[Attacked], name: str) -> float | None:
    plates: list[ReadPlate] = [plate for one in inverted for plate in one.plates or ()]
    return characters_read((plate.text, plate.found[name]) for plate in plates) if plates else None


def _picture(
    codec: FeatureCodec, attacks: tuple[Attack, Attack], audit: PlateAudit, source: Source, stream: Path
) -> Pixels:
    """Two rows of three pictures: original, detections, frame; then both attacks, and the largest plate on each."""
    original = read_image(source.path)
    data = read_file(stream)
    _, frame = codec.decode_frame(data)
    letterboxed = codec.letterbox(original)
    seen = [np.rint(attack.on_images([letterboxed])[0] * 255).astype(np.uint8) for attack in (attacks[1], attacks[0])]
    side = original.shape[1]
    bits = bits_per_pixel([(len(data), original.shape[1], original.shape[0])])
    upper = [
        Panel(original, ("what the camera sees",)),
        Panel(draw_boxes(original, codec.decode(data)), ("what the cloud finds",)),
        Panel(_as_wide(frame, side), (f"what is sent: {bits:.2f} bits per pixel",)),
    ]
    lower = [
        Panel(seen[0], ("attack on latent features",)),
        Panel(seen[1], ("attack on the bottleneck",)),
        Panel(_plates(audit, source.relative, [original, *seen]), ("a plate: original, latent, bottleneck",)),
    ]
    rows = [side_by_side(panels) for panels in (upper, lower)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    )


def _plates(audit: PlateAudit, image: PurePath, pictures: Sequence[Pixels]) -> Pixels:
    """The largest readable plate on each picture, enlarged, one below the other."""
    height, width = pictures[0].shape[:2]
    canvas = np.full((height, width, 3), _GRAY, np.uint8)
    plates = audit.details.plates(image)
    if not plates:
        return canvas
    box = max(plates, key=lambda plate: plate.box[2] * plate.box[3]).box
    part = height // len(pictures)
    for number, picture in enumerate(pictures):
        (crop,) = cut_plates(picture, [box], (width, height))
        factor = min(_PLATE_ZOOM, width / crop.shape[1], part / crop.shape[0])
        size = round(crop.shape[1] * factor), round(crop.shape[0] * factor)
        enlarged = np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.BICUBIC))
        top, left = number * part + (part - size[1]) // 2, (width - size[0]) // 2
        canvas[top : top + size[1], left : left + size[0]] = enlarged
    return canvas


def _as_wide(frame: Pixels, side: int) -> Pixels:
    """A gray frame as RGB, its samples enlarged until it fits a square."""
    factor = side / max(frame.shape)
    size = round(frame.shape[1] * factor), round(frame.shape[0] * factor)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.NEAREST).convert("RGB"))


def _size(path: Path) -> tuple[int, int]:
    height, width, _ = read_image(path).shape
    return width, height


def _check(errors: Iterable[str | None]) -> None:
    for error in errors:
        if error is not None:
            raise FeatcodecError(error)
