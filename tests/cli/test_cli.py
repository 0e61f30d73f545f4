"""Every command: help, output, exit codes, messages. Runs in this process; test_faults.py runs real ones."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from pictures import make_bad_pictures, save_texture
from refusals import assert_refused
from sweep_set import SIDE, make_sweep_set

from featcodec import FeatureCodec
from featcodec.cli.main import COMMANDS, main
from featcodec.networks.catalogue import Shipped
from featcodec.networks.restoration import Restoration, RestorationConfig, save_restoration

# Untrained, the detector sees something everywhere: of pictures at full size, sorting its boxes takes seconds.
SIZE = ("--image-size", 160)


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory, tiny_yolov5: Path) -> Path:
    """A folder with in/ (COCO-named pictures), streams/ and annotations.json."""
    folder = tmp_path_factory.mktemp("coded")
    for number in (7, 11, 13):
        save_texture(folder / f"in/{number:012d}.jpg", 120, 90, seed=number)
    annotations = {
        "images": [{"id": n, "file_name": f"{n:012d}.jpg", "width": 120, "height": 90} for n in (7, 11, 13)],
        "categories": [{"id": 5, "name": "newt"}, {"id": 9, "name": "cat"}],
        "annotations": [{"image_id": 7, "category_id": 9, "bbox": [10, 10, 50, 40]}],
    }
    (folder / "annotations.json").write_text(json.dumps(annotations))
    arguments = [folder / "in", "-o", folder / "streams", "--detector", tiny_yolov5, "--qp", 36, *SIZE]
    with pytest.raises(SystemExit) as stop:
        main(["encode", *map(str, arguments)])
    assert stop.value.code == 0
    return folder


def test_help_lists_every_command(run: Any) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for name in COMMANDS:
        assert name in out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_explains_every_option(run: Any, name: str) -> None:
    import importlib

    code, out, _ = run(name, "--help")
    assert code == 0
    command = importlib.import_module(f"featcodec.cli.{name}").command
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, f"{name} {parameter.opts} has no help text"
            assert parameter.opts[0] in out


def test_version(run: Any) -> None:
    from featcodec import __version__

    assert run("--version")[1].strip().endswith(__version__)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["encode"],
        ["encode", "x", "-o", "y", "--qp", "64"],
        ["encode", "x", "-o", "y", "--preset", "best"],
    ],
)
def test_wrong_usage_exits_with_2(run: Any, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert err


@pytest.mark.slow
def test_encode_reports_rate_and_resumes(run: Any, coded: Path, tiny_yolov5: Path) -> None:
    arguments = ["encode", coded / "in", "-o", coded / "streams", "--detector", tiny_yolov5, "--qp", 36, *SIZE]
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert out.startswith("0 encoded, 3 already there, 0 failed")
    code, out, _ = run(*arguments, "--overwrite", "--json")
    report = json.loads(out)
    total = sum(path.stat().st_size for path in (coded / "streams").glob("*.266"))
    assert (code, report["encoded"], report["bytes"]) == (0, 3, total)
    assert report["bpp"] == pytest.approx(8 * total / (3 * 120 * 90))
    assert [Path(entry["output"]).suffix for entry in report["files"]] == [".266"] * 3


@pytest.mark.slow
def test_encode_keeps_the_good_and_lists_the_bad(run: Any, tmp_path: Path, tiny_yolov5: Path) -> None:
    bad = make_bad_pictures(tmp_path / "in")
    save_texture(tmp_path / "in/good.png")
    code, out, err = run("encode", tmp_path / "in", "-o", tmp_path / "out", "--detector", tiny_yolov5)
    assert code == 1
    assert f"1 encoded, 0 already there, {len(bad)} failed" in out
    assert len(err.splitlines()) == len(bad)
    for name in bad:
        assert name in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.266"]


def test_missing_sources_and_weights_are_one_line(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_yolov5: Path
) -> None:
    code, _, err = run("encode", tmp_path / "nowhere", "-o", tmp_path / "out", "--detector", tiny_yolov5)
    assert (code, len(err.splitlines())) == (1, 1)
    assert "nowhere" in err
    monkeypatch.setenv("FEATCODEC_HOME", str(tmp_path))
    save_texture(tmp_path / "a.png")
    code, _, err = run("encode", tmp_path / "a.png", "-o", tmp_path / "out", "--detector", "yolov9")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "yolov5n" in err


@pytest.mark.slow
def test_decode_writes_coco_results(run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path) -> None:
    output = tmp_path / "detections.json"
    code, out, _ = run("decode", coded / "streams", "-o", output, "--detector", tiny_yolov5)
    assert code == 0
    assert out.startswith("3 decoded, 0 failed")
    results = json.loads(output.read_text())
    assert {result["image_id"] for result in results} == {7, 11, 13}
    names = {"image_id", "image_name", "image_size", "category_id", "category_name", "bbox", "score"}
    assert set(results[0]) == names
    code, _, err = run("decode", coded / "streams", "-o", output, "--detector", tiny_yolov5)
    assert code == 1
    assert "--overwrite" in err
    assert run("decode", coded / "streams", "-o", output, "--detector", tiny_yolov5, "--overwrite")[0] == 0


@pytest.mark.slow
def test_decode_restores(run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path) -> None:
    codec = FeatureCodec.load(tiny_yolov5)
    restoration = Restoration(RestorationConfig(16, 8, 1, 4, codec.fingerprint.hex(), {}))
    torch.nn.init.constant_(restoration.net[-1].bias, 0.5)
    path = tmp_path / "r.safetensors"
    save_restoration(path, restoration)
    decode = ["decode", coded / "streams", "--detector", tiny_yolov5, "-o"]
    found = {}
    for choice in ("auto", "none", path):
        output = tmp_path / f"{Path(choice).stem}.json"
        assert run(*decode, output, "--restoration", choice)[0] == 0
        found[choice] = output.read_bytes()
    assert found["auto"] == found["none"] != found[path]
    restoration.config = dataclasses.replace(restoration.config, stream_fingerprint="00" * 8)
    save_restoration(path, restoration)
    code, out, err = run(*decode, tmp_path / "other.json", "--restoration", path)
    assert (code, out) == (1, "")
    assert err == (
        f"featcodec: {path}: restores streams of the networks {'00' * 8}, but {codec.fingerprint.hex()} are loaded; "
        "give the --detector and --bottleneck it was trained with, or --restoration none\n"
    )


def test_decode_takes_ids_from_annotations(run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path) -> None:
    output = tmp_path / "detections.json"
    annotations = coded / "annotations.json"
    run("decode", coded / "streams", "-o", output, "--detector", tiny_yolov5, "--annotations", annotations)
    assert {result["category_id"] for result in json.loads(output.read_text())} <= {5, 9}


@pytest.mark.slow
def test_decode_writes_csv_yolo_and_pictures(run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path) -> None:
    model = ["--detector", tiny_yolov5, "--conf", "0.01"]
    assert run("decode", coded / "streams", "-o", tmp_path / "d.csv", *model)[0] == 0
    rows = (tmp_path / "d.csv").read_text().splitlines()
    assert rows[0] == "image,class_id,class,score,left,top,right,bottom"
    assert rows[1].split(",")[0] == "000000000007"
    drawing = ["--images", coded / "in", "--draw", tmp_path / "drawn", "--draw-conf", "0.01"]
    assert run("decode", coded / "streams", "-o", tmp_path / "labels", *model, *drawing)[0] == 0
    line = (tmp_path / "labels/000000000007.txt").read_text().splitlines()[0].split()
    assert len(line) == 6
    assert all(0 <= float(value) <= 1 for value in line[1:])
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        f"{number:012d}.jpg" for number in (7, 11, 13)
    ]


def test_decode_of_nothing_good_writes_nothing(run: Any, tmp_path: Path, tiny_yolov5: Path) -> None:
    (tmp_path / "a.266").write_bytes(b"foreign")
    output = tmp_path / "d.json"
    code, _, err = run("decode", tmp_path / "a.266", "-o", output, "--detector", tiny_yolov5)
    assert code == 1
    assert "a.266" in err
    assert not list(tmp_path.glob("*d.json*"))


@pytest.mark.slow
def test_evaluate_prints_one_line(run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path) -> None:
    output = tmp_path / "detections.json"
    annotations = coded / "annotations.json"
    run("decode", coded / "streams", "-o", output, "--detector", tiny_yolov5, "--annotations", annotations)
    arguments = ["evaluate", output, "--annotations", annotations, "--streams", coded / "streams"]
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1
    assert out.startswith("3 images  ")
    report = json.loads(run(*arguments, "--json")[1])
    assert f"{report['bpp']:.4f} bpp  AP50 {report['ap50']:.2f}  AP {report['ap']:.2f}" in out
    assert report["bytes"] == sum(path.stat().st_size for path in (coded / "streams").glob("*.266"))


@pytest.mark.slow
def test_evaluate_says_when_rate_and_accuracy_are_of_different_sets(
    run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path
) -> None:
    output = tmp_path / "detections.json"
    run(
        "decode",
        coded / "streams",
        "-o",
        output,
        "--detector",
        tiny_yolov5,
        "--annotations",
        coded / "annotations.json",
    )
    streams = coded / "streams/000000000007.266"
    _, _, err = run("evaluate", output, "--annotations", coded / "annotations.json", "--streams", streams)
    assert "bpp is over 1 bitstreams, but AP over the 3" in err


@pytest.fixture
def set_of_others(run: Any, tmp_path: Path, tiny_yolov5: Path) -> Path:
    """A sweep set with streams/, of which no category id is a class id; the smallest are other classes' ids."""
    folder = make_sweep_set(tmp_path / "set", tiny_yolov5, 3)
    content = json.loads((folder / "annotations.json").read_text())
    others = {0: 2, 1: 7, 2: 1}
    for category in content["categories"]:
        category["id"] = others[category["id"]]
    for annotation in content["annotations"]:
        annotation["category_id"] = others[annotation["category_id"]]
    (folder / "annotations.json").write_text(json.dumps(content))
    options = ["--detector", tiny_yolov5, "--qp", 10, "--image-size", SIDE]
    assert run("encode", folder / "in", "-o", folder / "streams", *options)[0] == 0
    return folder


