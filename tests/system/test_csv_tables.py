"""CSV files as people and spreadsheets make them: read whole, or refused with the place."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.errors import InputError
from featcodec.system.csv_tables import CsvTable, number_of, parse_csv

PATH = Path("t.csv")


def parse(data: bytes) -> CsvTable:
    return parse_csv(PATH, data, InputError, "give another")


def values(data: bytes) -> list[tuple[str, ...]]:
    return [row.values for row in parse(data).rows if not row.problem]


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\n1,2\n3,4\n",
        b"a,b\n1,2\n3,4",
        b"a,b\r\n1,2\r\n3,4\r\n",
        b"a,b\r1,2\r3,4\r",
        b"\xef\xbb\xbfa,b\n1,2\n3,4\n",
        b'\xef\xbb\xbf"a","b"\r\n"1","2"\r\n\r\n"3","4"\r\n\r\n',
        b"\n\na , b\n1,2\n\n3,4\n",
        b"sep=,\r\na,b\r\n1,2\r\n3,4\r\n",
    ],
    ids=["plain", "no last line end", "Windows", "old Mac", "mark", "spreadsheet", "empty lines", "separator"],
)
def test_whatever_wrote_it_the_content_is_the_same(data: bytes) -> None:
    table = parse(data)
    assert table.columns == ("a", "b")
    assert [(row.number, row.values) for row in table.rows] == [(1, ("1", "2")), (2, ("3", "4"))]


cells = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=6)


@given(st.lists(st.tuples(cells, cells), max_size=4))
def test_what_the_csv_module_writes_comes_back(rows: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("a", "b"), *rows])
    assert values(text.getvalue().encode()) == [row for row in rows if row != ("a", "b")]


def test_files_that_were_put_together_are_one_table() -> None:
    """`cat one.csv other.csv`: the second header line does not count as a row."""
    table = parse(b"a,b\n1,2\na,b\n3,4\n")
    assert [(row.number, row.values) for row in table.rows] == [(1, ("1", "2")), (3, ("3", "4"))]


def test_a_broken_row_has_its_place_and_cause_and_costs_no_other() -> None:
    table = parse(b"a,b\n1,2\n\n3\n4,5,6\n7,8\n")
    found = [(row.place, row.problem, row.is_cut) for row in table.rows if row.problem]
    assert found == [
        ("row 2 (line 4)", "has 1 value, but there are 2 columns", True),
        ("row 3 (line 5)", "has 3 values, but there are 2 columns", False),
    ]
    assert values(b"a,b\n1,2\n\n3\n4,5,6\n7,8\n") == [("1", "2"), ("7", "8")]


@pytest.mark.parametrize("cut", range(1, len('1,"x=1,y=2"')))
def test_a_row_that_was_cut_off_hides_no_later_row(cut: int) -> None:
    whole = b'1,"x=1,y=2"'
    later = [("2", "x=3,y=4"), ("5", "six"), ("7", "x=1,y=2")]
    data = b"a,b\n" + whole[:cut] + b'\n2,"x=3,y=4"\n5,six\n7,"x=1,y=2"\n'
    assert values(data)[-3:] == later


def test_a_header_that_makes_no_table_is_refused() -> None:
    for data, reason in (
        (b"a;b\n1;2\n", "its columns are separated by semicolons; save it with commas"),
        (b"sep=;\na;b\n1;2\n", "its columns are separated by semicolons; save it with commas"),
        (b"a\tb\n1\t2\n", "its columns are separated by tabs"),
        (b"a,b,a\n1,2,3\n", "has 'a' as the name of two columns"),
        ("a,b\n1,2\n".encode("utf-16"), "as UTF-16 does"),
        (b"a,b\n1,\0\n", "it holds NUL"),
        (b'"a,b\n1,2\n', "not a CSV file"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            parse(data)
        assert str(caught.value).startswith("t.csv: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf", b"  \r\n"])
def test_an_empty_file_has_no_columns(data: bytes) -> None:
    assert parse(data) == CsvTable((), ())


def test_numbers() -> None:
    assert [number_of(text) for text in ("0.5", " -1e3 ", "7")] == [0.5, -1000, 7]
    assert [number_of(text) for text in ("", "0,5", "nan", "inf", "1_000", "forty", "1e999")] == [None] * 7
