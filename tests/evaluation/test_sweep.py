"""Sweeps: rows are what encode, decode and evaluate say, done points are skipped, a killed sweep goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import texture
from sweep_set import SIDE, dataset_of, make_sweep_set

from featcodec import FeatureCodec
from featcodec.cli.main import main
from featcodec.errors import EncoderError, InputError
from featcodec.evaluation.anchors import InputJpegMethod, InputVvcMethod
from featcodec.evaluation.coco import score
from featcodec.evaluation.methods import FeatureMethod
from featcodec.evaluation.points import COLUMNS, PointFile, Row
from featcodec.evaluation.rate import rate_of_streams
from featcodec.evaluation.sweep import Outcome, Plan, sweep
from featcodec.images.reading import read_image
from featcodec.networks.bottleneck import Bottleneck, BottleneckConfig, save_bottleneck
from featcodec.networks.checkpoints import fingerprint
from featcodec.networks.restoration import Restoration, RestorationConfig, load_restoration, save_restoration
from featcodec.pipeline import decode_files, encode_files
from featcodec.privacy.attack_results import read_attack_results
from featcodec.privacy.attackers import find_shipped_attacker
from featcodec.privacy.image_quality import image_quality
from featcodec.privacy.recnet import RecNet, RecNetConfig, save_recnet
from featcodec.system.paths import expand_sources

SECONDS = ("front_end_seconds", "encode_seconds", "decode_seconds", "back_end_seconds")


@pytest.fixture(scope="module")
def codec(tiny_yolov5: Path) -> FeatureCodec:
    return FeatureCodec.load(tiny_yolov5, bottleneck=None, image_size=SIDE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_yolov5: Path) -> Path:
    return make_sweep_set(tmp_path_factory.mktemp("set"), tiny_yolov5)


def measure(codec: FeatureCodec, folder: Path, path: Path, *qps: int, **options: Any) -> list[Outcome]:
    return list(sweep([Plan(FeatureMethod(codec), qps)], dataset_of(folder), PointFile(path), **options))


def rows_of(outcomes: list[Outcome]) -> list[Row]:
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    return [outcome.row for outcome in outcomes if outcome.row is not None]


@pytest.mark.slow
def test_rows_are_what_encode_decode_and_evaluate_say(tmp_path: Path, codec: FeatureCodec, folder: Path) -> None:
    dataset = dataset_of(folder)
    rows = rows_of(measure(codec, folder, tmp_path / "points.csv", 20, 40))
    for row, qp in zip(rows, (20, 40), strict=True):
        streams = tmp_path / str(qp)
        assert not any(outcome.error for outcome in encode_files(codec, dataset.sources, streams, qp))
        sources = expand_sources([str(streams)], frozenset({".266"}), "streams")
        results = []
        for outcome in decode_files(codec, sources):
            assert outcome.detections is not None
            results += outcome.detections.to_coco(dataset.annotations.image_id(outcome.source.name))
        accuracy, rate = score(dataset.annotations, results), rate_of_streams([source.path for source in sources])
        assert (row["method"], row["qp"], row["images"]) == ("latent", str(qp), "5")
        # Convolutions over a batch may round a feature the other way.
        assert int(row["bytes"]) == pytest.approx(rate.bytes, rel=0.01)
        assert float(row["bpp"]) == pytest.approx(rate.bpp, rel=0.01)
        assert float(row["ap50"]) == pytest.approx(accuracy.ap50, abs=3)
        assert int(row["bytes"]) == int(row["header_bytes"]) + int(row["slice_bytes"])
        assert 80 * 5 < int(row["header_bytes"]) < 100 * 5
        assert all(float(row[name]) > 0 for name in SECONDS)
    assert int(rows[0]["bytes"]) > int(rows[1]["bytes"])
    assert float(rows[0]["ap50"]) > 60, "the truth is what the uncoded detector finds"
    assert PointFile(tmp_path / "points.csv").rows() == rows


def renumbered(folder: Path, target: Path, **renamed: str) -> Path:
    """The same set with category ids that are other classes' ids, and some categories renamed."""
    shutil.copytree(folder, target)
    content = json.loads((folder / "annotations.json").read_text())
    others = {0: 2, 1: 7, 2: 1}
    for category in content["categories"]:
        category.update(id=others[category["id"]], name=renamed.get(category["name"], category["name"]))
    for annotation in content["annotations"]:
        annotation["category_id"] = others[annotation["category_id"]]
    (target / "annotations.json").write_text(json.dumps(content))
    return target