def edit_categories(folder: Path, change: Any) -> Path:
    """The annotations of a set with other categories."""
    content = json.loads((folder / "annotations.json").read_text())
    change(content["categories"])
    path = folder / "edited.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.slow
def test_evaluate_scores_the_same_with_and_without_annotations_at_decode(
    run: Any, set_of_others: Path, tiny_yolov5: Path
) -> None:
    folder, model = set_of_others, ["--detector", tiny_yolov5]
    truth = ["--annotations", folder / "annotations.json"]
    assert run("decode", folder / "streams", "-o", folder / "without.json", *model)[0] == 0
    assert run("decode", folder / "streams", "-o", folder / "with.json", *model, *truth)[::2] == (0, "")
    without, given = (run("evaluate", folder / f"{name}.json", *truth) for name in ("without", "with"))
    assert without == given
    assert without[::2] == (0, "")
    report = json.loads(run("evaluate", folder / "without.json", *truth, "--json")[1])
    assert report["ap50"] > 60, "the truth is what the uncoded detector finds"
    assert report["unmatched"] == {}


@pytest.mark.slow
def test_evaluate_says_what_it_leaves_out(run: Any, set_of_others: Path, tiny_yolov5: Path) -> None:
    folder = set_of_others
    assert run("decode", folder / "streams", "-o", folder / "d.json", "--detector", tiny_yolov5)[0] == 0
    truth = edit_categories(folder, lambda categories: categories[1].update(name="Dog"))
    boxes = sum(result["category_name"] == "dog" for result in json.loads((folder / "d.json").read_text()))
    assert boxes > 0
    code, out, err = run("evaluate", folder / "d.json", "--annotations", truth)
    assert (code, out.count("\n")) == (0, 1)
    note = f"featcodec: note: {truth} has no category 'dog' (it has 'Dog'), so {boxes} boxes are left out\n"
    assert err == note
    code, out, err = run("evaluate", folder / "d.json", "--annotations", truth, "--json")
    assert (code, json.loads(out)["unmatched"], err) == (0, {"dog": boxes}, note)


