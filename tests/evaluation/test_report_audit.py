"""Audits in a report: the worst case and all attacks, beside sweeps that they do not disturb, and their pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pictures import save_texture
from report_rows import COMPACT, DETECTOR, append, make_points

from featcodec.errors import InputError
from featcodec.evaluation.report import audit, tables
from featcodec.evaluation.report.page import Report, write_html, write_markdown
from featcodec.evaluation.report.pictures import read_grid
from featcodec.evaluation.report.study import read_study
from featcodec.privacy.audit_results import AuditResult, add_audit_results
from featcodec.privacy.readers import Score


def append_audit(
    path: Path, qp: str = "", images: str = "8", psnr: tuple[str, ...] = ("20", "21.5", "19", "18")
) -> None:
    """Two attacks on two sides: the stronger one is another on each side."""
    for number, (side, attack) in enumerate(
        (side, attack) for side in ("", "compact") for attack in ("recnet", "gradient")
    ):
        method = ("bottleneck" if side else "latent") if qp else "uncoded"
        names = {"method": method, "bottleneck": side, "fingerprint": COMPACT if side else DETECTOR}
        rest = {"bytes": "", "header_bytes": "", "slice_bytes": "", "ap50": "", "bpp": "", "dataset": "db" * 8}
        scores = {"psnr": psnr[number], "ssim": f"0.{number + 1}", "lpips": f"0.{9 - number}"}
        seconds = dict.fromkeys(("front_end_seconds", "encode_seconds", "decode_seconds", "back_end_seconds"), "")
        append(path, attack=attack, qp=qp, images=images, **names, **rest, **scores, **seconds)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = make_points(tmp_path / "points.csv")
    append_audit(path)
    append_audit(path, qp="38", images="1", psnr=("17", "16", "15", "15.5"))
    return path


def texts(table: tables.Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_the_worst_case_per_score_with_links_to_its_rows(path: Path) -> None:
    table = audit.worst_case(read_study([path], "ap50"))
    assert table.columns == ("", "latent coding", "bottleneck", "difference")
    psnr, ssim, lpips, coded, *_ = table.rows
    assert [cell.text for cell in psnr] == [
        *("compact, 8 images, uncompressed: PSNR, dB", "21.50 (gradient)", "19.00 (recnet)"),
        "\N{MINUS SIGN}2.50",
    ]
    assert [cell.rows for cell in psnr] == [(), ("22",), ("23",), ("22", "23")]
    assert [cell.text for cell in ssim][1:] == ["0.200 (gradient)", "0.400 (gradient)", "+0.200"]
    assert "lower: sees more" in lpips[0].text
    assert [cell.text for cell in lpips][1:3] == ["0.800 (gradient)", "0.600 (gradient)"]
    assert coded[0].text == "compact, 1 image, QP 38: PSNR, dB"


def test_every_attack_has_a_row(path: Path) -> None:
    table = audit.attacks(read_study([path], "ap50"))
    assert table.columns == ("", "PSNR, dB", "SSIM", "LPIPS (lower: sees more)")
    assert texts(table)[0] == ["latent, 8 images, uncompressed: recnet", "20.00", "0.100", "0.900"]
    assert texts(table)[-1] == ["compact, 1 image, QP 38: gradient", "15.50", "0.400", "0.600"]
    assert [row[1].rows for row in table.rows] == [(str(number),) for number in range(21, 29)]


def test_a_point_that_was_audited_again_counts_once(path: Path) -> None:
    append_audit(path, psnr=("22", "21.5", "19", "18"))
    study = read_study([path], "ap50")
    assert len(audit.attacks(study).rows) == 8
    assert audit.worst_case(study).rows[0][1].text == "22.00 (recnet)"


def test_sweeps_are_as_they_were(path: Path, tmp_path: Path) -> None:
    """Another data set, no rate: an audit is on no curve, and no reason to refuse the file."""
    alone = read_study([make_points(tmp_path / "alone.csv")], "ap50")
    study = read_study([path], "ap50")
    assert study.notes == ()
    assert [(one.label, len(one.curve.points)) for one in study.series] == [
        (one.label, len(one.curve.points)) for one in alone.series
    ]
    for table in (tables.uncompressed, tables.reconstruction, tables.bd, tables.variants, tables.operating_points):
        assert texts(table(study)) == texts(table(alone))
    assert audit.worst_case(alone).rows == audit.attacks(alone).rows == ()
    shown = tables.points(study)
    assert len(shown.rows) == 28
    assert [row[shown.columns.index("attack")].text for row in shown.rows[-2:]] == ["recnet", "gradient"]
    assert "attack" not in tables.points(alone).columns


def test_an_audit_alone_is_a_report(tmp_path: Path) -> None:
    append_audit(tmp_path / "points.csv")
    report = Report("An audit", read_study([tmp_path / "points.csv"], "ap50"), [], "", "featcodec report")
    write_html(tmp_path / "report.html", report)
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Audit</h2>" in page
    assert "21.50 (gradient)" in page
    write_markdown(tmp_path / "report.md", report)
    assert "## Audit" in (tmp_path / "report.md").read_text()


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    append_audit(tmp_path / "points.csv", psnr=("20", "high", "19", "18"))
    with pytest.raises(InputError, match="psnr 'high' is not a number"):
        read_study([tmp_path / "points.csv"], "ap50")


# Pictures


def make_audit(folder: Path, originals: Path) -> Path:
    """An output folder of `featcodec audit`: two images, two sides, two attacks with a picture and one without."""
    results = []
    for image in ("a", "b"):
        save_texture(originals / f"{image}.png", 96, 64)
        for side in ("bottleneck", "latent"):
            for attack in ("recnet", "gradient", "direct"):
                picture = "" if attack == "direct" else f"{side}-{attack}/{image}.png"
                if picture:
                    save_texture(folder / picture, 48, 32, seed=len(results))
                label = "compact" if side == "bottleneck" else "latent"
                names = (picture, image, str(originals / f"{image}.png"), side, label, attack, COMPACT, "", "38")
                results.append(AuditResult(*names, {"psnr": Score(15.25, 1), "edge_psnr": Score(20, 1)}))
    add_audit_results(folder, results)
    return folder


def test_the_pictures_of_an_audit_are_columns_latent_coding_first(tmp_path: Path) -> None:
    folder = make_audit(tmp_path / "audit", tmp_path / "in")
    rows = read_grid([folder], 6, [tmp_path / "in"])
    assert [row.name for row in rows] == ["a", "b"]
    for row in rows:
        assert [panel.label for panel in row.panels] == [
            *("original", "latent, recnet, QP 38", "latent, gradient, QP 38"),
            *("compact, recnet, QP 38", "compact, gradient, QP 38"),
        ]
        assert row.panels[1].measured == ("PSNR 15.25 dB", "edge-PSNR 20.00 dB")
    with pytest.raises(InputError, match="give its folder with `originals`"):
        read_grid([folder], 6)


def test_an_audit_without_pictures_is_one_line(tmp_path: Path) -> None:
    folder = make_audit(tmp_path / "audit", tmp_path / "in")
    shutil.rmtree(folder / "latent-recnet")
    with pytest.raises(InputError, match="no such file"):
        read_grid([folder], 6, [tmp_path / "in"])
    (folder / "audit.csv").unlink()
    add_audit_results(folder, [AuditResult("", "a", "", "latent", "latent", "direct", COMPACT, "", "", {})])
    with pytest.raises(InputError, match="its table has no picture; run `featcodec audit` again"):
        read_grid([folder], 6)
