"""featcodec invert --private: what is read on originals and reconstructions, and how it is told."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import save_texture
from PIL import Image
from plate_set import make_scenes, plates_on
from torch import Tensor, nn

from featcodec import FeatureCodec
from featcodec.cli.plates import plate_line, plate_summary
from featcodec.errors import InputError, WeightsError
from featcodec.images.reading import read_image
from featcodec.networks.bottleneck import Bottleneck, BottleneckConfig, save_bottleneck
from featcodec.pipeline.encode import encode_files
from featcodec.privacy.attack import Attack
from featcodec.privacy.attack_files import Attacked, attack_files
from featcodec.privacy.plate_reader import PlateReader, PlateReaderConfig, save_plate_reader
from featcodec.privacy.plate_text import characters_read
from featcodec.privacy.plates import PlateAudit, ReadPlate
from featcodec.privacy.private_details import read_private_details
from featcodec.privacy.recnet import RecNet, RecNetConfig, save_recnet
from featcodec.privacy.text_head import PLATE_FORMAT
from featcodec.system.paths import Source

FEATURES = 16


class Painter(nn.Module):
    """In place of a RecNet: shows always the same picture, (H, W, 3) in [0, 1]."""

    def __init__(self, codec: FeatureCodec, picture: Any) -> None:
        super().__init__()
        self.config = recnet_config(codec)
        self.picture = torch.as_tensor(picture, dtype=torch.float32).permute(2, 0, 1)

    def forward(self, coded: Tensor, qp: Tensor | None = None) -> Tensor:
        height, width = 8 * coded.shape[2], 8 * coded.shape[3]
        return nn.functional.interpolate(self.picture[None], (height, width), mode="area").repeat(len(coded), 1, 1, 1)


def recnet_config(codec: FeatureCodec) -> RecNetConfig:
    sizes = (0, 0) if codec.model.bottleneck is None else (10, 6)
    return RecNetConfig(FEATURES, *sizes, (2, 1), codec.fingerprint.hex(), {})


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes; on the first there are readable plates."""
    folder = make_scenes(tmp_path_factory.mktemp("scenes"), 6)
    first = plates_on(folder)[0][0]
    (folder / "first").mkdir()
    (folder / "first" / first.name).write_bytes(first.read_bytes())
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny_yolov5: Path) -> Path:
    """A folder with bottleneck, latent (RecNet) and attack (RecNet on the bottleneck), all of random weights."""
    folder = tmp_path_factory.mktemp("recnets")
    codec = FeatureCodec.load(tiny_yolov5)
    torch.manual_seed(0)
    fingerprint = codec.model.detector.fingerprint.hex()
    bottleneck = BottleneckConfig(FEATURES, 10, 6, -3.0, 3.0, codec.model.detector.split, fingerprint, {})
    save_bottleneck(folder / "bottleneck.safetensors", Bottleneck(bottleneck))
    learned = FeatureCodec.load(tiny_yolov5, bottleneck=folder / "bottleneck.safetensors")
    save_recnet(folder / "latent.safetensors", RecNet(recnet_config(codec)))
    save_recnet(folder / "attack.safetensors", RecNet(recnet_config(learned)))
    return folder


@pytest.fixture
def model(tiny_yolov5: Path, weights: Path) -> list[object]:
    bottleneck = weights / "bottleneck.safetensors"
    return ["--detector", tiny_yolov5, "--bottleneck", bottleneck, "--recnet", weights / "attack.safetensors"]


# What is read


@pytest.mark.slow
@pytest.mark.parametrize("image_size", [512, 384])
def test_plates_are_read_on_every_picture_at_its_own_scale(
    scenes: Path, tiny_yolov5: Path, tmp_path: Path, image_size: int
) -> None:
    """An attack that recovers everything shows every character, one that paints it gray shows none."""
    codec = FeatureCodec.load(tiny_yolov5, image_size=image_size)
    (path,) = (scenes / "first").iterdir()
    original = read_image(path) / 255
    perfect, blind = (Attack(codec, Painter(codec, picture)) for picture in (original, np.full((8, 8, 3), 0.5)))
    audit = PlateAudit.load(scenes / "private.json", None, [path])
    source, own = Source(path, Path(path.name)), {path: path}

    def read(attack: Attack, latent: Attack | None, folder: str) -> tuple[ReadPlate, ...]:
        outcomes = attack_files(attack, [source], tmp_path / folder, originals=own, latent=latent, plates=audit)
        (outcome,) = outcomes
        assert outcome.error is None
        assert outcome.plates is not None
        return outcome.plates

    plates = read(perfect, blind, "a")
    assert [plate.text for plate in plates] == [text for image, _, text in plates_on(scenes) if image.name == path.name]
    for plate in plates:
        assert list(plate.found) == ["original", "latent", "reconstruction"]
    for name, least, most in (("original", 0.85, 1), ("reconstruction", 0.85, 1), ("latent", 0, 0.4)):
        assert least <= characters_read((plate.text, plate.found[name]) for plate in plates) <= most, name
    swapped = read(blind, perfect, "b")
    assert [plate.found["latent"] for plate in swapped] == [plate.found["reconstruction"] for plate in plates]
    assert [list(plate.found) for plate in read(perfect, None, "c")] == [["original", "reconstruction"]] * len(plates)


