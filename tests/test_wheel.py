"""The wheel, as a release would have it: what is in it, and `featcodec demo` from an environment without a checkout.

The environment is new; featcodec comes from the wheel alone. What featcodec depends on is not installed again, which
takes minutes and gigabytes: the folders where the running Python finds it are put behind the new environment's own. So
this does not prove that a registry has the dependencies, that they can be installed together, or that those that are
declared suffice (test_dependencies.py has a part of that). An empty .venv does: CI starts with one.
"""

from __future__ import annotations

import configparser
import json
import os
import shutil
import site
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from test_dependencies import ROOT, project, requirements

pytestmark = pytest.mark.slow


def run(*command: object, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command that inherits nothing but what programs cannot do without, and sees no checkout."""
    environment = {"PATH": os.defpath, "HOME": str(folder), "OMP_NUM_THREADS": "1", **variables}
    arguments = [str(part) for part in command]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the checkout, as setuptools leaves things behind, and packs what an older build left."""
    folder = tmp_path_factory.mktemp("wheel")
    ours = ["featcodec", "tests", "bin", "benchmarks", "examples", "docs", "pyproject.toml", "README.md", "LICENSE"]
    for name in ours:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder]
    built = run(*command, folder / "source", folder=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def dist_info(wheel: Path, name: str) -> bytes:
    archive = zipfile.ZipFile(wheel)
    (found,) = (path for path in archive.namelist() if path.endswith(f".dist-info/{name}"))
    return archive.read(found)


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    return message_from_bytes(dist_info(wheel, "METADATA"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("environment")
    made = run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    assert made.returncode == 0, made.stdout + made.stderr
    programs = folder / "venv/bin"
    done = run(programs / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    # Only now: pip would take an editable featcodec in those folders for installed. Python reads the .pth files of an
    # environment's own folder alone, so that what makes a checkout importable has no effect here.
    (own,) = (folder / "venv").glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text("".join(f"{path}\n" for path in site.getsitepackages()))
    return programs


def test_everything_of_the_package_is_in_it_and_nothing_else(names: list[str]) -> None:
    files = (path.relative_to(ROOT) for path in (ROOT / "featcodec").rglob("*") if path.is_file())
    ours = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == ours
    assert "featcodec/py.typed" in packed
    assert sum(name.startswith("featcodec/networks/shipped/") for name in packed) > 10
    assert sum(name.endswith(".jinja") for name in packed) == 2
    page = {Path(name).suffix for name in packed if name.startswith("featcodec/service/page/")}
    assert page == {".html", ".css", ".js", ".svg"}


def test_its_metadata_are_those_of_the_project(wheel: Path, metadata: Message) -> None:
    found = project()
    assert metadata["Name"] == "featcodec"
    assert metadata["Version"] == wheel.name.split("-")[1]
    assert metadata["License-Expression"] == "AGPL-3.0-or-later"
    assert metadata["Requires-Python"] == found["requires-python"]
    assert metadata.get_all("Classifier") == found["classifiers"]
    assert not [text for text in metadata.get_all("Classifier", []) if text.startswith("License")]
    required = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    assert sorted(str(entry) for entry in required if not entry.marker) == sorted(map(str, requirements()))
    optional = {name: [Requirement(text) for text in texts] for name, texts in found["optional-dependencies"].items()}
    for extra, entries in optional.items():
        asked = {entry.name for entry in required if f'extra == "{extra}"' in str(entry.marker)}
        assert asked == {entry.name for entry in entries}
    assert all("extra == " in str(entry.marker) for entry in required if entry.marker)
    assert b"GNU AFFERO GENERAL PUBLIC LICENSE" in dist_info(wheel, "licenses/LICENSE")
    programs = configparser.ConfigParser()
    programs.read_string(dist_info(wheel, "entry_points.txt").decode())
    assert dict(programs["console_scripts"]) == {"featcodec": "featcodec.cli.main:main"}


def test_what_it_asks_for_is_what_the_tests_run_with(metadata: Message) -> None:
    for text in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(text)
        if not requirement.marker:
            assert requirement.specifier.contains(version(requirement.name), prereleases=True), requirement


@pytest.fixture(scope="module")
def shown(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The empty folder in which the demo ran, with an empty home."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "home").mkdir()
    command = [installed / "featcodec", "demo", "-n", 2, "--qp", 38, "-o", "out", "--json"]
    done = run(*command, folder=folder, HOME=str(folder / "home"))
    assert done.returncode == 0, done.stderr
    (folder / "report.json").write_text(done.stdout)
    return folder


def test_the_demo_runs_from_it(shown: Path) -> None:
    report: Any = json.loads((shown / "report.json").read_text())
    assert report["images"] == 2
    png, *coded = (row["bpp"] for row in report["rows"])
    assert len(coded) == 3
    assert png > max(coded) >= min(coded) > 0
    assert sorted(path.name for path in shown.iterdir()) == ["home", "out", "report.json"]
    assert (shown / report["picture"]).is_file()


def test_a_report_of_the_demo_finds_its_templates(installed: Path, shown: Path) -> None:
    command = [installed / "featcodec", "report", "out/points.csv", "-o", "report.html", "--markdown", "report.md"]
    done = run(*command, folder=shown, HOME=str(shown / "home"))
    assert done.returncode == 0, done.stderr
    assert (shown / "report.html").read_text(encoding="utf-8").startswith("<!")


def test_it_is_the_wheel_that_ran(installed: Path, shown: Path) -> None:
    """What the program imports are the environment's modules, and its metadata have their version."""
    program = (
        "import json, sys, importlib.metadata as m; import featcodec.cli.main, featcodec.bitstream, featcodec.video; "
        "print(json.dumps([str(m.distribution('featcodec').locate_file('')), m.version('featcodec'), "
        "featcodec.__version__, [v.__file__ for n, v in sys.modules.items() if n.split('.')[0] == 'featcodec']]))"
    )
    done = run(installed / "python", "-c", program, folder=shown, HOME=str(shown / "home"))
    assert done.returncode == 0, done.stderr
    home, listed, own, files = json.loads(done.stdout)
    assert Path(home).is_relative_to(installed.parent)
    assert listed == own
    assert len(files) > 10
    assert all(Path(file).is_relative_to(home) for file in files)
