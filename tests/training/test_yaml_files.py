"""YAML files are read in bounded time and memory, or refused in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from featcodec.errors import InputError
from featcodec.training.data.yaml_files import read_yaml


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "data.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("names: {0: a, 1: b}\ntrain: [x, y]\n", {"names": {0: "a", 1: "b"}, "train": ["x", "y"]}),
        ("\ufeffa: 1", {"a": 1}),
        ("train: &x images\nval: *x\n", {"train": "images", "val": "images"}),
        ("a: &x {p: 1}\nb: {<<: *x, q: 2}\nc: *x\n", {"a": {"p": 1}, "b": {"p": 1, "q": 2}, "c": {"p": 1}}),
        ("", None),
        ("names:\n" + "".join(f"  - class {number}\n" for number in range(22_000)), None),
    ],
    ids=["plain", "byte order mark", "alias", "merged", "empty", "22,000 names"],
)
def test_what_a_data_set_needs_is_read(tmp_path: Path, text: str, expected: object) -> None:
    content = read_yaml(write(tmp_path, text))
    assert content == expected if expected is not None or not text else len(content["names"]) == 22_000


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)
HOSTILE = {
    "billion laughs": BOMB + "names: *a8\n",
    "billion laughs in keys": BOMB.replace("[", "{? ").replace(", ", " : 1, ? ").replace("]", " : 1}"),
    "within itself": "names: &a [*a]\n",
    "merged": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 20)}], y{n}: 1}}\n" for n in range(1, 9)),
    "anchor again": "a: &a [1, 2]\n" + "".join(f"b{n}: &a [*a, *a]\n" for n in range(40)),
    "deep": "[" * 5000,
    "deep mapping": "{a: " * 3000,
    "deep by indents": "".join(" " * n + "a:\n" for n in range(500)),
    "wide": "names: [" + "a," * 60_000 + "]",
    "long": "names: " + "a" * 20_000,
    "long number": "names: " + "9" * 9_000,
    "long sexagesimal number": "names: 1" + ":1" * 4_000,
    "sexagesimal float": "names: 1" + ":1" * 3_000 + ".5",
    "date": "names: 2020-99-99",
    "python": "names: !!python/object/apply:os.system [true]",
    "list as a key": "? [a]\n: b",
    "two documents": "a: 1\n---\nb: 2\n",
    "no UTF-8": b"names: \xff",
    "NUL": "names: \0",
    "tab": "\ta: 1",
    "unknown alias": "a: *x",
    "large": "# " + "x" * (5 << 20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_everything_else_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, HOSTILE[name])
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.slow
def test_hostile_files_take_no_memory(tmp_path: Path) -> None:
    paths = []
    for number, text in enumerate(HOSTILE.values()):
        (tmp_path / str(number)).mkdir()
        paths.append(str(write(tmp_path / str(number), text)))
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom featcodec.training.data.yaml_files import read_yaml\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        read_yaml(Path(path))\n    except ValueError:\n        pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    command = [sys.executable, "-c", script, *paths]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert grown < 200 << (10 if sys.platform != "darwin" else 20)