@pytest.mark.slow
def test_evaluate_refuses_results_of_other_classes(run: Any, set_of_others: Path, tiny_yolov5: Path) -> None:
    folder = set_of_others
    assert run("decode", folder / "streams", "-o", folder / "d.json", "--detector", tiny_yolov5)[0] == 0

    def rename(categories: list[dict[str, Any]]) -> None:
        for category in categories:
            category["name"] = category["name"].upper()

    truth = edit_categories(folder, rename)
    assert_refused(run("evaluate", folder / "d.json", "--annotations", truth), f"{truth}: ", "(it has 'CAT')")


@pytest.mark.slow
def test_evaluate_refuses_ids_that_the_annotations_lack(run: Any, set_of_others: Path, tiny_yolov5: Path) -> None:
    """Results of featcodec before they had names, and of other tools."""
    folder = set_of_others
    assert run("decode", folder / "streams", "-o", folder / "d.json", "--detector", tiny_yolov5)[0] == 0
    results = json.loads((folder / "d.json").read_text())
    for result in results:
        del result["category_name"]
    (folder / "d.json").write_text(json.dumps(results))
    first = next(number for number, result in enumerate(results, 1) if result["category_id"] == 0)
    refused = run("evaluate", folder / "d.json", "--annotations", folder / "annotations.json")
    assert_refused(refused, "annotations.json: has no category 0", f"entry {first} ", "decode again")


