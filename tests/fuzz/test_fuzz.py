"""A short run of every fuzz target. The long ones are made by hand (run.py; docs/reliability.md has their figures)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from mutate import damage_bytes, damage_table, damage_tree
from run import judge
from targets import READ, REFUSED, SAME, Target, WrongError, open_target, refused_or

from featcodec.errors import FeatcodecError

_CASES = {"streams": 300, "texts": 150, "images": 300, "checkpoints": 60}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) for kind in _CASES])
def test_damaged_files_are_refused_in_one_line_or_read(kind: str, tmp_path: Path) -> None:
    target = open_target(kind, tmp_path)
    results = {number: judge(target, kind, 14, number)[:2] for number in range(_CASES[kind])}
    assert [(number, fault) for number, (_, fault) in results.items() if fault] == []
    outcomes = {outcome for outcome, _ in results.values()}
    assert REFUSED in outcomes
    assert outcomes & {SAME, READ}, "no damaged file was read at all: the originals may be damaged"


@pytest.mark.parametrize("seed", range(20))
def test_the_same_seed_makes_the_same_damage(seed: int) -> None:
    tree = {"images": [{"id": 1, "name": "a"}], "n": [1, 2, 3]}
    for damage in (
        lambda rng: damage_bytes(rng, b"abcdefgh" * 9, b"12345678"),
        lambda rng: repr(damage_tree(rng, tree)),
        lambda rng: damage_table(rng, ["a,b,c", "1,2,3"]),
    ):
        assert damage(random.Random(seed)) == damage(random.Random(seed))
    assert tree == {"images": [{"id": 1, "name": "a"}], "n": [1, 2, 3]}


class _Careless(Target):
    def run(self, rng: random.Random) -> str:
        raise KeyError("bbox")


def test_a_foreign_exception_is_a_fault() -> None:
    outcome, fault, *_ = judge(_Careless(), "texts", 0, 0)
    assert outcome == "fault"
    assert "KeyError" in fault
    assert "test_fuzz.py" in fault


class _TalkativeError(FeatcodecError):
    def __str__(self) -> str:
        return self.args[1] if len(self.args) > 1 else ""


def _refuse(message: str) -> None:
    error = _TalkativeError("x")
    error.args = ("x", message)
    raise error


def test_a_refusal_is_one_line() -> None:
    assert refused_or(lambda: _refuse("x.json: not JSON; make it again")) is None
    for message in ("", "two\nlines", "x" * 3000):
        with pytest.raises(WrongError, match="not one line"):
            refused_or(lambda message=message: _refuse(message))
