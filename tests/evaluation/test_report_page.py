"""The page: complete in itself, every figure leads to a row that says it, and nothing out of a file gets loose."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_rows import CURVES, append, append_curve, append_uncoded, make_attack, make_points

from featcodec.errors import InputError, OutputError
from featcodec.evaluation.points import Row, read_points
from featcodec.evaluation.report.page import Report, markdown_files, write_html, write_markdown
from featcodec.evaluation.report.pictures import read_grid
from featcodec.evaluation.report.study import read_study

HOSTILE = "<script>alert(1)</script> & \"'>|\n# x\n| y | ~~~ `code` ![i](http://x.y/z) </svg>"
VOID = {"meta", "img", "br", "link", "use", "hr", "input"}
PLAIN = {
    "AP50": ("ap50", ".2f"),
    "AP": ("ap", ".2f"),
    "PSNR, dB": ("psnr", ".2f"),
    "edge-PSNR, dB": ("edge_psnr", ".2f"),
}


@dataclass
class Cell:
    text: str = ""
    href: str = ""


@dataclass
class Page(HTMLParser):
    """What stands in a page."""

    tags: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    images: list[dict[str, str | None]] = field(default_factory=list)
    tables: dict[str, list[list[Cell]]] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self._table: list[list[Cell]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        for name in ("href", "xlink:href"):
            if name in found:
                self.links.append(str(found[name]))
        self.sources += [str(found[name]) for name in ("src", "srcset", "data", "action", "poster") if name in found]
        if tag == "img":
            self.images.append(found)
        if found.get("role") == "region":
            self._table = self.tables.setdefault(str(found["aria-label"]), [])
        elif tag == "tr":
            self._table.append([])  # of a table without a name: nobody's
        elif tag in ("td", "th") and self._table:
            self._table[-1].append(Cell())
        elif tag == "a" and "td" in self._open:
            self._table[-1][-1].href = str(found["href"])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag
        self._open.pop()
        if tag == "table":
            self._table = []

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self._open) and self._table:
            self._table[-1][-1].text += data

    def close(self) -> None:
        super().close()
        assert self._open == []


def parse(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return page


def make_report(
    folder: Path, path: Path, *, attacks: bool = False, commands: str = "", title: str = "A title"
) -> Report:
    folders = [make_attack(folder / label, folder / "in", label) for label in ("latent", "compact")] if attacks else []
    return Report(
        title,
        read_study([path], "ap50"),
        read_grid(folders, 6, [folder / "in"]),
        commands,
        "featcodec report x.csv -o y.html",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_points(tmp_path / "points.csv")


@pytest.fixture
def page(path: Path, tmp_path: Path) -> Page:
    write_html(tmp_path / "report.html", make_report(tmp_path, path, attacks=True, commands="featcodec sweep 'a b'"))
    return parse(tmp_path / "report.html")


def test_everything_is_inside(page: Page) -> None:
    assert all(link.startswith("#") for link in page.links)
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert page.tags.count("svg") == 3
    assert page.tags.count("script") == 1


@pytest.mark.slow
def test_style_and_script_load_nothing_and_follow_light_and_dark(path: Path, tmp_path: Path) -> None:
    write_html(tmp_path / "report.html", make_report(tmp_path, path))
    html = (tmp_path / "report.html").read_text()
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest", html)
    assert "@media (prefers-color-scheme: dark)" in html
    assert '<meta name="color-scheme" content="light dark">' in html


@pytest.mark.slow
def test_every_figure_leads_to_a_row_that_says_it(page: Page, path: Path) -> None:
    rows = read_points(path).rows
    seen = 0
    for name in (
        "Accuracy without compression",
        "Reconstruction by an attacker",
        "Bjontegaard deltas",
        "Operating points",
    ):
        head, *body = page.tables[name]
        assert body
        for line in body:
            assert len(line) == len(head)
            for column, cell in zip(head[1:], line[1:], strict=True):
                if not any(character.isdigit() for character in cell.text):
                    assert cell.text in ("", "–")
                    continue
                assert cell.href, f"{name}: {cell.text} leads nowhere"
                assert_said(rows[int(cell.href.removeprefix("#row-")) - 1], column.text, cell.text)
                seen += 1
    assert seen > 40


def assert_said(row: Row, column: str, text: str) -> None:
    """A cell that is a plain value is that of the row."""
    if column in PLAIN:
        name, form = PLAIN[column]
        assert text == format(float(row[name]), form)
    elif "interval" in column:
        assert text == f"{float(row['ap50_low']):.1f} to {float(row['ap50_high']):.1f}"
    elif "within" in column:
        assert text.startswith(f"{float(row['bpp']):.4f} bpp")


@pytest.mark.slow
def test_every_link_has_a_target_and_rows_stand_there_once(page: Page, path: Path) -> None:
    rows = [f"row-{number}" for number in range(1, len(read_points(path).rows) + 1)]
    assert [one for one in page.ids if one.startswith("row-")] == rows
    assert {link[1:] for link in page.links} <= set(page.ids)
    listed = page.tables["All points"]
    assert [line[0].text for line in listed[1:]] == [one.removeprefix("row-") for one in rows]
    bpp = [cell.text for cell in listed[0]].index("bpp")
    assert [line[bpp].text for line in listed[1:]] == [f"{float(row['bpp']):.4f}" for row in read_points(path).rows]


@pytest.mark.slow
def test_what_it_is_made_of_stands_there(page: Page) -> None:
    for text in (
        "20 points on 64 images",
        "featcodec sweep 'a b'",
        "featcodec report x.csv -o y.html",
        "ab" * 8,
        "22" * 8,
    ):
        assert text in page.text
    assert [image["alt"] for image in page.images[:3]] == ["original: a", "RecNet-latent: a", "RecNet-compact: a"]
    assert "PSNR 15.13 dB" in page.text


@pytest.mark.slow
def test_parts_without_rows_are_left_out(tmp_path: Path) -> None:
    append_curve(tmp_path / "points.csv", "latent")
    write_html(tmp_path / "report.html", make_report(tmp_path, tmp_path / "points.csv"))
    page = parse(tmp_path / "report.html")
    assert list(page.tables) == ["All points"]
    assert page.tags.count("svg") == 1
    append_uncoded(tmp_path / "uncoded.csv")
    write_html(tmp_path / "uncoded.html", make_report(tmp_path, tmp_path / "uncoded.csv"))
    page = parse(tmp_path / "uncoded.html")
    assert page.tags.count("svg") == 1, "the frontier alone"
    assert set(page.tables) == {"Accuracy without compression", "Reconstruction by an attacker", "All points"}


@pytest.mark.slow
def test_columns_that_only_some_sweeps_have_may_lack(tmp_path: Path, path: Path) -> None:
    rows = read_points(path).rows
    optional = ("ap50_low", "ap50_high", "psnr", "edge_psnr", "recnet", "encode_seconds")
    kept = [column for column in rows[0] if column not in optional]
    lines = [kept, *([row[column] for column in kept] for row in rows)]
    path.write_text("".join(",".join(line) + "\n" for line in lines))
    report = make_report(tmp_path, path)
    write_html(tmp_path / "report.html", report)
    write_markdown(tmp_path / "report.md", report)
    assert "bootstrap intervals over" not in parse(tmp_path / "report.html").text
    assert "Reconstruction by an attacker" not in parse(tmp_path / "report.html").tables


def make_hostile(path: Path) -> Path:
    values = dict.fromkeys(("preset", "encoder_params", "version", "images", "recnet", "bits"), HOSTILE)
    append_uncoded(path)
    append_curve(path, "compact", bottleneck=HOSTILE, psnr="17", **values)
    append_curve(path, "latent", **values)
    append_curve(path, "latent", CURVES["latent"][:2], preset=f"other {HOSTILE}")
    append(path, method=HOSTILE, qp=HOSTILE, clip_low="1", clip_high="2", bpp="1", ap50="1")
    return path


@pytest.mark.slow
def test_hostile_texts_stay_texts_in_html(tmp_path: Path) -> None:
    path = make_hostile(tmp_path / "points.csv")
    report = make_report(tmp_path, path, attacks=True, commands=HOSTILE, title=HOSTILE)
    write_html(tmp_path / "report.html", report)
    page = parse(tmp_path / "report.html")
    assert page.tags.count("script") == 1, "the page's own"
    assert page.text.count("alert(1)") > 10
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    for text in (report.title, report.commands):
        assert text in page.text


@pytest.mark.slow
def test_hostile_texts_are_harmless_in_markdown(tmp_path: Path) -> None:
    path = make_hostile(tmp_path / "points.csv")
    report = make_report(tmp_path, path, commands=f"one\n~~~~\n{HOSTILE}\n~~~", title=HOSTILE)
    write_markdown(tmp_path / "report.md", report)
    text = (tmp_path / "report.md").read_text()
    fence = "~" * 5
    blocks = re.findall(rf"^{fence}sh\n(.*?)\n{fence}$", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks == [report.commands]
    outside = text.replace(blocks[0], "")
    assert "alert(1)" in outside
    assert not re.search(r"(?<!\\)<", outside)
    assert not re.search(r"(?<!\\)!\[i|(?<!\\)\]\(http", outside)
    headings = [line for line in outside.splitlines() if line.startswith("#")]
    assert len(headings) == len({line.lstrip("# ") for line in headings})
    assert "# x" not in headings
    assert_tables_are_whole(outside)


def assert_tables_are_whole(text: str) -> None:
    """Every line of a table has as many cells as its head."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(blocks) > 3
    for block in blocks:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block
        assert re.fullmatch(r"[| :-]+", block.splitlines()[1])


