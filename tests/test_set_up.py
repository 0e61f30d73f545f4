"""bin/common.sh, which makes .venv and installs: on an interpreter that only writes down how it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMON = Path(__file__).resolve().parents[1] / "bin/common.sh"
PYTHON = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
RECORDER = f"""#!/bin/sh
case "$*" in
*"pip --version") exit 0 ;;
*"pip install"*) echo "$@" >>"$(dirname "$0")/installs" ;;
*) exec {sys.executable} "$@" ;;
esac
"""


def executable(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)
    return path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone in which bin/common.sh would install, with a .venv that records it."""
    folder = tmp_path / "a clone"
    (folder / "bin").mkdir(parents=True)
    shutil.copy(COMMON, folder / "bin")
    (folder / "pyproject.toml").write_text("one")
    (folder / "constraints.txt").write_text("one")
    executable(folder / ".venv/bin/python", RECORDER)
    return folder


def bash(clone: Path, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if name not in ("PYTHON", "FEATCODEC_NEWEST")}
    script = f'set -euo pipefail; . "{clone}/bin/common.sh"; {command}'
    return subprocess.run(
        ["bash", "-c", script], env={**environment, **variables}, capture_output=True, text=True, check=False
    )


def install(clone: Path, extra: str = "", **variables: str) -> str:
    """What pip was called with; '' when nothing was installed."""
    done = bash(clone, f"install_featcodec '{extra}'", **variables)
    assert done.returncode == 0, done.stderr
    record = clone / ".venv/bin/installs"
    installs = record.read_text() if record.exists() else ""
    record.unlink(missing_ok=True)
    assert installs.count("\n") <= 1
    return installs


def test_versions_are_those_of_the_constraints(clone: Path) -> None:
    installed = install(clone)
    assert f"--constraint {clone}/constraints.txt" in installed
    assert "--upgrade" not in installed
    assert installed.endswith(f"--editable {clone}\n")


def test_it_installs_once_a_change(clone: Path) -> None:
    assert install(clone)
    assert not install(clone)
    for name in ("pyproject.toml", "constraints.txt"):
        (clone / name).write_text("two")
        assert install(clone), name
        assert not install(clone), name
        (clone / name).write_text("one")
        assert install(clone), f"{name} as before: what is installed is not"


def test_the_tools_of_developers_include_the_rest(clone: Path) -> None:
    assert install(clone)
    assert install(clone, "[dev]").endswith(f"--editable {clone}[dev]\n")
    assert not install(clone)
    assert not install(clone, "[dev]")


def test_the_newest_of_everything_on_request(clone: Path) -> None:
    assert install(clone)
    installed = install(clone, FEATCODEC_NEWEST="1")
    assert "--constraint" not in installed
    assert "--upgrade --upgrade-strategy eager" in installed
    assert not install(clone, FEATCODEC_NEWEST="1")
    assert "--constraint" in install(clone, FEATCODEC_NEWEST="")


def test_a_failed_installation_is_tried_again(clone: Path) -> None:
    python = clone / ".venv/bin/python"
    python.write_text(RECORDER.replace("echo ", "exit 1; echo "))
    assert bash(clone, "install_featcodec ''").returncode == 1
    python.write_text(RECORDER)
    assert install(clone)


def test_python_is_the_one_asked_for(clone: Path, tmp_path: Path) -> None:
    asked = executable(tmp_path / "bin/my-python", PYTHON)
    assert bash(clone, "find_python", PYTHON=str(asked)).stdout == f"{asked}\n"
    assert bash(clone, "find_python", PYTHON="").stdout.strip()
    for wrong in ("no-such-python", "false"):
        refused = bash(clone, "find_python", PYTHON=wrong)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == f"PYTHON={wrong} is not Python 3.10 or newer with venv; set it to one, or unset it.\n"


@pytest.mark.slow
def test_a_venv_of_another_python_is_not_taken_for_the_one_asked_for(clone: Path, tmp_path: Path) -> None:
    same = executable(tmp_path / "bin/same", PYTHON)
    assert install(clone, PYTHON=str(same))
    other = executable(
        tmp_path / "bin/other", f'#!/bin/sh\ncase "$2" in *print*) echo 3.99 ;; *) exec {same} "$@" ;; esac\n'
    )
    refused = bash(clone, "install_featcodec ''", PYTHON=str(other))
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert f"remove {clone}/.venv, or unset PYTHON" in refused.stderr
    assert not (clone / ".venv/bin/installs").exists()
