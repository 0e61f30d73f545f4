"""The means of an audit as rows of a sweep: they name what was attacked, and take rate and accuracy from a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_set import AuditSet, make_audit_set
from pictures import save_texture

from featcodec.evaluation.audit_points import add_audit_row, audit_row, digest_of_images
from featcodec.evaluation.methods import FeatureMethod
from featcodec.evaluation.points import COLUMNS, PointFile, Row
from featcodec.images.reading import IMAGE_SUFFIXES
from featcodec.system.paths import expand_sources

MEANS = {"psnr": 20.25, "ssim": 0.5, "plate_characters": float("nan"), "unknown": 1.0}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tiny_yolov5: Path) -> AuditSet:
    return make_audit_set(tmp_path_factory.mktemp("audit"), tiny_yolov5)


def row_of(checkpoints: AuditSet, qp: int | None = 30, attack: str = "gradient") -> Row:
    row = audit_row(checkpoints.codec(), "small", qp, attack, "ab" * 8, MEANS)
    return {**row, "dataset": "da" * 8, "images": "2"}


def test_a_row_names_the_side_the_attack_and_the_scores(checkpoints: AuditSet) -> None:
    codec = checkpoints.codec()
    coded, uncoded = row_of(checkpoints), row_of(checkpoints, None)
    assert set(coded) == set(COLUMNS)
    identity = FeatureMethod(codec, "small").identity()
    assert {name: coded[name] for name in identity} == identity
    assert (coded["qp"], coded["attack"], coded["recnet"], coded["bottleneck"]) == ("30", "gradient", "ab" * 8, "small")
    assert (coded["psnr"], coded["ssim"], coded["plate_characters"]) == ("20.25", "0.5", "")
    assert (uncoded["method"], uncoded["qp"], uncoded["fingerprint"]) == ("uncoded", "", codec.model.fingerprint.hex())


def test_rate_and_accuracy_are_those_of_the_sweep_that_coded_in_the_same_way(
    checkpoints: AuditSet, tmp_path: Path
) -> None:
    file = PointFile(tmp_path / "points.csv")
    row = row_of(checkpoints)
    assert add_audit_row(file, row) == row, "nothing to take from"
    swept = {**row, "attack": "", "restoration": "cd" * 8, "psnr": "9", "ssim": "", "encode_seconds": "1.000"}
    swept |= {"bytes": "100", "bpp": "0.5", "ap50": "40", "ap": "30", "recnet": "00" * 8}
    others = [
        {**swept, name: value, "ap50": "1"} for name, value in (("qp", "31"), ("dataset", "db" * 8), ("bits", "7"))
    ]
    for one in (*others, {**swept, "ap50": "39"}, swept, *others):
        file.append(one)
    taken = add_audit_row(file, row)
    assert {name: taken[name] for name in ("bytes", "bpp", "ap50", "ap", "restoration")} == {
        name: swept[name] for name in ("bytes", "bpp", "ap50", "ap", "restoration")
    }
    assert (taken["psnr"], taken["ssim"], taken["recnet"], taken["attack"]) == ("20.25", "0.5", "ab" * 8, "gradient")
    assert taken["encode_seconds"] == ""
    assert file.rows()[-1] == taken
    assert file.find({"attack": "", "qp": "30", "dataset": "da" * 8, "bits": row["bits"]}) == swept, "it stays"


def test_images_without_annotations_have_a_name(tmp_path: Path) -> None:
    def digest() -> str:
        return digest_of_images(expand_sources([str(tmp_path)], IMAGE_SUFFIXES, "images"))

    save_texture(tmp_path / "a.png", seed=1)
    first = digest()
    assert len(bytes.fromhex(first)) == 8
    assert digest() == first
    save_texture(tmp_path / "b.png")
    assert digest() != first
    (tmp_path / "b.png").unlink()
    save_texture(tmp_path / "a.png", 99, 120)
    assert digest() != first