def test_evaluate_refuses_a_name_that_is_not_text(run: Any, coded: Path, results: Path) -> None:
    (result,) = json.loads(results.read_text())
    results.write_text(json.dumps([result, {**result, "category_name": 9}]))
    refused = run("evaluate", results, "--annotations", coded / "annotations.json")
    assert_refused(refused, f"{results}: entry 2 of the results has the category_name 9, not a text")


@pytest.mark.slow
def test_decode_says_which_classes_the_annotations_lack(
    run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path
) -> None:
    annotations = coded / "annotations.json"
    model = ["--detector", tiny_yolov5, "--annotations", annotations]
    code, _, err = run("decode", coded / "streams", "-o", tmp_path / "d.json", *model)
    assert code == 0
    assert err == f"featcodec: note: {annotations} has no category 'dog'; boxes of these classes are left out\n"
    assert run("decode", coded / "streams", "-o", tmp_path / "d.csv", *model)[::2] == (0, "")


def test_decode_for_annotations_of_other_classes_is_refused_before_the_work(
    run: Any, set_of_others: Path, tmp_path: Path, tiny_yolov5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = edit_categories(
        set_of_others, lambda categories: categories.__setitem__(slice(None), [{"id": 1, "name": "CAT"}])
    )
    monkeypatch.setattr("featcodec.pipeline.decode_files", lambda *_, **__: pytest.fail("decodes"))
    arguments = ["--detector", tiny_yolov5, "--annotations", truth]
    refused = run("decode", set_of_others / "streams", "-o", tmp_path / "d.json", *arguments)
    assert_refused(refused, f"{truth}: none of its categories is a class of the detector ('cat' (it has 'CAT')")
    assert not (tmp_path / "d.json").exists()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"image_id": 1}]', "nonsense"])
def test_evaluate_refuses_what_is_no_results_file(run: Any, coded: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "d.json").write_text(content)
    code, _, err = run("evaluate", tmp_path / "d.json", "--annotations", coded / "annotations.json")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "d.json" in err


def test_inspect_shows_the_header_and_where_the_bytes_go(run: Any, coded: Path) -> None:
    path = coded / "streams/000000000007.266"
    code, out, _ = run("inspect", path, "--json")
    (report,) = json.loads(out)
    assert code == 0
    assert (report["original_width"], report["original_height"], report["qp"]) == (120, 90, 36)
    parts = ("slice_data", "parameter_sets", "side_info", "start_codes")
    assert sum(report[f"{part}_bytes"] for part in parts) == report["total_bytes"] == path.stat().st_size
    code, out, _ = run("inspect", path)
    assert code == 0
    assert "fingerprint" in out
    assert report["fingerprint"] in out
    assert re.search(rf"^ *slice data +{report['slice_data_bytes']} ", out, re.MULTILINE)


def test_inspect_adds_up_where_the_bytes_of_a_set_go(run: Any, coded: Path) -> None:
    reports = json.loads(run("inspect", coded / "streams", "--json")[1])
    assert len(reports) > 1
    assert {report["format_version"] for report in reports} == {2}
    code, out, _ = run("inspect", coded / "streams")
    assert code == 0
    table = out[out.index(f"{len(reports)} files") :]
    total = sum(report["total_bytes"] for report in reports)
    assert re.search(rf"^ *total +{total} +{total / len(reports):.1f} +100\.00 %", table, re.MULTILINE)
    for part in ("slice_data", "parameter_sets", "side_info", "start_codes"):
        size = sum(report[f"{part}_bytes"] for report in reports)
        row = rf"{part.replace('_', ' ')} +{size} +{size / len(reports):.1f} +{100 * size / total:.2f} %"
        assert re.search(row, table)


def test_inspect_says_which_version_a_file_has(run: Any) -> None:
    golden = Path(__file__).parents[1] / "golden"
    for name, version in (("6ch-qp38", 1), ("v2-20ch-qp38", 2), ("v3-20ch-qp38", 3)):
        (report,) = json.loads(run("inspect", golden / f"{name}.266", "--json")[1])
        assert report["format_version"] == version
        sides = {"height": report["feature_height"], "width": report["feature_width"]}
        stride = report["letterboxed_width"] // report["feature_width"]
        assert report["tensors"] == [{"channels": report["channels"], **sides, "stride": stride}]


