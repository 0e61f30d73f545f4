"""What featcodec imports is declared, and constraints.txt names an exact version of all that is declared.

`bin/test` proves that those versions work; here is only what can go wrong without being seen there.
"""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = {
    "cluster": ("cluster",),
    "edge": ("edge", "frigate"),
    "export": ("export",),
    "service": ("serve", "serve-ray"),
}
"""What a room may import besides the dependencies that are always there."""
PYTHONS = ["3.10", "3.11", "3.13"]


def project() -> dict[str, Any]:
    """Table [project] of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(*extras: str) -> list[Requirement]:
    found = project()
    lists = [found["dependencies"], *(found["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(text) for entries in lists for text in entries]


def constraints(python: str) -> dict[str, str]:
    """Versions by name that constraints.txt gives on a version of Python."""
    found: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        entry = Requirement(line)
        if entry.marker and not entry.marker.evaluate({"python_version": python}):
            continue
        name = canonicalize_name(entry.name)
        assert name not in found, f"{name} stands in constraints.txt twice for Python {python}"
        (specifier,) = entry.specifier
        assert (specifier.operator, "*" in specifier.version) == ("==", False), line
        found[name] = specifier.version
    return found


@pytest.mark.slow
def test_what_is_imported_is_declared() -> None:
    """Else it is there only as long as something else needs it."""
    roots: dict[str, tuple[str, tuple[str, ...]]] = {}
    for path in (ROOT / "featcodec").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            extras = tuple(extra for room, found in EXTRAS.items() if room in path.parts for extra in found)
            roots |= {name.split(".")[0]: (path.name, extras) for name in names}
    ours = {*sys.stdlib_module_names, "featcodec"}
    providers = packages_distributions()
    for root, (file, extras) in sorted(roots.items()):
        if root not in ours:
            declared = {canonicalize_name(requirement.name) for requirement in requirements(*extras)}
            found = {canonicalize_name(name) for name in providers.get(root, [])}
            assert found & declared, f"{file} imports {root}, which no dependency in pyproject.toml provides"


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_name_a_version_of_every_dependency(python: str) -> None:
    versions = constraints(python)
    for requirement in requirements("dev"):
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in constraints.txt: run bin/update-constraints --keep"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} excludes {version}"


@pytest.mark.parametrize(
    "extra", ["audit", "cluster", "s3", "parquet", "export", "edge", "frigate", "serve", "serve-ray"]
)
def test_the_tests_have_what_an_extra_needs(extra: str) -> None:
    needed, dev = ({str(requirement) for requirement in requirements(name)} for name in (extra, "dev"))
    assert needed <= dev


def test_constraints_leave_cuda_to_torch() -> None:
    """A release of torch names its own; elsewhere there is none."""
    assert not [name for name in constraints(PYTHONS[-1]) if re.match(r"cuda-|nvidia-(?!ml-py)|triton$", name)]


def test_supported_pythons_are_those_of_the_classifiers() -> None:
    found = project()
    pattern = r"Programming Language :: Python :: (3\.\d+)"
    listed = [match[1] for text in found["classifiers"] if (match := re.fullmatch(pattern, text))]
    assert found["requires-python"] == f">={listed[0]}"
    workflow = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    tested = set(re.findall(r'"(3\.\d+)"', workflow))
    assert tested == {listed[0], listed[-1]}, "CI runs the oldest and the newest"
