"""The files of the page, as a server sends them."""

from __future__ import annotations

import re

import httpx
import pytest
from running import Running

from featcodec.service.page_files import HEADERS, PAGE


@pytest.mark.parametrize("path", ["/", *(f"/page/{file.name}" for file in sorted(PAGE.iterdir()))])
def test_every_file_comes_with_headers_that_protect_it(server: Running, path: str) -> None:
    answer = server.get(path)
    assert answer.status_code == 200
    assert answer.read() == (PAGE / (path.removeprefix("/page/").strip("/") or "index.html")).read_bytes()
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert answer.headers["Content-Type"].partition(";")[0] == kinds.get(path[path.rfind(".") :], "text/html")


def test_what_a_browser_has_is_not_sent_again(server: Running) -> None:
    first = server.get("/page/main.js")
    again = httpx.get(server.url + "/page/main.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("path", ["/page/", "/page/none.js", "/page/../server.py", "/page/%2e%2e/server.py"])
def test_nothing_else_is_sent(server: Running, path: str) -> None:
    assert server.get(path).status_code == 404


def test_the_page_asks_for_nothing_outside_and_has_no_script_of_its_own() -> None:
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//cdn" not in text
        assert not re.search(r"https?://[\w.]", text), file.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), file.name
    index = (PAGE / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script[^>]*>([^<]*)", index) == [""]
    assert not re.search(r"<style|\sstyle=|\son\w+=", index)