@pytest.mark.slow
def test_category_ids_do_not_matter(tmp_path: Path, codec: FeatureCodec, folder: Path) -> None:
    sets = (folder, renumbered(folder, tmp_path / "renumbered"))
    first, second = (rows_of(measure(codec, one, tmp_path / f"{one.name}.csv", 20))[0] for one in sets)
    for name in ("ap50", "ap", "bytes"):
        assert first[name] == second[name]
    assert float(first["ap50"]) > 60


@pytest.mark.slow
def test_command_says_which_classes_the_annotations_lack(
    run: Any, tiny_yolov5: Path, folder: Path, tmp_path: Path
) -> None:
    other = renumbered(folder, tmp_path / "renumbered", dog="Dog")
    arguments = [other / "in", "--annotations", other / "annotations.json", "-o", tmp_path / "points.csv"]
    arguments += ["--detector", tiny_yolov5, "--qp", 40, "--image-size", SIDE]
    code, _, err = run(*arguments)
    assert code == 0
    note = "has no category 'dog' (it has 'Dog'); boxes of these classes are left out"
    assert err == f"featcodec: note: {other / 'annotations.json'} {note}\n"


@pytest.mark.slow
def test_anchors_go_through_the_same_sweep(tmp_path: Path, codec: FeatureCodec, folder: Path) -> None:
    plans = [Plan(InputVvcMethod(codec), [14]), Plan(InputJpegMethod(codec), [95, 30])]
    vvc, fine, coarse = rows_of(list(sweep(plans, dataset_of(folder), PointFile(tmp_path / "points.csv"))))
    assert [row["method"] for row in (vvc, fine, coarse)] == ["input-vvc", "input-jpeg", "input-jpeg"]
    assert [(row["qp"], row["quality"]) for row in (vvc, fine, coarse)] == [("14", ""), ("", "95"), ("", "30")]
    assert float(vvc["ap50"]) > 60
    assert float(fine["ap50"]) > 60
    assert float(fine["bpp"]) > float(coarse["bpp"])
    for row in (vvc, fine, coarse):
        assert 0 < int(row["header_bytes"]) < int(row["bytes"])
        # Every byte counts, over the pixels of the images before the letterbox.
        pixels = sum(width * height for width, height in ((96, 64), (64, 96), (120, 80), (90, 90), (96, 64)))
        assert float(row["bpp"]) == pytest.approx(8 * int(row["bytes"]) / pixels)