@pytest.mark.slow
def test_markdown_says_the_same_and_its_figures_exist(tmp_path: Path, path: Path) -> None:
    report = make_report(tmp_path, path, attacks=True)
    target = tmp_path / "out/my report (1).md"
    written = write_markdown(target, report)
    assert written == list(markdown_files(target).values())
    assert sorted(target.parent.iterdir()) == sorted(written)
    text = target.read_text()
    shown = re.findall(r"!\[[^]]*\]\(([^ ()]+)\)", text)
    assert len(shown) == text.count("![") == 4
    for name in shown:
        assert (target.parent / name.replace("%20", " ").replace("%28", "(").replace("%29", ")")).is_file()
    for name in written[1:4]:
        ElementTree.parse(name)  # noqa: S314  (our own)
    assert_tables_are_whole(text)
    write_html(tmp_path / "report.html", report)
    for name, lines in parse(tmp_path / "report.html").tables.items():
        assert f"## {name}" in text or name == "All points"
        for line in lines:
            # Markdown escapes what it would take for markup.
            cells = [re.sub(r"([\[\]_~#*])", r"\\\1", cell.text) for cell in line]
            assert f"| {' | '.join(cells)} |" in text


def test_without_attackers_there_are_fewer_files(tmp_path: Path) -> None:
    append_curve(tmp_path / "points.csv", "latent")
    written = write_markdown(tmp_path / "out/r.md", make_report(tmp_path, tmp_path / "points.csv"))
    assert [one.name for one in written] == ["r.md", "r-rate-accuracy.svg"]
    assert (tmp_path / "out/r.md").read_text().count("![") == 1


