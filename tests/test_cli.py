"""Every command: help, output, exit codes, messages. Runs in this process; test_faults.py runs real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pictures import make_bad_pictures, save_texture

from featcodec.cli.main import COMMANDS, main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(stop.value.code or 0), captured.out, captured.err

    return call


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
    with pytest.raises(SystemExit) as stop:
        main(
            ["encode", str(folder / "in"), "-o", str(folder / "streams"), "--detector", str(tiny_yolov5), "--qp", "36"]
        )
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


def test_encode_reports_rate_and_resumes(run: Any, coded: Path, tiny_yolov5: Path) -> None:
    arguments = ["encode", coded / "in", "-o", coded / "streams", "--detector", tiny_yolov5, "--qp", 36]
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert out.startswith("0 encoded, 3 already there, 0 failed")
    code, out, _ = run(*arguments, "--overwrite", "--json")
    report = json.loads(out)
    total = sum(path.stat().st_size for path in (coded / "streams").glob("*.266"))
    assert (code, report["encoded"], report["bytes"]) == (0, 3, total)
    assert report["bpp"] == pytest.approx(8 * total / (3 * 120 * 90))
    assert [Path(entry["output"]).suffix for entry in report["files"]] == [".266"] * 3


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


def test_decode_writes_coco_results(run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path) -> None:
    output = tmp_path / "detections.json"
    code, out, _ = run("decode", coded / "streams", "-o", output, "--detector", tiny_yolov5)
    assert code == 0
    assert out.startswith("3 decoded, 0 failed")
    results = json.loads(output.read_text())
    assert {result["image_id"] for result in results} == {7, 11, 13}
    assert set(results[0]) == {"image_id", "category_id", "bbox", "score"}
    code, _, err = run("decode", coded / "streams", "-o", output, "--detector", tiny_yolov5)
    assert code == 1
    assert "--overwrite" in err
    assert run("decode", coded / "streams", "-o", output, "--detector", tiny_yolov5, "--overwrite")[0] == 0


def test_decode_takes_ids_from_annotations(run: Any, coded: Path, tmp_path: Path, tiny_yolov5: Path) -> None:
    output = tmp_path / "detections.json"
    annotations = coded / "annotations.json"
    run("decode", coded / "streams", "-o", output, "--detector", tiny_yolov5, "--annotations", annotations)
    assert {result["category_id"] for result in json.loads(output.read_text())} <= {5, 9}


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
    (tmp_path / "weights/yolov5nu.pt").write_bytes(b"no sha256 is known for this")
    models = {model["name"]: model for model in json.loads(run("models", "--json")[1])}
    assert models["yolov5n"]["weights"].startswith("damaged")
    assert models["yolov5nu"]["weights"] == "present"
    assert models["yolov5m"]["weights"] == "missing"
    assert all(model["licence"] == "AGPL-3.0" for model in models.values())
    assert "yolov5mu" in run("models")[1]


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