@pytest.mark.slow
def test_front_end_runs_once_an_image_and_decoders_get_bytes(
    tmp_path: Path, codec: FeatureCodec, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images: list[int] = []
    decoded: list[object] = []
    original, decode = FeatureCodec.tensors_of, FeatureCodec.decode_frame

    def front(self: FeatureCodec, batch: Any) -> Any:
        images.append(len(batch))
        return original(self, batch)

    def frame(self: FeatureCodec, data: bytes) -> Any:
        decoded.append(data)
        return decode(self, data)

    monkeypatch.setattr(FeatureCodec, "tensors_of", front)
    monkeypatch.setattr(FeatureCodec, "decode_frame", frame)
    rows = rows_of(measure(codec, folder, tmp_path / "points.csv", 30, 35, 40))
    assert sum(images) == 5
    assert all(type(data) is bytes for data in decoded)
    assert sum(len(data) for data in decoded if isinstance(data, bytes)) == sum(int(row["bytes"]) for row in rows)


@pytest.mark.slow
def test_done_points_are_skipped_and_others_are_not(tmp_path: Path, codec: FeatureCodec, folder: Path) -> None:
    path = tmp_path / "points.csv"
    measure(codec, folder, path, 36)
    before = path.read_bytes()
    outcomes = measure(codec, folder, path, 36)
    assert [outcome.skipped for outcome in outcomes] == [True]
    assert path.read_bytes() == before
    assert [outcome.skipped for outcome in measure(codec, folder, path, 36, 40)] == [True, False]
    square = dataclasses.replace(codec, square=True)
    assert [outcome.skipped for outcome in measure(square, folder, path, 36)] == [False]
    subset = dataset_of(folder, "0.png", "1.png")
    (outcome,) = sweep([Plan(FeatureMethod(codec), [36])], subset, PointFile(path))
    assert not outcome.skipped
    assert outcome.row is not None
    assert outcome.row["images"] == "2"
    assert len(PointFile(path).rows()) == 4


@pytest.mark.slow
def test_what_a_row_lacks_is_measured_and_what_it_had_is_kept(
    tmp_path: Path, codec: FeatureCodec, folder: Path
) -> None:
    path = tmp_path / "points.csv"
    (plain,) = rows_of(measure(codec, folder, path, 30))
    (with_interval,) = rows_of(measure(codec, folder, path, 30, bootstrap=50, seed=1))
    assert plain["ap50_low"] == ""
    assert (with_interval["bootstrap"], with_interval["seed"]) == ("50", "1")
    assert float(with_interval["ap50_low"]) < float(with_interval["ap50"]) <= float(with_interval["ap50_high"]) + 1e-6
    assert measure(codec, folder, path, 30, bootstrap=50, seed=1)[0].skipped
    assert measure(codec, folder, path, 30)[0].skipped
    assert not measure(codec, folder, path, 30, bootstrap=50, seed=2)[0].skipped
    attacked = FeatureMethod(codec, attacker=Gray(), recnet="ab12")
    (outcome,) = sweep([Plan(attacked, [30])], dataset_of(folder), PointFile(path))
    assert outcome.row is not None
    assert (outcome.row["recnet"], outcome.row["seed"]) == ("ab12", "2")
    assert outcome.row["ap50_low"]
    assert measure(codec, folder, path, 30)[0].row == outcome.row


class Gray:
    """An attacker who sees nothing."""

    def on_streams(self, batch: Any) -> list[Any]:
        pictures = []
        for side_info, _ in batch:
            assert side_info.qp == 30
            gain = SIDE / max(side_info.original_width, side_info.original_height)
            size = (round(side_info.original_height * gain), round(side_info.original_width * gain))
            pictures.append(np.full((*size, 3), 0.5, np.float32))
        return pictures


def test_psnr_is_of_the_pictures_without_border(tmp_path: Path, codec: FeatureCodec, folder: Path) -> None:
    attacked = FeatureMethod(codec, attacker=Gray(), recnet="ab12")
    dataset = dataset_of(folder, "0.png", "1.png")
    (outcome,) = sweep([Plan(attacked, [30])], dataset, PointFile(tmp_path / "points.csv"))
    assert outcome.row is not None
    expected = []
    for seed, size in enumerate(((96, 64), (64, 96))):
        original = texture(*size, seed=seed).astype(np.float32) / 255
        expected.append(image_quality(original, np.full_like(original, 0.5)))
    assert float(outcome.row["psnr"]) == pytest.approx(np.mean([quality.psnr for quality in expected]), abs=1e-4)
    assert float(outcome.row["edge_psnr"]) == pytest.approx(np.mean([one.edge_psnr for one in expected]), abs=1e-4)


@pytest.mark.slow
def test_a_point_that_fails_costs_itself(
    tmp_path: Path, codec: FeatureCodec, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = type(codec.video_codec).encode

    def failing(self: Any, frames: Any, qp: int, **options: Any) -> list[bytes]:
        if qp == 36:
            raise EncoderError("no\nroom")
        return encode(self, frames, qp, **options)

    monkeypatch.setattr(type(codec.video_codec), "encode", failing)
    outcomes = measure(codec, folder, tmp_path / "points.csv", 36, 40)
    assert outcomes[0].error == "latent, qp 36: no room"
    assert outcomes[1].error is None
    assert [row["qp"] for row in PointFile(tmp_path / "points.csv").rows()] == ["40"]


@pytest.mark.slow
def test_a_front_end_that_fails_once_is_run_again_for_the_next_point(
    tmp_path: Path, codec: FeatureCodec, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [RuntimeError("can't allocate memory")]
    original = FeatureCodec.tensors_of

    def front(self: FeatureCodec, batch: Any) -> Any:
        if failures:
            raise failures.pop()
        return original(self, batch)

    monkeypatch.setattr(FeatureCodec, "tensors_of", front)
    outcomes = measure(codec, folder, tmp_path / "points.csv", 36, 40)
    assert outcomes[0].error == "latent, qp 36: can't allocate memory"
    assert outcomes[1].row is not None
    assert outcomes[1].row["images"] == "5"


@pytest.mark.slow
def test_an_unreadable_image_ends_the_sweep_before_anything_is_coded(
    tmp_path: Path, codec: FeatureCodec, tiny_yolov5: Path
) -> None:
    folder = make_sweep_set(tmp_path / "set", tiny_yolov5, 3)
    (folder / "in/1.png").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"1\.png: not a readable image"):
        measure(codec, folder, tmp_path / "points.csv", 36)
    assert not (tmp_path / "points.csv").exists()


@pytest.mark.slow
def test_abandoning_a_sweep_keeps_what_is_done(tmp_path: Path, codec: FeatureCodec, folder: Path) -> None:
    outcomes = sweep([Plan(FeatureMethod(codec), range(30, 40))], dataset_of(folder), PointFile(tmp_path / "p.csv"))
    next(outcomes)
    outcomes.close()
    assert len(PointFile(tmp_path / "p.csv").rows()) == 1


# The command.


@pytest.fixture
def run(run: Any) -> Any:
    return partial(run, "sweep")


@pytest.fixture
def arguments(folder: Path, tiny_yolov5: Path, tmp_path: Path) -> list[object]:
    return [
        *(folder / "in", "--annotations", folder / "annotations.json", "-o", tmp_path / "points.csv"),
        *("--detector", tiny_yolov5, "--image-size", SIDE),
    ]


@pytest.mark.slow
def test_command_measures_and_skips(run: Any, arguments: list[object], tmp_path: Path) -> None:
    methods = ["--method", "latent", "--method", "input-vvc", "--method", "input-jpeg"]
    options = ["--qp", "36,40-41", "--quality", "50", "--bootstrap", "20"]
    code, out, err = run(*arguments, *methods, *options)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("latent  profile fast  QP 36  ")
    assert "bpp  AP50 " in lines[0]
    assert lines[-1] == f"7 measured, 0 already there, 0 failed -> {tmp_path / 'points.csv'}"
    code, out, _ = run(*arguments, *methods, *options, "--json")
    report = json.loads(out)
    assert (code, report["measured"], report["skipped"], report["failed"]) == (0, 0, 7, 0)
    assert [list(point) for point in report["points"]] == [list(COLUMNS)] * 7


@pytest.mark.slow
def test_command_crosses_splits_clips_and_presets(run: Any, arguments: list[object], folder: Path) -> None:
    arguments = [folder / "in/0.png", *arguments[1:]]
    options = ["--method", "latent", "--split", 3, "--split", 4, "--clip", -1, 2, "--clip", -0.2786, 3]
    code, out, _ = run(*arguments, *options, "--preset", "faster", "--preset", "fast", "--qp", "45", "--json")
    points = json.loads(out)["points"]
    assert code == 0
    settings = {(point["split"], point["clip_high"], point["preset"]) for point in points}
    assert settings == {(split, high, preset) for split in "34" for high in "23" for preset in ("faster", "fast")}
    _, out, _ = run(*arguments, "--method", "latent", "--codec", "none", "--json")
    (point,) = json.loads(out)["points"]
    assert (point["qp"], point["codec"], point["preset"]) == ("", "none", "")


def make_bottleneck(path: Path, codec: FeatureCodec) -> Path:
    fingerprint = codec.model.detector.fingerprint.hex()
    save_bottleneck(path, Bottleneck(BottleneckConfig(16, 10, 6, -3.0, 3.0, 4, fingerprint, {})))
    return path


@pytest.mark.slow
def test_command_takes_bottlenecks_and_their_attackers(
    run: Any, arguments: list[object], tmp_path: Path, codec: FeatureCodec, tiny_yolov5: Path
) -> None:
    paths = [make_bottleneck(tmp_path / f"{name}.safetensors", codec) for name in ("first", "second")]
    attacked = FeatureCodec.load(tiny_yolov5, bottleneck=paths[1]).fingerprint.hex()
    recnet = tmp_path / "recnet.safetensors"
    save_recnet(recnet, RecNet(RecNetConfig(16, 10, 6, (1, 1), attacked, {})))
    bottlenecks = [part for path in paths for part in ("--bottleneck", path)]
    code, out, err = run(*arguments, *bottlenecks, "--recnet", recnet, "--qp", "30")
    assert (code, err) == (0, "")
    first, second = PointFile(tmp_path / "points.csv").rows()
    assert [row["bottleneck"] for row in (first, second)] == ["first", "second"]
    assert first["fingerprint"] != second["fingerprint"] == attacked
    assert (first["psnr"], first["recnet"]) == ("", "")
    assert float(second["psnr"]) > 0
    assert len(bytes.fromhex(second["recnet"])) == 8
    assert "  PSNR " in out.splitlines()[1]
    code, _, err = run(*arguments, "--method", "latent", "--recnet", recnet, "--qp", "30")
    assert (code, err.count("\n")) == (1, 1)
    assert "not trained on any swept model" in err


def make_restoration(path: Path, codec: FeatureCodec, channels: int) -> Path:
    """One that changes what is detected."""
    restoration = Restoration(RestorationConfig(channels, 8, 1, 4, codec.fingerprint.hex(), {}))
    torch.manual_seed(0)
    torch.nn.init.normal_(restoration.net[-1].bias, std=2)
    save_restoration(path, restoration)
    return path


@pytest.mark.slow
def test_command_gives_a_restoration_to_the_codec_that_it_fits(
    run: Any, arguments: list[object], tmp_path: Path, codec: FeatureCodec
) -> None:
    restoration = make_restoration(tmp_path / "r.safetensors", codec, 16)
    code, _, err = run(*arguments, "--method", "latent", "--restoration", tmp_path / "absent")
    assert (code, err) == (1, f"featcodec: {tmp_path / 'absent'}: no such file; check the path\n")
    bottleneck = ["--bottleneck", make_bottleneck(tmp_path / "first.safetensors", codec)]
    methods = ["--method", "latent", "--method", "bottleneck", "--method", "input-jpeg", "--quality", "50"]
    options = [*methods, *bottleneck, "--qp", "44"]
    assert run(*arguments, *options)[0] == 0
    code, out, err = run(*arguments, *options, "--restoration", restoration)
    assert (code, err) == (0, "")
    assert "latent  profile fast  restored  QP 44" in out
    assert "1 measured, 2 already there, 0 failed" in out
    plain, _, _, restored = PointFile(tmp_path / "points.csv").rows()
    assert (plain["restoration"], restored["restoration"]) == ("", load_restoration(restoration).fingerprint().hex())
    assert (plain["method"], plain["bytes"]) == (restored["method"], restored["bytes"]) == ("latent", plain["bytes"])
    assert float(restored["ap50"]) < float(plain["ap50"]), "what it was not trained for does harm"
    for further in (["--method", "bottleneck", *bottleneck], ["--method", "latent", "--codec", "none"]):
        code, _, err = run(*arguments, *further, "--qp", "44", "--restoration", restoration)
        assert (code, err.count("\n")) == (1, 1)
        assert "does not restore the streams of any swept curve" in err


@pytest.mark.slow
def test_command_measures_the_detector_alone_and_behind_bottlenecks_without_compression(
    run: Any, arguments: list[object], tmp_path: Path, folder: Path, codec: FeatureCodec, tiny_yolov5: Path
) -> None:
    path = make_bottleneck(tmp_path / "first.safetensors", codec)
    learned = FeatureCodec.load(tiny_yolov5, bottleneck=path)
    recnet = tmp_path / "recnet.safetensors"
    save_recnet(recnet, RecNet(RecNetConfig(16, 10, 6, (1, 1), learned.fingerprint.hex(), {})))
    options = ["--method", "uncoded", "--bottleneck", path, "--recnet", recnet, "--bootstrap", 20]
    code, out, err = run(*arguments, *options)
    assert (code, err) == (0, "")
    assert [line.split("  ")[:3] for line in out.splitlines()[:2]] == [
        ["uncoded", "float32", out.split("  ")[2]],
        ["uncoded", "first", "float32"],
    ]
    alone, behind = PointFile(tmp_path / "points.csv").rows()
    assert [row["fingerprint"] for row in (alone, behind)] == [codec.fingerprint.hex(), learned.fingerprint.hex()]
    assert [row["bottleneck"] for row in (alone, behind)] == ["", "first"]
    # Letterboxed to 96x64, 64x96, 96x64, 96x96 and 96x64 pixels; 8 of them a sample.
    samples = sum(width * height // 64 for width, height in ((96, 64), (64, 96), (96, 64), (96, 96), (96, 64)))
    assert [int(row["bytes"]) for row in (alone, behind)] == [4 * 16 * samples, 4 * 6 * samples]
    for row in (alone, behind):
        assert (row["method"], row["qp"], row["quality"], row["header_bytes"]) == ("uncoded", "", "", "0")
        assert row["slice_bytes"] == row["bytes"]
        assert float(row["ap50_low"]) < float(row["ap50_high"])
    dataset = dataset_of(folder)
    results = []
    for source, image_id in zip(dataset.sources, dataset.image_ids, strict=True):
        results += codec.detect(read_image(source.path)).to_coco(image_id)
    accuracy = score(dataset.annotations, results)
    assert [float(alone[name]) for name in ("ap50", "ap")] == pytest.approx([accuracy.ap50, accuracy.ap], abs=1e-6)
    # The attacker is the one of `featcodec invert` on images.
    assert (alone["psnr"], alone["recnet"]) == ("", "")
    invert = ["invert", folder / "in", "-o", tmp_path / "out", "--detector", tiny_yolov5, "--image-size", SIDE]
    with pytest.raises(SystemExit) as stop:
        main([*map(str, invert), "--bottleneck", str(path), "--recnet", str(recnet)])
    assert not stop.value.code
    attacked = read_attack_results(tmp_path / "out")
    for name in ("psnr", "edge_psnr"):
        assert float(behind[name]) == pytest.approx(np.mean([getattr(one, name) for one in attacked]), abs=1e-3)
    assert {one.recnet for one in attacked} == {behind["recnet"]}
    code, out, _ = run(*arguments, *options)
    assert (code, out.splitlines()[-1].split(" -> ")[0]) == (0, "0 measured, 2 already there, 0 failed")


@pytest.mark.slow
def test_uncoded_is_the_detector_alone_where_there_is_no_bottleneck(run: Any, arguments: list[object]) -> None:
    for bottleneck in ([], ["--bottleneck", "none"]):
        code, out, err = run(*arguments, "--method", "uncoded", *bottleneck, "--json")
        assert (code, err) == (0, "")
        (point,) = json.loads(out)["points"]
        assert (point["method"], point["bottleneck"]) == ("uncoded", "")


@pytest.mark.slow
def test_recnets_that_ship_are_taken_where_there_are_any(
    run: Any, arguments: list[object], tmp_path: Path, codec: FeatureCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--method", "latent", "--method", "uncoded", "--qp", "40", "--recnet", "auto"]
    assert find_shipped_attacker(codec.model) is None
    code, out, err = run(*arguments, *options, "--json")
    assert (code, err) == (0, "")
    assert [(point["psnr"], point["recnet"]) for point in json.loads(out)["points"]] == [("", "")] * 2
    # As if one came with the package; what lacks its PSNR is measured again.
    monkeypatch.setattr("featcodec.privacy.attackers.SHIPPED_FOLDER", tmp_path)
    save_recnet(tmp_path / "x-recnet.safetensors", RecNet(RecNetConfig(16, 0, 0, (1, 1), codec.fingerprint.hex(), {})))
    code, out, err = run(*arguments, *options, "--json")
    report = json.loads(out)
    assert (code, err, report["measured"]) == (0, "", 2)
    assert all(float(point["psnr"]) > 0 for point in report["points"])
    assert len({point["recnet"] for point in report["points"]}) == 1


@pytest.mark.slow
def test_a_recnet_that_is_given_goes_before_the_one_that_ships(
    run: Any, arguments: list[object], tmp_path: Path, codec: FeatureCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featcodec.privacy.attackers.SHIPPED_FOLDER", tmp_path)
    recnets = {}
    for name in ("x-recnet", "given"):
        recnet = RecNet(RecNetConfig(16, 0, 0, (1, 1), codec.fingerprint.hex(), {}))
        save_recnet(tmp_path / f"{name}.safetensors", recnet)
        recnets[name] = fingerprint(recnet.state_dict()).hex()
    options = ["--method", "uncoded", "--recnet", "auto", "--recnet", tmp_path / "given.safetensors", "--json"]
    code, out, _ = run(*arguments, *options)
    assert code == 0
    assert [point["recnet"] for point in json.loads(out)["points"]] == [recnets["given"]] != [recnets["x-recnet"]]


@pytest.mark.slow
def test_command_refuses_in_one_line(run: Any, arguments: list[object], folder: Path, tmp_path: Path) -> None:
    for further, reason in (
        (["--method", "bottleneck"], "no bottleneck comes with"),
        (["--method", "input-vvc", "--codec", "none"], "--video-codec ffmpeg"),
        (["--annotations", folder / "in/0.png"], "not JSON"),
    ):
        code, out, err = run(*arguments, *further)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert reason in err
    for further in (["--qp", "64"], ["--qp", "40-38"], ["--qp", "a"], ["--qp", ""], ["--quality", "0"]):
        assert run(*arguments, *further)[0] == 2
    (tmp_path / "points.csv").write_text("qp,bpp\n")
    code, _, err = run(*arguments)
    assert (code, err.count("\n")) == (1, 1)
    assert "points.csv: has no column 'method'" in err
    assert (tmp_path / "points.csv").read_text() == "qp,bpp\n"


def test_command_says_when_only_some_images_count(run: Any, arguments: list[object], folder: Path) -> None:
    code, _, err = run(folder / "in/0.png", *arguments[1:], "--method", "latent", "--qp", "40")
    assert (code, err) == (0, "featcodec: note: 1 of the 5 annotated images are given; only they count\n")


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)


@pytest.mark.slow
def test_a_killed_sweep_goes_on(run: Any, arguments: list[object], tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    options = ["--method", "latent", "--qp", "20-27"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "featcodec", "sweep", *map(str, [*arguments, *options])]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    wait_until(lambda: path.exists() and len(path.read_bytes().splitlines()) > 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = PointFile(path).rows()
    assert 2 <= len(done) < 8
    code, out, _ = run(*arguments, *options)
    assert code == 0
    assert f"{8 - len(done)} measured, {len(done)} already there, 0 failed" in out
    rows = PointFile(path).rows()
    assert rows[: len(done)] == done
    assert [int(row["qp"]) for row in rows] == list(range(20, 28))
    assert len(path.read_text().splitlines()) == 9


@pytest.mark.slow
def test_two_sweeps_share_a_file(run: Any, arguments: list[object], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "featcodec", "sweep", *map(str, arguments), "--workers", "1", "--method", "latent"]
    process = subprocess.Popen([*command, "--qp", "36,39"], stdout=subprocess.DEVNULL)
    assert run(*arguments, "--workers", 1, "--method", "input-vvc", "--qp", "30-37")[0] == 0
    assert process.wait(60) == 0
    rows = PointFile(tmp_path / "points.csv").rows()
    assert len(rows) == len((tmp_path / "points.csv").read_text().splitlines()) - 1 == 10
    for method, qps in (("latent", [36, 39]), ("input-vvc", list(range(30, 38)))):
        assert [int(row["qp"]) for row in rows if row["method"] == method] == qps