def test_inspect_shows_every_tensor_and_the_split(run: Any) -> None:
    path = Path(__file__).parents[1] / "golden/v3-three-qp34.266"
    (report,) = json.loads(run("inspect", path, "--json")[1])
    assert "further" not in report
    assert (report["split"], report["frame_width"], report["frame_height"]) == (10, 128, 88)
    assert [tuple(tensor.values()) for tensor in report["tensors"]] == [(8, 32, 32, 8), (8, 16, 16, 16), (16, 8, 8, 32)]
    code, out, _ = run("inspect", path)
    assert code == 0
    assert re.search(r"^ *split +10\b", out, re.MULTILINE)
    for number, text in enumerate(("8 channels of 32x32, stride 8", "8 channels of 16x16", "16 channels of 8x8"), 1):
        assert re.search(rf"^ *tensor {number} +{text}", out, re.MULTILINE)


def test_inspect_goes_on_after_a_foreign_file(run: Any, coded: Path, tmp_path: Path) -> None:
    (tmp_path / "x.266").write_bytes(b"\x00\x00\x01\x00foreign")
    code, out, err = run("inspect", tmp_path / "x.266", coded / "streams/000000000007.266", "--json")
    assert code == 1
    assert "x.266" in err
    assert len(json.loads(out)) == 1


