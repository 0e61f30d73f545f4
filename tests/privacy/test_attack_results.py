"""The table of an attack's folder: what is written comes back, what is made again is replaced."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcodec.errors import InputError, OutputError
from featcodec.privacy.attack_results import (
    FILE_NAME,
    AttackResult,
    add_attack_results,
    check_attack_results,
    read_attack_results,
)

HEADER = "picture,original,label,fingerprint,recnet,qp,psnr,edge_psnr"


def result(picture: str, psnr: float = 20.0, **others: str) -> AttackResult:
    texts = {"original": "in/a.jpg", "label": "latent", "fingerprint": "ab" * 8, "recnet": "cd" * 8, "qp": "30"}
    return AttackResult(picture=picture, **{**texts, **others}, psnr=psnr, edge_psnr=psnr + 1)


# Names of files are any bytes but NUL and slash; those that are no UTF-8 come as surrogates.
texts = st.text(
    st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)) | st.sampled_from("\udc80,\"'\r\n")
)
decibels = st.floats(0, 99, width=32) | st.sampled_from((math.inf, math.nan))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(texts, texts, texts, texts, decibels, decibels), max_size=4, unique_by=lambda row: row[0]))
def test_what_is_written_comes_back(rows: list[tuple[str, str, str, str, float, float]]) -> None:
    written = [
        AttackResult(picture, original, label, "ab", "cd", qp, psnr, edge)
        for picture, original, label, qp, psnr, edge in rows
    ]
    with tempfile.TemporaryDirectory() as folder:
        add_attack_results(Path(folder), written)
        read = read_attack_results(Path(folder))
    assert [one.picture for one in read] == sorted(one.picture for one in written)
    for one in written:
        (other,) = [other for other in read if other.picture == one.picture]
        assert dataclasses.astuple(other)[:6] == dataclasses.astuple(one)[:6]
        measured = [one.psnr, one.edge_psnr]
        assert [other.psnr, other.edge_psnr] == pytest.approx(measured, rel=1e-8, nan_ok=True)


def test_other_pictures_stay_and_pictures_made_again_are_replaced(tmp_path: Path) -> None:
    add_attack_results(tmp_path, [result("b.png", 10), result("a.png", 11)])
    add_attack_results(tmp_path, [result("c.png", 12), result("b.png", math.nan, original="", qp="")])
    first, second, third = read_attack_results(tmp_path)
    assert [first, third] == [result("a.png", 11), result("c.png", 12)]
    assert (second.picture, second.original, second.qp) == ("b.png", "", "")
    assert math.isnan(second.psnr)
    assert math.isnan(second.edge_psnr)
    assert (tmp_path / FILE_NAME).read_text().splitlines()[0] == HEADER
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME], "nothing else is left behind"


def test_a_folder_without_a_table_may_be_filled_and_is_no_attack(tmp_path: Path) -> None:
    check_attack_results(tmp_path / "new")
    with pytest.raises(InputError, match=r"attack\.csv: no such file.*output folder of `featcodec inv"):
        read_attack_results(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has other columns than picture, original"),
        (b"bpp,ap50\n1,2\n", "has other columns than picture, original"),
        (f"{HEADER},more\n".encode(), "has other columns"),
        (f"{HEADER}\na.png,b.jpg\n".encode(), r"row 1 \(line 2\) has 2 values, but there are 8 columns"),
        (f"{HEADER}\na,b,c,d,e,30,twenty,1\n".encode(), r"row 1 \(line 2\): 'twenty' is not a number"),
        (f"{HEADER}\na,b,c,d,e,30,1,\xff\n".encode("latin-1"), "is not a number"),
        (f'{HEADER}\n"{"a" * 200_000}",b,c,d,e,30,1,1\n'.encode(), r"row 1 \(line 2\) cannot be read"),
        (f"{HEADER}\na.png,b.jpg,c,d,e,30,nan,1\n".encode(), "'nan' is not a number"),
        (f"{HEADER.replace(',', ';')}\n".encode(), "separated by semicolons"),
        (f"{HEADER}\na\0b,b,c,d,e,30,1,1\n".encode(), "not a CSV file"),
        (bytes(range(256)), "attack.csv: "),
    ],
)
def test_what_is_no_such_table_is_one_line_with_a_remedy(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    for attempt in (
        read_attack_results,
        check_attack_results,
        lambda folder: add_attack_results(folder, [result("a")]),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            attempt(tmp_path)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path / FILE_NAME}: ")
        assert "remove it and run `featcodec invert` again" in message or "give the output folder" in message
        assert "\n" not in message
    assert (tmp_path / FILE_NAME).read_bytes() == content, "it was to stay"


def test_an_edited_table_is_read(tmp_path: Path) -> None:
    add_attack_results(tmp_path, [result("a.png"), result("b.png")])
    expected = read_attack_results(tmp_path)
    text = (tmp_path / FILE_NAME).read_text()
    for edited in (f"\ufeff{text}", text.replace("\n", "\r\n"), text.rstrip("\n"), text.replace("\n", "\n\n")):
        (tmp_path / FILE_NAME).write_bytes(edited.encode())
        assert read_attack_results(tmp_path) == expected


def test_two_runs_at_once_lose_no_row(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom featcodec.privacy.attack_results import *\n"
        "for number in range(20):\n"
        "    one = AttackResult(f'{sys.argv[2]}{number}', '', '', '', '', '', 1, 1)\n"
        "    add_attack_results(Path(sys.argv[1]), [one])\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(read_attack_results(tmp_path)) == 40
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_file_in_the_folders_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="out: cannot be written"):
        add_attack_results(tmp_path / "out", [result("a.png")])


def test_a_folder_in_the_tables_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(InputError, match=r"attack\.csv: not a regular file"):
        check_attack_results(tmp_path)


def test_a_table_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / FILE_NAME).open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(InputError, match=r"over 64 MiB, larger than any attack's; give the output folder"):
        read_attack_results(tmp_path)
