"""The CSV of a sweep: columns, errors, lines that were cut off, and several writers."""

from __future__ import annotations

import errno
import math
import subprocess
import sys
from pathlib import Path

import pytest
from refused_calls import run_refusing

from featcodec.errors import InputError, OutputError
from featcodec.evaluation.points import (
    COLUMNS,
    IDENTITY,
    LATER,
    MEASURES,
    PARAMETERS,
    SCORES,
    PointFile,
    Row,
    number,
    read_points,
)
from featcodec.privacy.measures import MEASURES as MEASURES_OF_AUDITS


def row(**values: str) -> Row:
    return {**dict.fromkeys(COLUMNS, ""), **values}


def test_columns_are_named_once_each() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS) == len(IDENTITY) + len(PARAMETERS) + len(MEASURES)


def test_every_score_of_an_audit_has_a_column() -> None:
    assert [measure.name for measure in MEASURES_OF_AUDITS] == list(SCORES)
    assert set(SCORES) <= set(MEASURES)


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
    assert file.rows() == rows == read_points(file.path).rows
    assert file.find({"method": "latent", "qp": "34"}) == rows[2]
    assert file.find({"method": "latent", "qp": "34", "bpp": "1"}) == rows[0]
    assert file.find({"method": "latent", "qp": "40"}) is None
    assert file.path.read_text().splitlines()[0] == ",".join(COLUMNS)


def measured(**values: str) -> Row:
    """A row as a sweep writes it: seconds have three decimals."""
    return row(encoder_params="MaxCUSize=64,ALF=0", decode_seconds="6.789", back_end_seconds="12.345", **values)


@pytest.mark.parametrize("old", ["appended behind", "cut back"])
def test_wherever_a_row_was_cut_off_it_is_no_row_and_hides_no_other(tmp_path: Path, old: str) -> None:
    """Version 0.2.0 appended behind a row that was cut off, in a line of its own."""
    path = tmp_path / "points.csv"
    rows = [measured(method="latent", qp=str(qp)) for qp in (34, 36, 38)]
    for one in rows[:2]:
        PointFile(path).append(one)
    whole = path.read_bytes()
    start = whole.rindex(b"latent")
    line = whole[start:].rstrip(b"\n")
    for length in range(1, len(line)):
        path.write_bytes(whole[:start] + line[:length])
        if old == "appended behind":
            path.write_bytes(path.read_bytes() + b"\n" + line.replace(b"36", b"38") + b"\n")
            assert PointFile(path).find({"qp": "38"}) == rows[2]
            continue
        file = PointFile(path)
        file.append(rows[2])
        assert file.rows() == [rows[0], rows[2]]
        (note,) = file.take_notes()
        assert note.startswith(f"{path}: its last row was cut off and is removed: ")
        assert file.take_notes() == []
        assert path.read_bytes().count(b"\n") == 3


def test_a_whole_row_without_its_line_end_is_kept(tmp_path: Path) -> None:
    file = PointFile(tmp_path / "points.csv")
    for last in (measured(qp="34"), row(qp="34"), row(qp="34", bottleneck='a "quoted" name')):
        file.path.unlink(missing_ok=True)
        file.append(last)
        file.path.write_bytes(file.path.read_bytes().rstrip(b"\n"))
        file.append(row(qp="36"))
        assert file.rows() == [last, row(qp="36")]
        assert file.take_notes() == []


def test_a_header_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    file = PointFile(tmp_path / "points.csv")
    file.append(row(qp="34"))
    whole = file.path.read_bytes()
    # "ap50" cut to "ap" is the name of an earlier column.
    for length in range(1, whole.index(b"\n") + 2):
        file.path.write_bytes(whole[:length])
        PointFile(file.path).append(row(qp="34"))
        assert file.path.read_bytes() == whole