def test_models_says_what_is_present_or_damaged(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATCODEC_HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/yolov5n.pt").write_bytes(b"not the pinned file")
    (tmp_path / "weights/yolov5su.pt").write_bytes(b"<html>no sha256 is known for this</html>")
    with zipfile.ZipFile(tmp_path / "weights/yolov5nu.pt", "w") as whole:
        whole.writestr("archive/data.pkl", b"")
    models = {model["name"]: model for model in json.loads(run("models", "--json")[1])["detectors"]}
    assert models["yolov5n"]["weights"].startswith("damaged")
    assert models["yolov5su"]["weights"] == "damaged (it is cut off, or a web page)"
    assert models["yolov5nu"]["weights"] == "present"
    assert models["yolov5m"]["weights"] == "missing"
    assert all(model["licence"] == "AGPL-3.0" for model in models.values())
    assert "yolov5mu" in run("models")[1]


def test_models_lists_restorations_where_some_ship(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = Shipped("some", "ab" * 8, "some-restoration.safetensors", "for a test")
    monkeypatch.setattr("featcodec.networks.catalogue.SHIPPED_RESTORATIONS", (shipped,))
    (listed,) = json.loads(run("models", "--json")[1])["restorations"]
    assert (listed["codec"], listed["description"]) == ("ab" * 8, "for a test")
    assert Path(listed["path"]).name == "some-restoration.safetensors"
    assert "ab" * 8 in run("models")[1]


def test_doctor_proves_the_encoder(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEATCODEC_HOME", str(tmp_path))
    code, out, _ = run("doctor", "--json")
    checks = {check["topic"]: check for check in json.loads(out)}
    assert code == 0
    assert checks["codec ffmpeg"]["status"] == "ok"
    assert "coded a test picture" in checks["codec ffmpeg"]["detail"]
    assert checks["weights"]["status"] == "missing"
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script))
    code, out, _ = run("doctor")
    assert code == 1
    assert "broken" in out


# What a command refuses before it works, and what it must not touch.


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def drawing(coded: Path, tmp_path: Path) -> Path:
    """A copy of one stream and its image, to be drawn on."""
    for name in ("in/000000000007.jpg", "streams/000000000007.266"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(coded / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("draw", ["in", "streams/../in"])
def test_drawing_over_the_originals_is_refused(run: Any, drawing: Path, tiny_yolov5: Path, draw: str) -> None:
    before = snapshot(drawing)
    arguments = ["decode", drawing / "streams", "-o", drawing / "d.json", "--detector", tiny_yolov5]
    arguments += ["--images", drawing / "in", "--draw", drawing / draw, "--overwrite"]
    assert_refused(run(*arguments), "is the folder of the originals")
    assert snapshot(drawing) == before


def test_a_drawn_image_that_exists_is_kept_and_the_detections_are_written(
    run: Any, drawing: Path, tiny_yolov5: Path
) -> None:
    (drawing / "drawn").mkdir()
    victim = drawing / "drawn/000000000007.jpg"
    victim.write_bytes(b"somebody's work")
    arguments = ["decode", drawing / "streams", "--detector", tiny_yolov5, "--conf", "0.5"]
    arguments += ["--images", drawing / "in", "--draw", drawing / "drawn"]
    code, out, err = run(*arguments, "-o", drawing / "d.json")
    assert code == 1
    assert out.startswith("1 decoded, 0 failed, 1 not drawn, ")
    assert err == f"featcodec: {victim}: exists; use --overwrite or another --draw\n"
    assert victim.read_bytes() == b"somebody's work"
    assert isinstance(json.loads((drawing / "d.json").read_text()), list)
    assert run(*arguments, "-o", drawing / "d.json", "--overwrite")[0] == 0
    assert victim.read_bytes() != b"somebody's work"


@pytest.mark.parametrize("arguments", [["--draw", "x"], ["--images", "."]])
def test_draw_and_images_go_together(run: Any, coded: Path, tmp_path: Path, arguments: list[str]) -> None:
    code, _, err = run("decode", coded / "streams", "-o", tmp_path / "d.json", *arguments)
    assert code == 2
    assert "belong together" in " ".join(err.split())


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is loaded as a detector, which is not much."""
    import featcodec.split_model

    loaded: list[object] = []
    original = featcodec.split_model.load_detector

    def load(detector: object, **options: Any) -> object:
        loaded.append(detector)
        return original(detector, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(featcodec.split_model, "load_detector", load)
    return loaded


def other_set(folder: Path, *names: str) -> Path:
    """Annotations of other images than those of `coded`, and of these."""
    images = [{"id": number, "file_name": name} for number, name in enumerate(["other.jpg", *names])]
    categories = [{"id": number, "name": name} for number, name in enumerate(("cat", "dog", "newt"))]
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    return path


def test_annotations_of_another_set_are_noticed_before_any_network_runs(
    run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path, loads: list[object]
) -> None:
    output = tmp_path / "d.json"
    model = ["--detector", tiny_yolov5, "--annotations", other_set(tmp_path)]
    code, out, err = run("decode", coded / "streams", "-o", output, *model)
    assert (code, out) == (1, "")
    lines = err.splitlines()
    for number, line in zip((7, 11, 13), lines, strict=False):
        assert f"{number:012d}.266: " in line
        assert "lists no image of that name" in line
    assert len(lines) == 4
    assert "lists none of 3 bitstreams" in lines[3]
    assert loads == []
    assert not output.exists()


def test_streams_that_the_annotations_lack_fail_and_the_others_are_decoded(
    run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path
) -> None:
    annotations = other_set(tmp_path, "000000000011.png")
    arguments = ["--detector", tiny_yolov5, "--annotations", annotations, "--conf", "0.01", "--json"]
    code, out, err = run("decode", coded / "streams", "-o", tmp_path / "d.json", *arguments)
    report = json.loads(out)
    assert (code, report["decoded"], report["failed"], err.count("\n")) == (1, 1, 2, 2)
    assert {result["image_id"] for result in json.loads((tmp_path / "d.json").read_text())} == {1}


@pytest.mark.parametrize(
    "parameter", ["QP=30", "qpa=1", "IntraQPOffset=-10", "SummaryOutFilename=x", "ISP=1:gopsize=8", "NoSuchOption=1"]
)
def test_encoder_parameters_that_do_more_than_shape_a_picture_are_refused(
    run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path, loads: list[object], parameter: str
) -> None:
    arguments = ["encode", coded / "in", "-o", tmp_path / "out", "--detector", tiny_yolov5]
    assert_refused(run(*arguments, "--encoder-param", parameter), "is not allowed", "set the QP by --qp")
    assert loads == []
    assert not (tmp_path / "out").exists()


def test_an_encoder_parameter_that_the_encoder_refuses_is_said_once_and_at_once(
    run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path, loads: list[object]
) -> None:
    arguments = ["encode", coded / "in", "-o", tmp_path / "out", "--detector", tiny_yolov5, "--batch", "1"]
    assert_refused(run(*arguments, "--encoder-param", "EDO=2"), "check --encoder-param", "EDO")
    assert loads == []
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused_at_once(
    run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path, loads: list[object]
) -> None:
    (tmp_path / "out").write_bytes(b"somebody's work")
    model = ["--detector", tiny_yolov5]
    for arguments in (
        ["encode", coded / "in", "-o", tmp_path / "out", *model, "--overwrite"],
        ["decode", coded / "streams", "-o", tmp_path / "out", *model, "--overwrite"],
    ):
        assert_refused(run(*arguments), f"{tmp_path / 'out'}: is not a folder; choose another -o")
    assert loads == []
    assert (tmp_path / "out").read_bytes() == b"somebody's work"


def test_labels_do_not_replace_a_folder_with_other_files(
    run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path
) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/thesis.tex").write_bytes(b"somebody's work")
    arguments = ["decode", coded / "streams", "-o", tmp_path / "labels", "--detector", tiny_yolov5, "--overwrite"]
    assert_refused(run(*arguments), "holds other things (thesis.tex)")
    assert snapshot(tmp_path) == {"labels/thesis.tex": b"somebody's work"}


@pytest.mark.parametrize("command", ["models", "doctor", "encode"])
def test_a_cache_in_the_home_of_nobody_is_one_line(
    run: Any, coded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("FEATCODEC_HOME", "~nosuch/x")
    arguments = [coded / "in", "-o", tmp_path / "out"] if command == "encode" else []
    assert_refused(run(command, *arguments), "FEATCODEC_HOME=~nosuch/x: no such home folder")


@pytest.mark.parametrize("command", ["encode", "decode", "inspect"])
@pytest.mark.parametrize("ending", ["", "*", "/a.jpg"])
def test_a_source_of_300_characters_is_one_line(run: Any, tmp_path: Path, command: str, ending: str) -> None:
    output = [] if command == "inspect" else ["-o", tmp_path / "out"]
    assert_refused(run(command, f"{tmp_path}/{'x' * 300}{ending}", *output), "x" * 300)


@pytest.mark.parametrize("option", ["-o", "--detector", "--bottleneck"])
def test_an_option_of_300_characters_is_one_line(
    run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path, option: str
) -> None:
    options = {"-o": tmp_path / "out", "--detector": tiny_yolov5, option: f"{tmp_path}/{'x' * 300}"}
    assert_refused(run("encode", coded / "in", *(part for pair in options.items() for part in pair)), "x" * 300)


@pytest.fixture
def pipes(tmp_path: Path) -> Iterator[tuple[Path, ...]]:
    """Named pipes a.jpg, a.266 and a.json. Whoever waits for one nevertheless finds it empty after ten seconds."""
    paths = tuple(tmp_path / name for name in ("a.jpg", "a.266", "a.json"))
    for path in paths:
        os.mkfifo(path)
    over = threading.Event()

    def release() -> None:
        pause = 10.0
        while not over.wait(pause):
            for path in paths:
                with contextlib.suppress(OSError):  # nobody waits
                    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            pause = 0.1

    thread = threading.Thread(target=release)
    thread.start()
    yield paths
    over.set()
    thread.join()


def test_a_pipe_is_refused_and_not_waited_for(
    run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path, pipes: tuple[Path, ...]
) -> None:
    image, stream, table = pipes
    model = ["--detector", tiny_yolov5]
    code, out, err = run("encode", image, "-o", tmp_path / "out", *model)
    assert (code, out.split(",")[2], err.count("\n")) == (1, " 1 failed", 1)
    assert f"{image}: not a regular file" in err
    code, _, err = run("decode", stream, "-o", tmp_path / "d.csv", *model)
    assert code == 1
    assert err.startswith(f"featcodec: {stream}: not a regular file; give .266 or .265 files\n")
    code, _, err = run("inspect", stream)
    assert (code, err) == (1, f"featcodec: {stream}: not a regular file; give .266 or .265 files\n")
    assert_refused(run("evaluate", table, "--annotations", coded / "annotations.json"), "not a regular file")
    assert_refused(run("evaluate", table, "--annotations", table), "not a regular file")


def test_weights_of_a_wrong_sha256_are_refused(
    run: Any, coded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_yolov5: Path
) -> None:
    monkeypatch.setenv("FEATCODEC_HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    shutil.copy(tiny_yolov5, tmp_path / "weights/yolov5n.pt")
    assert_refused(run("encode", coded / "in", "-o", tmp_path / "out"), "yolov5n.pt: not the yolov5n", "wrong sha256")
    assert not (tmp_path / "out").exists()


def test_names_that_differ_in_case_alone_are_refused(run: Any, tmp_path: Path, tiny_yolov5: Path) -> None:
    save_texture(tmp_path / "in/A.jpg", 32, 32)
    save_texture(tmp_path / "in/a.png", 32, 32)
    arguments = ["encode", tmp_path / "in", "-o", tmp_path / "out", "--detector", tiny_yolov5]
    assert_refused(run(*arguments), "A.jpg and ", "would have the same output")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results that match the one annotation of `coded`, with what captioning tools add."""
    result = {"image_id": 7, "category_id": 9, "bbox": [10, 10, 50, 40], "score": 0.9, "caption": "a cat"}
    (tmp_path / "results.json").write_text(json.dumps([result]))
    return tmp_path / "results.json"


def test_evaluate_takes_results_that_say_more_than_a_box(run: Any, coded: Path, results: Path) -> None:
    code, out, err = run("evaluate", results, "--annotations", coded / "annotations.json")
    assert (code, out, err) == (0, "3 images  AP50 100.00  AP 100.00\n", "")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content["images"][1].update(id="eleven"), "some image ids are numbers and some are texts"),
        (lambda content: content.update(categories=[]), "has no boxes or no categories"),
        (lambda content: content.update(annotations=[]), "has no boxes or no categories"),
    ],
    ids=["mixed ids", "no categories", "no annotations"],
)
def test_evaluate_refuses_annotations_that_cannot_be_scored(
    run: Any, coded: Path, results: Path, tmp_path: Path, change: Any, reason: str
) -> None:
    content = json.loads((coded / "annotations.json").read_text())
    change(content)
    (tmp_path / "truth.json").write_text(json.dumps(content))
    assert_refused(run("evaluate", results, "--annotations", tmp_path / "truth.json"), "truth.json: ", reason)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("ignored", [False, True])
