"""Only one process at a time, also where the file system has no locks."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from refused_calls import run_refusing

from featcodec.errors import OutputError
from featcodec.system.locks import locked
from featcodec.system.owners import owner

NO_LOCKS = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL]
NAMES = [errno.errorcode[number] for number in NO_LOCKS]

HOLD = """
import sys
from pathlib import Path
from featcodec.system.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""

TRY = """
import sys
from pathlib import Path
from featcodec.errors import OutputError
from featcodec.system.locks import locked
try:
    with locked(Path(sys.argv[1]), wait=False):
        print("taken")
except OutputError as error:
    print(error)
"""

COUNT = """
import sys
from pathlib import Path
from featcodec.system.locks import locked
path = Path(sys.argv[1])
for _ in range(50):
    with locked(path):
        path.write_text(str(int(path.read_text()) + 1))
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    path.touch() if kind == "file" else path.mkdir()
    process = holder(path)
    with pytest.raises(OutputError, match="is in use by another run"), locked(path, wait=False):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with locked(path, wait=False):
        pass
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", NO_LOCKS, ids=NAMES)
def test_without_locks_of_the_system_a_file_is_the_lock(tmp_path: Path, error: int) -> None:
    path = tmp_path / "points.csv"
    path.touch()
    assert run_refusing({"flock": error}, TRY, path) == "taken\n"
    lock = tmp_path / ".points.csv.lock"
    lock.write_text(f"{owner()} x")
    said = run_refusing({"flock": error}, TRY, path)
    assert f"{path}: is in use by another run, as {lock} says; if no other run is alive, remove that file\n" == said
    machine, number, start = owner().split("-")
    lock.write_text(f"{machine}-{number}-{int(start) - 1} x")
    assert run_refusing({"flock": error}, TRY, path) == "taken\n", "its owner is dead"
    assert list(tmp_path.iterdir()) == [path]


def test_a_dead_lock_file_that_cannot_be_removed_is_an_error(tmp_path: Path) -> None:
    """As in /tmp, where only the owner of a file may rename or remove it."""
    path, lock = tmp_path / "points.csv", tmp_path / ".points.csv.lock"
    path.touch()
    machine, number, start = owner().split("-")
    lock.write_text(f"{machine}-{number}-{int(start) - 1} x")
    said = run_refusing({"flock": errno.ENOLCK, "rename": errno.EPERM}, TRY, path)
    assert said.endswith(f"as {lock} says; if no other run is alive, remove that file\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "refused",
    [{}, {"flock": errno.ENOLCK}, {"flock": errno.ENOSYS, "renameat2": errno.EINVAL}],
    ids=["flock", "lock file", "lock file, no renameat2"],
)
def test_many_processes_count_to_the_right_number(tmp_path: Path, refused: dict[str, int]) -> None:
    path = tmp_path / "count"
    path.write_text("0")
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
    start += f"from refused_calls import refuse; refuse({refused!r})\n"
    processes = [subprocess.Popen([sys.executable, "-c", start + COUNT, str(path)]) for _ in range(4)]
    codes = [process.wait(120) for process in processes]
    if 77 in codes:
        pytest.skip("this system does not let a process refuse its own system calls")
    assert codes == [0] * 4
    assert path.read_text() == "200"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"), locked(tmp_path / "absent"):
        pass