def test_images_that_are_not_listed_or_have_no_original_are_not_audited(
    scenes: Path, tiny_yolov5: Path, tmp_path: Path
) -> None:
    codec = FeatureCodec.load(tiny_yolov5, image_size=96)
    listed = next((scenes / "images").iterdir())
    sources = [Source(path, Path(path.name)) for path in (listed, save_texture(tmp_path / "in/other.png", 96, 64))]
    audit = PlateAudit.load(scenes / "private.json", None, [listed])
    attack = Attack(codec, Painter(codec, np.full((8, 8, 3), 0.5)))
    own = {source.path: source.path for source in sources}
    found = list(attack_files(attack, sources, tmp_path / "a", originals=own, plates=audit))
    assert [outcome.plates is None for outcome in found] == [False, True]
    found = list(attack_files(attack, sources, tmp_path / "b", plates=audit))
    assert [outcome.plates for outcome in found] == [None, None]


def test_an_audit_needs_details_of_these_images_and_a_reader(scenes: Path, tmp_path: Path) -> None:
    private = scenes / "private.json"
    with pytest.raises(InputError, match=r"private.json: lists none of the originals"):
        PlateAudit.load(private, None, [tmp_path / "other.png"])
    with pytest.raises(WeightsError, match="absent"):
        PlateAudit.load(private, tmp_path / "absent", [Path("000000.png")])


# How it is told


def outcome(*plates: ReadPlate) -> Attacked:
    return Attacked(Source(Path("a.png"), Path("a.png")), Path("b.png"), plates=plates)


def test_the_summary_counts_images_plates_and_characters() -> None:
    done = [
        outcome(ReadPlate("AB", {"original": "AB", "reconstruction": "XX"})),
        outcome(),
        Attacked(Source(Path("c.png"), Path("c.png")), Path("d.png")),
        outcome(ReadPlate("CD", {"original": "CX", "reconstruction": "XD"})),
    ]
    summary = plate_summary(done, ["AB", "ABCD"])
    assert summary == {
        "images": 3,
        "readable": 2,
        "characters": {"original": 0.75, "reconstruction": 0.25},
        "whole": {"original": 0.5, "reconstruction": 0.0},
        "guessing": 0.375,
    }
    assert plate_line(summary, "bottleneck") == (
        "plates: 2 readable plates on 3 images; characters read: original 75.0 %, bottleneck 25.0 % (guessing 38 %)"
    )
    assert plate_line(plate_summary([outcome()], PLATE_FORMAT), "bottleneck") == "plates: 0 readable plates on 1 image"


# The command


@pytest.fixture
def run(run: Any) -> Any:
    return partial(run, "invert")


@pytest.mark.slow
def test_the_command_tells_how_much_is_read(
    run: Any, scenes: Path, model: list[object], weights: Path, tmp_path: Path
) -> None:
    arguments = [scenes / "images", *model, "--latent-recnet", weights / "latent.safetensors"]
    arguments += ["--private", scenes / "private.json"]
    code, out, err = run(*arguments, "-o", tmp_path / "a", "--json")
    report = json.loads(out)
    assert (code, err) == (0, "")
    summary, truth = report["plates"], plates_on(scenes)
    assert (summary["images"], summary["readable"]) == (6, len(truth))
    assert list(summary["characters"]) == ["original", "latent", "reconstruction"]
    assert summary["characters"]["original"] >= 0.95
    assert max(summary["characters"][name] for name in ("latent", "reconstruction")) < 0.4
    assert summary["guessing"] == pytest.approx(0.0596, abs=1e-3)
    told = [(Path(entry["source"]), plate["text"]) for entry in report["files"] for plate in entry["plates"]]
    assert told == [(path, text) for path, _, text in truth]
    for name, share in summary["characters"].items():
        pairs = [(plate["text"], plate[name]) for entry in report["files"] for plate in entry["plates"]]
        assert characters_read(pairs) == share
    lines = run(*arguments, "-o", tmp_path / "b")[1].splitlines()
    assert lines[-2] == plate_line(summary, "bottleneck")
    assert re.fullmatch(
        r"plates: \d+ readable plates on 6 images; characters read: original [\d.]+ %, latent [\d.]+ %, "
        r"bottleneck [\d.]+ % \(guessing 6 %\)",
        lines[-2],
    )
    assert lines[-1].startswith("6 inverted, 0 failed")