def test_signals_are_heeded_unless_the_caller_has_them_ignored(run: Any, name: str, ignored: bool) -> None:
    """`nohup featcodec encode ...` is to survive the end of its terminal."""
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        assert run("--version")[0] == 0
        handler = signal.getsignal(number)
        assert (handler is signal.SIG_IGN) == ignored
        if not ignored:
            assert callable(handler)  # or raising the signal would end the tests
            with pytest.raises(SystemExit) as stop:
                signal.raise_signal(number)
            assert stop.value.code == 128 + number
    finally:
        signal.signal(number, before)


def test_defaults_are_those_of_the_library() -> None:
    """The command line repeats them, because it must not import torch for --help."""
    from featcodec.cli import decode, edge_options, encode
    from featcodec.cluster.encode import DEFAULT_BATCH as CLUSTER_BATCH
    from featcodec.codec import DEFAULT_IMAGE_SIZE, DEFAULT_QP
    from featcodec.detections import BoxFilter
    from featcodec.pipeline import DEFAULT_BATCH

    encoding = {parameter.name: parameter for parameter in encode.command.params}
    assert (edge_options.DEFAULT_QP, encoding["image_size"].default) == (DEFAULT_QP, DEFAULT_IMAGE_SIZE)
    batch = encoding["batch"]
    assert isinstance(batch, click.Option)
    assert f"[default: {DEFAULT_BATCH}, or {CLUSTER_BATCH} on a cluster]" in str(batch.help)
    decoding = {parameter.name: parameter.default for parameter in decode.command.params}
    assert BoxFilter(decoding["conf"], decoding["iou"], decoding["max_det"]) == BoxFilter()


