"""The map in ARCHITECTURE.md holds: imports point down only, and what must not know torch does not."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "featcodec"


def floors() -> list[list[str]]:
    """The floors of the map, top first: lines `N. `module` `module` ...` under the heading "Floors"."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.split("## Floors", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"^\d+\. (.*)$", section, flags=re.MULTILINE)
    return [re.findall(r"`([a-z_./]+)`", line.split(" — ")[0]) for line in lines]


def room(path: Path) -> str:
    """The module or package below featcodec/ that a file belongs to."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Rooms that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "featcodec":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("featcodec.")}
    return found


def test_every_room_stands_on_the_map_once() -> None:
    mapped = [name for floor in floors() for name in floor]
    rooms = {room(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert sorted(mapped) == sorted(rooms)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_only(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return
    height = {name: -number for number, floor in enumerate(floors()) for name in floor}
    for imported in imports(path) - {room(path)}:
        assert height[imported] < height[room(path)], f"{path.name} imports {imported}, which is not below it"


def test_test_files_have_names_of_their_own() -> None:
    """pytest takes two of one name for one module, and only notices when it collects both."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", ["edge", "bitstream", "packing", "video", "detections", "images", "fingerprints"])
def test_what_an_edge_without_torch_needs_does_not_know_torch(name: str) -> None:
    folder = PACKAGE / name
    modules = [name, *(f"{name}.{path.stem}" for path in sorted(folder.glob("*.py")) if path.stem != "__init__")]
    code = f"import sys, importlib\nfor name in {modules}: importlib.import_module('featcodec.' + name)\n"
    code += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_are_encoded_without_torch() -> None:
    code = "import sys, featcodec.pipeline.encode, featcodec.pipeline.sharding\nsys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_importing_the_package_is_cheap_and_gives_the_api() -> None:
    code = "import sys, featcodec\nassert 'torch' not in sys.modules\nfrom featcodec import FeatureCodec, Detections"
    subprocess.run([sys.executable, "-c", code], check=True)
