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


def test_extras_are_installed_beside_what_is_there(clone: Path) -> None:
    assert install(clone)
    assert install(clone, "[serve,edge]").endswith(f"--editable {clone}[serve,edge]\n")
    assert not install(clone), "an extra includes what is always installed"
    assert not install(clone, "[serve,edge]")
    assert install(clone, "[dev]")
    assert not install(clone, "[serve,edge]")
    (clone / "constraints.txt").write_text("two")
    assert install(clone, "[serve,edge]")
    (clone / "constraints.txt").write_text("one")
    assert install(clone, "[dev]"), "the other versions replaced it"


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


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The only programs that there are: those that bin/common.sh needs, and a sudo that asks for no password."""
    folder = tmp_path / "system"
    folder.mkdir()
    for name in ("bash", "dirname", "env"):
        (folder / name).symlink_to(str(shutil.which(name)))
    executable(folder / "id", "#!/bin/sh\necho 1000\n")
    executable(folder / "sudo", '#!/bin/sh\nshift\n[ "$1" = true ] || exec "$@"\n')
    return folder


def apt_get(system: Path, script: str = "") -> Path:
    """An apt-get that writes down how it is called, and then does `script`."""
    record = system / "asked"
    executable(system / "apt-get", f'#!/bin/sh\necho "$DEBIAN_FRONTEND" "$@" >>"{record}"\n{script}\n')
    return record


def test_a_browser_is_installed_where_that_can_be_done(clone: Path, system: Path) -> None:
    record = apt_get(system)
    done = bash(clone, "install_browser", PATH=str(system), DEBIAN_FRONTEND="")
    assert (done.returncode, done.stderr) == (0, "")
    assert record.read_text().splitlines() == [
        " -qq update",
        "noninteractive -qq install -y --no-install-recommends chromium",
    ]
    executable(system / "id", "#!/bin/sh\necho 0\n")
    (system / "sudo").unlink()
    assert bash(clone, "install_browser", PATH=str(system)).returncode == 0
    assert len(record.read_text().splitlines()) == 4


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_a_browser_that_is_there_is_taken(clone: Path, system: Path, name: str) -> None:
    record = apt_get(system)
    browser = executable(system / name, "#!/bin/sh\n")
    done = bash(clone, "find_browser; install_browser", PATH=str(system))
    assert (done.returncode, done.stdout) == (0, f"{browser}\n")
    assert not record.exists()


def test_without_a_right_to_install_no_browser_is(clone: Path, system: Path) -> None:
    assert bash(clone, "install_browser", PATH=str(system)).stderr == ""  # no apt-get
    record = apt_get(system)
    executable(system / "sudo", "#!/bin/sh\necho a password is required >&2\nexit 1\n")
    done = bash(clone, "install_browser", PATH=str(system))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not record.exists()


def test_a_browser_that_cannot_be_installed_is_said_in_one_line(clone: Path, system: Path) -> None:
    record = apt_get(system, "echo no network; echo E: no network >&2; exit 100")
    done = bash(clone, "install_browser", PATH=str(system))
    assert done.returncode == 0
    assert done.stderr == "note: apt-get cannot install chromium; the tests of the page need one\n"
    assert len(record.read_text().splitlines()) == 2