@pytest.mark.slow
def test_photographs_are_noted_where_the_detector_knows_drawn_scenes_alone(
    run: Any, tmp_path: Path, tiny_yolov5: Path
) -> None:
    photograph = save_texture(tmp_path / "in/a.jpg", 120, 90)
    scene = save_texture(tmp_path / "scenes/000000.png", 120, 90)
    options = ["--image-size", 96, "--qp", 40]
    code, out, err = run("encode", scene, photograph, "-o", tmp_path / "noted", "--detector", "scenes", *options)
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith(f"featcodec: note: {photograph} looks like a photograph; the detector scenes knows only")
    assert "--detector yolov5n" in err
    assert out.startswith("2 encoded, 0 already there, 0 failed")
    code, _, err = run("encode", scene, "-o", tmp_path / "scene", "--detector", "scenes", *options)
    assert (code, err) == (0, "")
    code, _, err = run("encode", photograph, "-o", tmp_path / "other", "--detector", tiny_yolov5, *options)
    assert (code, err) == (0, "")


@pytest.mark.slow
def test_isolated_decoding_writes_the_same_file(run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path) -> None:
    shutil.copytree(coded / "streams", tmp_path / "streams")
    damaged = tmp_path / "streams" / "000000000011.266"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    said = []
    for name, options in (("plain.json", ()), ("isolated.json", ("--isolate",))):
        arguments = ["decode", tmp_path / "streams", "-o", tmp_path / name, "--detector", tiny_yolov5, "--conf", "0.01"]
        code, _, err = run(*arguments, *options)
        assert code == 1
        said.append(err)
    assert (tmp_path / "plain.json").read_bytes() == (tmp_path / "isolated.json").read_bytes()
    assert said[0] == said[1]
    assert said[0].count("\n") == 1