def test_names_of_markdown_files(tmp_path: Path) -> None:
    assert [one.name for one in markdown_files(tmp_path / "v1.2.md").values()] == [
        *(
            "v1.2.md",
            "v1.2-rate-accuracy.svg",
            "v1.2-privacy-accuracy.svg",
            "v1.2-frontier.svg",
            "v1.2-reconstructions.jpg",
        )
    ]


@pytest.mark.slow
def test_the_same_rows_make_the_same_page(tmp_path: Path, path: Path) -> None:
    report = make_report(tmp_path, path, attacks=True)
    for name in ("a.html", "b.html"):
        write_html(tmp_path / name, report)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.slow
def test_a_page_that_cannot_be_made_or_written_leaves_nothing(tmp_path: Path, path: Path) -> None:
    (tmp_path / "file").write_text("")
    report = make_report(tmp_path, path)
    with pytest.raises(OutputError, match="cannot be written"):
        write_html(tmp_path / "file/report.html", report)
    append_curve(path, "input-vvc", (("42", "0.1", "30"),), bytes="1.5")
    broken = make_report(tmp_path, path)
    for write in (write_html, write_markdown):
        with pytest.raises(InputError, match="row 21: a value is not a number"):
            write(tmp_path / "out/report", broken)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_texts_that_are_no_utf8_do_not_stop_it(tmp_path: Path, path: Path) -> None:
    append(path, method="latent\udcff", preset="\udcff", bpp="1", ap50="1")
    report = make_report(tmp_path, path, commands="\udcff", title="\udcff")
    write_html(tmp_path / "report.html", report)
    write_markdown(tmp_path / "report.md", report)
    for name in ("report.html", "report.md"):
        (tmp_path / name).read_bytes().decode("utf-8")