@pytest.mark.slow
def test_streams_are_audited_by_their_originals_and_by_a_reader_of_ones_own(
    run: Any, scenes: Path, model: list[object], weights: Path, tiny_yolov5: Path, tmp_path: Path
) -> None:
    codec = FeatureCodec.load(tiny_yolov5, bottleneck=weights / "bottleneck.safetensors")
    (path,) = (scenes / "first").iterdir()
    (tmp_path / "in").mkdir()
    Image.open(path).save(tmp_path / "in" / f"{path.stem}.bmp")
    (coded,) = encode_files(codec, [Source(path, Path(path.name))], tmp_path / "streams", 40, workers=1)
    assert coded.error is None
    reader = PlateReader(PlateReaderConfig(alphabets=("0", "1")))
    save_plate_reader(tmp_path / "reader.safetensors", reader)
    arguments = [tmp_path / "streams", *model, "--private", scenes / "private.json", "--json"]
    originals = ["--originals", tmp_path / "in"]
    shipped = json.loads(run(*arguments, *originals, "-o", tmp_path / "a")[1])["plates"]
    assert shipped["characters"]["original"] > 0.8
    assert "latent" not in shipped["characters"]
    own = ["--plate-reader", tmp_path / "reader.safetensors"]
    report = json.loads(run(*arguments, *originals, *own, "-o", tmp_path / "b")[1])
    assert {plate["original"] for plate in report["files"][0]["plates"]} == {"01"}
    assert report["plates"]["guessing"] == 1
    code, out, err = run(*arguments, "-o", tmp_path / "c")
    assert (code, out) == (2, "")
    assert "--private needs --originals" in " ".join(err.split())


@pytest.mark.slow
def test_without_a_bottleneck_the_features_are_what_was_attacked(
    run: Any, scenes: Path, weights: Path, tiny_yolov5: Path, tmp_path: Path
) -> None:
    model = ["--detector", tiny_yolov5, "--recnet", weights / "latent.safetensors"]
    _, out, _ = run(scenes / "first", "-o", tmp_path / "a", *model, "--private", scenes / "private.json")
    assert re.search(r"^plates: .* original [\d.]+ %, features [\d.]+ % \(", out, re.MULTILINE)
    assert "plates" not in run(scenes / "first", "-o", tmp_path / "b", *model)[1]


def test_images_that_are_not_listed_are_counted_in_a_note(
    run: Any, scenes: Path, weights: Path, tiny_yolov5: Path, tmp_path: Path
) -> None:
    (path,) = (scenes / "first").iterdir()
    (tmp_path / "p.json").write_text(
        json.dumps({"images": [{"id": 1, "file_name": f"cam1/{path.name}"}], "details": []})
    )
    for name in (f"cam1/{path.name}", "cam2/other.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        (tmp_path / "in" / name).write_bytes(path.read_bytes())
    model = ["--detector", tiny_yolov5, "--recnet", weights / "latent.safetensors", "--private", tmp_path / "p.json"]
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "a", *model, "--image-size", "96")
    assert (code, "plates: 0 readable plates on 1 image\n" in out, err.count("\n")) == (0, True, 1)
    assert "p.json does not list 1 of 2 images (the first is " in err
    (tmp_path / "in/cam2/other.png").rename(tmp_path / "in/cam2" / path.name)
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "b", *model, "--image-size", "96")
    assert (code, out, err.count("\n"), (tmp_path / "b").exists()) == (1, "", 1, False)
    assert f"p.json: cam1/{path.name} and cam2/{path.name} would both be its image cam1/{path.stem}; give only" in err


def test_refusals_are_one_line_before_anything_is_written(
    run: Any, scenes: Path, model: list[object], tmp_path: Path
) -> None:
    (tmp_path / "p.json").write_text('{"images": 1}')
    foreign = {"images": [{"id": 1, "file_name": "foreign.png"}], "details": []}
    (tmp_path / "foreign.json").write_text(json.dumps(foreign))
    (tmp_path / "reader").write_text("no checkpoint")
    good = scenes / "private.json"
    for private, reader, part in (
        (tmp_path / "absent.json", "auto", "absent.json: no such file"),
        (tmp_path / "p.json", "auto", "no list 'images'"),
        (tmp_path / "foreign.json", "auto", "lists none of the originals"),
        (good, tmp_path / "reader", "reader: not a safetensors checkpoint"),
    ):
        outcome = run(scenes / "first", "-o", tmp_path / "out", *model, "--private", private, "--plate-reader", reader)
        code, out, err = outcome
        assert (code, out, err.count("\n")) == (1, "", 1), err
        assert part in err
    assert not (tmp_path / "out").exists()
    assert read_private_details(good).lists(Path("000000.png"))