def test_a_disk_that_fills_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """The largest size that the system allows this process for files ends in the middle of the second row."""
    path = tmp_path / "points.csv"
    PointFile(path).append(measured(qp="34"))
    before = path.read_bytes()
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from featcodec.errors import OutputError\nfrom featcodec.evaluation.points import COLUMNS, PointFile\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))\n"
        "try: PointFile(Path(sys.argv[1])).append(dict.fromkeys(COLUMNS, 'a,b'))\n"
        "except OutputError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(path), str(len(before) + 30)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"{path}: cannot be written (")
    assert path.read_bytes() == before


def test_rows_of_another_length_are_refused_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("qp,bpp,ap50\n30,0.5,50\n34,0.4\n")
    with pytest.raises(InputError, match=r"csv: row 2 \(line 3\) has 2 values, but there are 3 columns; correct or"):
        read_points(path)
    path.write_text("qp,bpp,ap50\n30,0,5,50\n")
    with pytest.raises(InputError, match=r"row 1 \(line 2\) has 4 values"):
        read_points(path)
    path.unlink()
    PointFile(path).append(measured(qp="34"))
    path.write_bytes(path.read_bytes() + b"more," + path.read_bytes().splitlines()[1] + b"\n")
    with pytest.raises(InputError, match=r"row 2 \(line 3\) has \d+ values"):
        PointFile(path)


def test_readers_say_which_row_of_a_sweep_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    PointFile(path).append(measured(qp="34"))
    path.write_bytes(path.read_bytes() + b"latent,36\n")
    points = read_points(path)
    assert points.notes == [f"{path}: row 2 (line 3) was cut off, so it is left out; sweep again to measure its point"]
    assert (points.rows, points.numbers) == ([measured(qp="34")], [1])
    file = PointFile(path)
    file.prepare()
    assert file.take_notes() == points.notes


@pytest.mark.parametrize("edit", ["mark", "Windows"])
def test_a_file_that_a_spreadsheet_saved_is_read_and_appended_to(tmp_path: Path, edit: str) -> None:
    path = tmp_path / "points.csv"
    PointFile(path).append(measured(qp="34"))
    text = path.read_text()
    path.write_bytes((f"\ufeff{text}" if edit == "mark" else text.replace("\n", "\r\n")).encode())
    PointFile(path).append(measured(qp="36"))
    assert [one["qp"] for one in PointFile(path).rows()] == ["34", "36"]


APPEND = """
import sys
from pathlib import Path
from featcodec.evaluation.points import COLUMNS, PointFile
file = PointFile(Path(sys.argv[1]))
file.prepare()
file.append(dict.fromkeys(COLUMNS, "x"))
print(len(file.rows()))
"""


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_rows_are_appended_where_the_file_system_has_no_locks(tmp_path: Path, number: int) -> None:
    path = tmp_path / "new/points.csv"
    assert [run_refusing({"flock": number}, APPEND, path) for _ in range(2)] == ["1\n", "2\n"]
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_is_found_out_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        PointFile(tmp_path / "file/points.csv").prepare()
    file = PointFile(tmp_path / "new/points.csv")
    file.prepare()
    assert list((tmp_path / "new").iterdir()) == []


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
    (found,) = read_points(path, COLUMNS).rows
    assert found == {**dict.fromkeys(COLUMNS, "x"), **dict.fromkeys(LATER, ""), "qp": "7"}
    with pytest.raises(InputError) as caught:
        PointFile(path)
    assert str(caught.value) == (
        f"{path}: has no column 'layout'; an older featcodec wrote it: choose another `output`"
    )


def test_missing_columns_and_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    with pytest.raises(InputError, match=r"points.csv: no such file"):
        read_points(path)
    path.write_text("qp,bpp\n1,2\n")
    assert read_points(path, ["bpp"]).rows == [{"qp": "1", "bpp": "2"}]
    with pytest.raises(InputError, match="has no column 'ap50'"):
        read_points(path, ["bpp", "ap50"])
    path.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match=r"points.csv: (not a CSV file|has no column)"):
        read_points(path, ["bpp"])
    with pytest.raises(InputError, match="not a regular file"):
        read_points(tmp_path)


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
