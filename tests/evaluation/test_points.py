"""The CSV of a sweep: columns, errors, lines that were cut off, and several writers."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from featcodec.errors import InputError, OutputError
from featcodec.evaluation.points import (
    COLUMNS,
    IDENTITY,
    LATER,
    MEASURES,
    PARAMETERS,
    PointFile,
    Row,
    number,
    read_rows,
)


def row(**values: str) -> Row:
    return {**dict.fromkeys(COLUMNS, ""), **values}


def test_columns_are_named_once_each() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS) == len(IDENTITY) + len(PARAMETERS) + len(MEASURES)


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (1 / 3, "0.333333333"), (300.0, "300"), (math.nan, ""), (-0.001, "-0.001")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_rows_come_back_in_order_and_the_latest_is_found(tmp_path: Path) -> None:
    file = PointFile(tmp_path / "new/points.csv")
    assert file.rows() == []
    rows = [row(method="latent", qp="34", bpp="1"), row(method="latent", qp="36"), row(method="latent", qp="34")]
    rows.append(row(method="input-vvc", bottleneck='a, "quoted" name', qp="34"))
    for one in rows:
        file.append(one)
    assert file.rows() == rows == read_rows(file.path)
    assert file.find({"method": "latent", "qp": "34"}) == rows[2]
    assert file.find({"method": "latent", "qp": "34", "bpp": "1"}) == rows[0]
    assert file.find({"method": "latent", "qp": "40"}) is None
    assert file.path.read_text().splitlines()[0] == ",".join(COLUMNS)


def test_a_line_that_was_cut_off_is_no_row_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    file = PointFile(tmp_path / "points.csv")
    file.append(row(qp="34"))
    whole = file.path.read_bytes()
    for cut in (whole + b"latent,36,,aa", whole + b"latent"):
        file.path.write_bytes(cut)
        assert [one["qp"] for one in file.rows()] == ["34"]
        file.append(row(qp="38"))
        assert [one["qp"] for one in file.rows()] == ["34", "38"]


def test_names_that_are_no_utf8_survive(tmp_path: Path) -> None:
    file = PointFile(tmp_path / "points.csv")
    file.append(row(bottleneck="caf\udce9"))
    assert file.rows()[0]["bottleneck"] == "caf\udce9"


def test_other_columns_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    without = [column for column in COLUMNS if column != "clip_low"]
    path.write_text(",".join(without) + "\n")
    with pytest.raises(InputError, match=r"points.csv: has no column 'clip_low'"):
        PointFile(path)
    path.write_text(",".join([*COLUMNS, "mood"]) + "\n")
    with pytest.raises(InputError, match="has other columns"):
        PointFile(path)
    path.write_text("")
    file = PointFile(path)
    file.append(row(qp="1"))
    path.write_text("qp,bpp\n1,2\n")
    with pytest.raises(InputError, match="has no column 'method'"):
        file.append(row(qp="2"))
    assert path.read_text() == "qp,bpp\n1,2\n"


def test_a_file_of_an_older_version_is_read_but_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    older = [column for column in COLUMNS if column not in LATER]
    path.write_text(",".join(older) + "\n" + ",".join("7" if column == "qp" else "x" for column in older) + "\n")
    (found,) = read_rows(path, COLUMNS)
    assert found == {**dict.fromkeys(COLUMNS, "x"), "qp": "7", "layout": "", "restoration": ""}
    with pytest.raises(InputError) as caught:
        PointFile(path)
    assert str(caught.value) == (
        f"{path}: has no column 'layout'; an older featcodec wrote it: choose another `output`"
    )


def test_missing_columns_and_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    with pytest.raises(InputError, match=r"points.csv: no such file"):
        read_rows(path)
    path.write_text("qp,bpp\n1,2\n3\n")
    assert read_rows(path, ["bpp"]) == [{"qp": "1", "bpp": "2"}]
    with pytest.raises(InputError, match="has no column 'ap50'"):
        read_rows(path, ["bpp", "ap50"])
    path.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match=r"points.csv: (not a CSV file|has no column)"):
        read_rows(path, ["bpp"])
    with pytest.raises(InputError, match="not a regular file"):
        read_rows(tmp_path)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        PointFile(tmp_path / "file/points.csv").append(row())


@pytest.mark.slow
def test_several_processes_share_a_file(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom featcodec.evaluation.points import COLUMNS, PointFile\n"
        "file = PointFile(Path(sys.argv[1]))\n"
        "for number in range(40):\n"
        "    file.append({**dict.fromkeys(COLUMNS, 'x' * 99), 'qp': str(number), 'method': sys.argv[2]})\n"
    )
    path = tmp_path / "points.csv"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    rows = PointFile(path).rows()
    assert len(path.read_text().splitlines()) == 121
    for name in "abc":
        assert [one["qp"] for one in rows if one["method"] == name] == [str(number) for number in range(40)]
