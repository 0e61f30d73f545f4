"""Progress bars: on a terminal alone, and every item comes through."""

from __future__ import annotations

import io
import sys

import pytest

from featcodec.cli.console import progress, training_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


STREAMS = {"terminal": Terminal, "file": io.StringIO, "closed": lambda: None}


@pytest.mark.parametrize("kind", STREAMS)
def test_every_item_comes_through(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = STREAMS[kind]()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress(range(5), 5, "encode")) == [0, 1, 2, 3, 4]
    said = "" if stream is None else stream.getvalue()
    assert ("encode" in said, "5/5" in said) == (kind == "terminal", kind == "terminal")


@pytest.mark.parametrize("kind", ["terminal", "file"])
def test_training_says_its_step_and_values(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = STREAMS[kind]()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    with training_progress(10) as show:
        show(10, {"loss": 0.125})
    assert stream is not None
    assert "10/10" in stream.getvalue()
    assert "loss 0.125" in stream.getvalue()
