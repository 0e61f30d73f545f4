"""The report's tables: every figure is what the rows say, and names the rows that say it."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_rows import COMPACT, CURVES, NARROW, USUAL, WIDE, append, append_curve, append_uncoded, make_points

from featcodec.errors import InputError
from featcodec.evaluation.bd import compare
from featcodec.evaluation.curves import read_curve
from featcodec.evaluation.points import read_points
from featcodec.evaluation.report import tables
from featcodec.evaluation.report.study import Study, read_study
from featcodec.evaluation.report.tables import Cell, Table

ABSENT = "–"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_points(tmp_path / "points.csv")


@pytest.fixture
def study(path: Path) -> Study:
    return read_study([path], "ap50")


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def row_of(table: Table, name: str) -> dict[str, Cell]:
    (row,) = [row for row in table.rows if row[0].text == name]
    return dict(zip(table.columns, row, strict=True))


def test_uncompressed_is_compared_with_the_detector(study: Study) -> None:
    table = tables.uncompressed(study)
    assert table.columns == ("", "AP50", "change", "AP", "change", "AP50, 95 % interval")
    assert texts(table) == [
        ["detector, uncoded", "60.12", "", "40.50", "", "55.2 to 66.8"],
        ["compact", "58.50", "−1.62", "41.00", "+0.50", ""],
        ["latent, 8-bit samples", "60.00", "−0.12", "40.00", "−0.50", ""],
    ]
    assert [cell.rows for cell in table.rows[0]] == [(), ("1",), (), ("1",), (), ("1",)]
    assert [cell.rows for cell in table.rows[1]] == [(), ("2",), ("2", "1"), ("2",), ("2", "1"), ()]


def test_uncompressed_without_the_detector_has_nothing_to_compare_with(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    append(path, method="uncoded", bottleneck="compact", fingerprint=COMPACT, bpp="7", ap50="58.5", ap="41")
    table = tables.uncompressed(read_study([path], "ap50"))
    assert (table.columns, texts(table)) == (("", "AP50", "AP"), [["compact", "58.50", "41.00"]])
    append_curve(tmp_path / "latent.csv", "latent")
    nothing = read_study([tmp_path / "latent.csv"], "ap50")
    assert tables.uncompressed(nothing).rows == tables.reconstruction(nothing).rows == ()


def test_reconstruction_is_compared_with_the_direct_features(study: Study, tmp_path: Path) -> None:
    table = tables.reconstruction(study)
    assert table.columns == ("", "PSNR, dB", "change", "edge-PSNR, dB", "change")
    assert texts(table) == [
        ["RecNet-latent", "20.25", "", "25.50", ""],
        ["RecNet-compact", "18.50", "−1.75", "25.25", "−0.25"],
    ]
    assert [cell.rows for cell in table.rows[1]] == [(), ("2",), ("2", "1"), ("2",), ("2", "1")]
    path = tmp_path / "other.csv"
    append(path, method="uncoded", bpp="23", ap50="60")
    append(path, method="uncoded", bpp="7", ap50="58", bottleneck="compact", fingerprint=COMPACT, psnr="18")
    table = tables.reconstruction(read_study([path], "ap50"))
    assert texts(table) == [["RecNet-compact", "18.00"]], "edge-PSNR was not measured, direct features not attacked"


def test_bd_values_are_those_of_compare(path: Path, study: Study) -> None:
    table = tables.bd(study)
    assert table.columns == ("", "BD-rate", "BD-AP50", "BD-PSNR", "common AP50 range", "overlap")
    names = [row[0].text for row in table.rows]
    assert names == [
        *("compact against latent", "compact against input-vvc", "compact against input-jpeg"),
        *("latent against input-vvc", "latent against input-jpeg", "input-vvc against input-jpeg"),
    ]
    rows = read_points(path).rows
    for name in names:
        curves = []
        for label in reversed(name.split(" against ")):
            method = {"method": "bottleneck", "clip_high": "3"} if label == "compact" else {"method": label}
            curves.append(read_curve(path, "ap50", {**method, **({} if "jpeg" in label else {"codec": "ffmpeg"})}))
        found = compare(*curves)
        cells = row_of(table, name)
        assert found.bd_accuracy is not None
        assert cells["BD-rate"].text == f"{found.bd_rate:+.1f} %".replace("-", "−")
        assert cells["BD-AP50"].text == f"{found.bd_accuracy:+.2f}".replace("-", "−")
        psnr = ABSENT if found.bd_psnr is None else f"{found.bd_psnr:+.2f} dB".replace("-", "−")
        assert cells["BD-PSNR"].text == psnr
        assert (cells["BD-PSNR"].text != ABSENT) == (name == "compact against latent")
        assert cells["common AP50 range"].text == f"{found.accuracy.low:.1f} to {found.accuracy.high:.1f}"
        assert cells["overlap"].text == f"{100 * found.accuracy.fraction:.0f} %"
        # The rows are those of the two curves.
        expected = sorted(rows.index(point.row) + 1 for curve in curves for point in curve.points)
        for column in table.columns[1:]:
            if cells[column].text != ABSENT:
                assert sorted(map(int, cells[column].rows)) == expected
    assert row_of(table, "compact against latent")["BD-rate"].text.startswith("−"), "it is the cheaper one"


def test_restored_codecs_are_compared_with_themselves_and_the_anchors(path: Path) -> None:
    append_curve(path, "latent", restoration="11" * 8)
    append_curve(path, "compact", restoration="22" * 8)
    names = [row[0].text for row in tables.bd(read_study([path], "ap50")).rows]
    assert names[:4] == [
        *("compact, restored against compact", "compact, restored against latent"),
        *("compact, restored against input-vvc", "compact, restored against input-jpeg"),
    ]
    assert [name for name in names if name.startswith("latent, restored")] == [
        *("latent, restored against latent", "latent, restored against input-vvc"),
        "latent, restored against input-jpeg",
    ]
    assert "compact against latent, restored" not in names


def test_a_restored_codec_is_compared_with_itself_under_the_same_settings(path: Path) -> None:
    """Not with whatever curve is the usual one: a layout's gain is not the restoration's."""
    for restoration in ("", "11" * 8):
        append_curve(path, "latent", layout="44" * 8, restoration=restoration)
    names = [row[0].text for row in tables.bd(read_study([path], "ap50")).rows]
    assert [name for name in names if name.startswith("latent, restored")] == [
        *("latent, restored against latent of the same settings", "latent, restored against latent"),
        *("latent, restored against input-vvc", "latent, restored against input-jpeg"),
    ]
    listed = [row[0].text for row in tables.variants(read_study([path], "ap50")).rows]
    assert [name for name in listed if name.startswith("latent")] == ["latent, no layout", "latent, layout 44444444"]


def test_settings_are_called_by_their_profile(path: Path) -> None:
    append_curve(path, "latent", preset="medium", encoder_params="")
    append_curve(path, "latent", preset="faster", encoder_params="ALF=1")
    listed = [row[0].text for row in tables.variants(read_study([path], "ap50")).rows]
    assert [name.split(", ", 1)[1] for name in listed if name.startswith("latent")] == [
        *("preset faster", "preset medium", "profile faithful")
    ]


def test_bd_of_ap(path: Path) -> None:
    table = tables.bd(read_study([path], "ap"))
    assert table.columns[2:5:2] == ("BD-AP", "common AP range")
    assert row_of(table, "compact against latent")["common AP range"].text == "21.0 to 38.8"


def test_what_is_no_curve_is_a_note_and_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    append_uncoded(path)
    append_curve(path, "compact", (("34", "0.4", "58"),))
    append_curve(path, "latent", (("34", "0.9", "30"), ("38", "0.5", "20"), ("40", "0.3", "25")))
    append_curve(path, "input-vvc", (("30", "0.6", "58"), ("34", "0.35", "53.5")))
    table = tables.bd(read_study([path], "ap50"))
    assert [row[1].text for row in table.rows] == [ABSENT] * 3
    assert all(row[1].rows for row in table.rows)
    single, disjoint = "compact: 1 usable point is not enough", "the curves have no accuracy in common"
    assert len(table.notes) == 2, "each once"
    assert single in table.notes[0]
    assert disjoint in table.notes[1]


def test_points_that_are_left_out_are_said_once(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    append_curve(path, "latent", (*CURVES["latent"], ("36", "0.7", "50.5")))
    append_curve(path, "input-vvc")
    append_curve(path, "input-jpeg")
    (note,) = tables.bd(read_study([path], "ap50")).notes
    assert note.startswith("latent is not monotone; left out")
    assert note.endswith("0.7000 bpp 50.50")


def test_clip_ranges_are_compared_with_the_narrowest(path: Path, study: Study) -> None:
    table = tables.variants(study)
    names = [f"compact, clip [{low}, {high}]".replace("-", "−") for low, high in (NARROW, USUAL, WIDE)]
    assert [row[0].text for row in table.rows] == names
    assert table.rows[0][1].text == "reference"
    assert table.rows[0][1].rows == ("18", "17")
    curves = [
        read_curve(path, "ap50", {"method": "bottleneck", "clip_high": high}) for _, high in (NARROW, USUAL, WIDE)
    ]
    for name, curve in zip(names[1:], curves[1:], strict=True):
        cells, found = row_of(table, name), compare(curves[0], curve)
        assert cells["BD-rate"].text == f"{found.bd_rate:+.1f} %".replace("-", "−")
        assert cells["overlap"].text == f"{100 * found.accuracy.fraction:.0f} %"


def test_other_settings_are_compared_with_the_usual_ones(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    append_curve(path, "latent", CURVES["latent"][:2], preset="slow")
    append_curve(path, "latent")
    append_curve(path, "latent", CURVES["latent"][1:3], preset="slow", clip=("-1", "1"))
    table = tables.variants(read_study([path], "ap50"))
    usual, slow, other = [
        read_curve(path, "ap50", {"preset": preset, "clip_high": high})
        for preset, high in (("faster", "3"), ("slow", "3"), ("slow", "1"))
    ]
    assert [(row[0].text, row[1].text) for row in table.rows] == [
        ("latent, clip [−0.2786, 3], preset faster", "reference"),
        ("latent, clip [−0.2786, 3], preset slow", f"{compare(usual, slow).bd_rate:+.1f} %"),
        ("latent, clip [−1, 1], preset slow", f"{compare(usual, other).bd_rate:+.1f} %"),
    ]


def test_settings_that_are_no_numbers_stand_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    for version in ("n9-17", "n8-0"):
        append_curve(path, "latent", codec_version=version)
    first, second = tables.variants(read_study([path], "ap50")).rows
    assert [first[0].text, second[0].text] == ["latent, codec_version n9-17", "latent, codec_version n8-0"]


def test_one_setting_each_needs_no_table_of_settings(tmp_path: Path) -> None:
    append_curve(tmp_path / "points.csv", "latent")
    assert tables.variants(read_study([tmp_path / "points.csv"], "ap50")).rows == ()


def test_operating_points_are_the_cheapest_that_are_good_enough(study: Study) -> None:
    """The detector has 60.125, so at least 59.125, 58.125, 57.125 and 55.125."""
    table = tables.operating_points(study)
    assert len(table.columns) == 5
    assert texts(table) == [
        ["compact", ABSENT, "0.4000 bpp (QP 34)", "0.4000 bpp (QP 34)", "0.2000 bpp (QP 38)"],
        ["latent", "0.9000 bpp (QP 34)", "0.9000 bpp (QP 34)", "0.9000 bpp (QP 34)", "0.5000 bpp (QP 38)"],
        ["input-vvc", ABSENT, ABSENT, "0.6000 bpp (QP 30)", "0.6000 bpp (QP 30)"],
        ["input-jpeg", ABSENT, ABSENT, ABSENT, "1.5000 bpp (quality 80)"],
    ]
    for row in table.rows:
        for cell in row[1:]:
            assert bool(cell.rows) == (cell.text != ABSENT)
    for cell in row_of(table, "compact").values():
        for number in cell.rows:
            row = study.rows[int(number) - 1]
            assert cell.text == f"{float(row['bpp']):.4f} bpp (QP {row['qp']})"


def test_a_cheaper_point_that_is_as_good_wins(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    append_uncoded(path)
    append_curve(path, "latent", (("34", "0.9", "59.5"), ("36", "0.7", "60"), ("38", "0.5", "56")))
    ((_, within_1, *_),) = texts(tables.operating_points(read_study([path], "ap50")))
    assert within_1 == "0.7000 bpp (QP 36)"


def test_without_the_detector_there_are_no_operating_points(tmp_path: Path) -> None:
    append_curve(tmp_path / "points.csv", "latent")
    assert tables.operating_points(read_study([tmp_path / "points.csv"], "ap50")).rows == ()


def test_all_rows_are_listed(study: Study, path: Path) -> None:
    table = tables.points(study)
    assert [row[0].text for row in table.rows] == [str(number) for number in range(1, 19 + 2)]
    found = dict(zip(table.columns, [cell.text for cell in table.rows[3]], strict=True))
    assert found == {
        **{"row": "4", "codec": "compact", "QP or quality": "34", "clip": "clip [−3, 3]", "preset": "faster"},
        **{"bytes": "20,000", "slice data": "95.0 %", "bpp": "0.4000", "AP50": "58.80", "95 % interval": ABSENT},
        **{"AP": "38.80", "PSNR": "17.00", "edge-PSNR": "22.00", "encode, s": "2.5", "decode, s": "2.5"},
        "file and row": f"{path}, row 4",
    }


@pytest.mark.parametrize("value", ["", "1.5", "many", "0"])
def test_bytes_that_are_none_are_one_line(tmp_path: Path, value: str) -> None:
    path = tmp_path / "points.csv"
    append_curve(path, "latent", bytes=value)
    with pytest.raises(InputError, match=rf"^{path}, row 1: .* is not a number; measure it with `featcodec sweep`$"):
        tables.points(read_study([path], "ap50"))


@pytest.mark.parametrize(
    ("numbers", "words"), [(["3"], "3"), (["4", "3", "9", "5"], "3-5, 9"), (["10", "9", "2"], "2, 9-10"), ([], "")]
)
def test_row_numbers_for_people(numbers: list[str], words: str) -> None:
    assert tables.row_range(numbers) == words
