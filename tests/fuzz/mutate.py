"""Seeded damage: to bytes, to JSON trees, to tables of text. The same `random.Random` gives the same damage."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF)


def damage_bytes(rng: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """Damage at one to four places: what disks, networks and attackers do to bytes.

    Args:
        rng: decides what happens.
        data: the bytes; they may be empty.
        other: another file of the kind; a part of it may be put in.
    """
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_BYTE_DAMAGES)(rng, out, other or data)
    return bytes(out)


def _flip(rng: random.Random, out: bytearray, _: bytes) -> None:
    if out:
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, out: bytearray, _: bytes) -> None:
    if out:
        out[rng.randrange(len(out))] = rng.choice(INTERESTING)


def _randomize(rng: random.Random, out: bytearray, _: bytes) -> None:
    start = rng.randrange(len(out) + 1)
    length = min(len(out) - start, rng.choice((1, 2, 4, 16, 64)))
    out[start : start + length] = rng.randbytes(length)


def _delete(rng: random.Random, out: bytearray, _: bytes) -> None:
    start = rng.randrange(len(out) + 1)
    del out[start : start + rng.choice((1, 1, 2, 3, 4, 16, 256))]


def _insert(rng: random.Random, out: bytearray, _: bytes) -> None:
    start = rng.randrange(len(out) + 1)
    out[start:start] = rng.choice(
        (b"\0", b"\0\0\1", b"\0\0\0\1", b"\3", b"\xff" * 8, rng.randbytes(rng.randrange(1, 32)))
    )


def _repeat(rng: random.Random, out: bytearray, _: bytes) -> None:
    start = rng.randrange(len(out) + 1)
    part = out[start : start + rng.choice((1, 4, 16, 256))]
    out[start:start] = part * rng.choice((1, 1, 2, 16))


def _cut(rng: random.Random, out: bytearray, _: bytes) -> None:
    del out[rng.randrange(len(out) + 1) :]


def _splice(rng: random.Random, out: bytearray, other: bytes) -> None:
    start, source = rng.randrange(len(out) + 1), rng.randrange(len(other) + 1)
    length = rng.choice((4, 16, 64, 1024))
    out[start : start + length] = other[source : source + length]


def _move(rng: random.Random, out: bytearray, _: bytes) -> None:
    start = rng.randrange(len(out) + 1)
    part = out[start : start + rng.choice((2, 8, 32))]
    del out[start : start + len(part)]
    place = rng.randrange(len(out) + 1)
    out[place:place] = part


_BYTE_DAMAGES: tuple[Callable[[random.Random, bytearray, bytes], None], ...] = (
    *(_flip, _flip, _flip, _set, _randomize, _delete, _insert, _repeat, _cut, _splice, _move),
)


def hostile_value(rng: random.Random) -> Any:
    """A JSON value that a careless reader trips over."""
    return copy.deepcopy(rng.choice(_HOSTILE_VALUES))


_DEEP: list[Any] = []
for _ in range(200):
    _DEEP = [_DEEP]

_HOSTILE_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 255, 65536, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400),
    *(0.0, -0.0, 0.5, 3.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "0",
        "3",
        "3.0",
        "nan",
        "true",
        "x" * 300,
        "x" * 70_000,
        "\0",
        "\ud800",
        "\u202e",
        "é",
        "a\nb",
        "../../etc/passwd",
    ),
    *(
        [],
        [[]],
        [None],
        [0, 0, 0, 0],
        [1, 2, 3],
        ["1", "2", "3", "4"],
        [float("nan")] * 4,
        [1e300] * 4,
        list(range(300)),
        _DEEP,
    ),
    *({}, {"": 0}, {"id": 1}, {"bbox": []}, {str(number): number for number in range(300)}),
)


def damage_tree(rng: random.Random, tree: Any) -> Any:
    """A copy of a JSON tree with one to three values replaced, removed, repeated, moved or renamed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places or rng.random() < 0.02:
            tree = hostile_value(rng)
            continue
        parent, key = rng.choice(places)
        _damage_place(rng, parent, key, places)
    return tree


def _damage_place(rng: random.Random, parent: Any, key: Any, places: Sequence[tuple[Any, Any]]) -> None:
    what = rng.random()
    if what < 0.55:
        parent[key] = hostile_value(rng)
    elif what < 0.65:
        del parent[key]
    elif what < 0.75 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif what < 0.8 and isinstance(parent, dict):
        parent[str(hostile_value(rng))[:50]] = parent.pop(key)
    elif what < 0.9:
        source, name = rng.choice(places)
        parent[key] = copy.deepcopy(source[name])
    else:
        value = parent[key]
        parent[key] = (
            str(value)
            if not isinstance(value, str)
            else rng.choice((value.encode("utf-8", "surrogatepass").hex(), [value], value + value))
        )


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < 5000:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            waiting.append(node[key])
    return found


def damage_table(rng: random.Random, lines: Sequence[str]) -> str:
    """A text of lines with cells between commas, with one to three cells or lines damaged."""
    table = [line.split(",") for line in lines]
    for _ in range(rng.choice((1, 1, 2, 3))):
        row = rng.randrange(len(table))
        column = rng.randrange(len(table[row])) if table[row] else 0
        cells = table[row]
        what = rng.random()
        if what < 0.5 and cells:
            cells[column] = rng.choice(_HOSTILE_CELLS)
        elif what < 0.6 and cells:
            del cells[column]
        elif what < 0.7:
            cells.insert(column, rng.choice(_HOSTILE_CELLS))
        elif what < 0.8:
            table.insert(row, list(cells))
        elif what < 0.85 and len(table) > 1:
            del table[row]
        elif what < 0.95:
            other = rng.choice(table)
            if other and cells:
                cells[column] = rng.choice(other)
        else:
            table[row] = [rng.choice(_HOSTILE_CELLS) for _ in range(rng.randrange(40))]
    text = rng.choice(("\n", "\n", "\n", "\r\n", "\r")).join(",".join(cells) for cells in table)
    return rng.choice(("", "", "", "", "\ufeff")) + text + rng.choice(("\n", "\n", ""))


_HOSTILE_CELLS = (
    *(
        "",
        " ",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "-1",
        "0",
        "1",
        "1e308",
        "1_000",
        "0x10",
        "1,5",
        "½",
        "٣",
        "x" * 300,
        "x" * 140_000,
    ),
    *(
        '"',
        '""',
        '"a',
        'a"b',
        '"a\nb"',
        "\0",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        "=1+1",
        "\t",
        ";",
        "#",
    ),
)
