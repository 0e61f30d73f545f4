"""Running programs: whose they are, messages with cause and remedy, and the temporary folder."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from pathlib import Path

import pytest

from featcodec.errors import EncoderError
from featcodec.video.process import ProgramError, kill_owned_by, owned_by, run, temporary_folder


def script(path: Path, body: str) -> str:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.005)


class Waiting(threading.Thread):
    """Runs, for an owner, a program that says when it has started and ends when it is told to."""

    def __init__(self, folder: Path, name: str, *owners: object) -> None:
        super().__init__(daemon=True)
        self.started, self.go = folder / f"{name}.started", folder / f"{name}.go"
        self.owners = owners
        self.outcome: bytes | Exception | None = None
        body = f"touch {self.started}; for _ in $(seq 2000); do [ -e {self.go} ] && exec echo done; sleep 0.01; done"
        self.program = script(folder / name, body)
        self.start()
        wait_for(self.started)

    def run(self) -> None:
        try:
            if self.owners:
                with owned_by(self.owners[0]):
                    self.outcome = run([self.program])
            else:
                self.outcome = run([self.program])
        except EncoderError as error:
            self.outcome = error

    def end(self) -> bytes | Exception | None:
        self.go.touch()
        self.join(20)
        return self.outcome


def test_only_the_programs_of_one_owner_are_killed(tmp_path: Path) -> None:
    mine, theirs = ["owner"], ["owner"]  # equal, but not the same
    killed = [Waiting(tmp_path, f"killed{number}", mine) for number in range(2)]
    spared, unowned = Waiting(tmp_path, "spared", theirs), Waiting(tmp_path, "unowned")
    kill_owned_by(mine)
    for thread in killed:
        thread.join(20)
        assert "killed by SIGKILL" in str(thread.outcome)
    assert spared.outcome is None
    assert spared.end() == b"done\n"
    assert unowned.end() == b"done\n"
    kill_owned_by(theirs)  # what has ended is no longer anyone's


def test_ownership_ends_with_its_block_and_is_the_threads_own(tmp_path: Path) -> None:
    outer, inner = object(), object()
    with owned_by(outer):
        with pytest.raises(KeyError), owned_by(inner):
            raise KeyError
        elsewhere = Waiting(tmp_path, "elsewhere")
        kill_owned_by(outer)
        killer = threading.Thread(target=lambda: (wait_for(tmp_path / "mine.started"), kill_owned_by(outer)))
        killer.start()
        with pytest.raises(ProgramError, match="SIGKILL"):
            run([script(tmp_path / "mine", f"touch {tmp_path}/mine.started; exec sleep 20")])
        killer.join()
    assert elsewhere.end() == b"done\n"


def test_stdin_goes_in_and_stdout_comes_out_whole() -> None:
    data = bytes(range(256)) * 4096  # more than a pipe holds
    assert run(["cat"], data) == data


def failure(tmp_path: Path, body: str, **options: object) -> ProgramError:
    with pytest.raises(ProgramError) as caught:
        run([script(tmp_path / "encoder", body), "--an option"], **options)  # type: ignore[arg-type]
    return caught.value


def test_a_failure_quotes_the_first_lines_without_ffmpegs_prefixes(tmp_path: Path) -> None:
    error = failure(
        tmp_path,
        """cat >&2 <<'END'

[libvvenc @ 0x55d0c0ffee00] no such option
[vost#0:0 @ 0x1f] [enc:libvvenc @ 0xab]   [warning] could not open
Conversion failed!
END
exit 234""",
    )
    command = f"{tmp_path}/encoder '--an option'"
    assert str(error) == (
        "the program failed [it ended with code 234 and said: no such option | [warning] could not open; "
        f"it was: {command}]"
    )
    assert "Conversion failed!" in error.output
    assert "[libvvenc @ 0x55d0c0ffee00]" in error.output


def test_stdout_counts_as_what_a_program_said(tmp_path: Path) -> None:
    assert "said: to stdout | to stderr;" in str(failure(tmp_path, "echo to stderr >&2; echo to stdout; exit 1"))


def test_a_silent_failure_says_so(tmp_path: Path) -> None:
    assert "ended with code 7 and said: nothing;" in str(failure(tmp_path, "exit 7"))


def test_output_that_is_no_utf_8_is_quoted_all_the_same(tmp_path: Path) -> None:
    assert "said: caf\N{REPLACEMENT CHARACTER};" in str(failure(tmp_path, r"printf 'caf\351\n' >&2; exit 1"))


def test_the_first_hint_that_fits_is_the_remedy(tmp_path: Path) -> None:
    hints = [("no such thing", "never"), ("line 5", "do this"), ("line 1", "do that")]
    message = str(failure(tmp_path, "for n in 1 2 3 4 5; do echo line $n >&2; done; exit 1", hints=hints))
    assert message.startswith("do this [it ended with code 1 and said: line 1 | line 2;")


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
def test_a_signal_is_named(tmp_path: Path, name: str) -> None:
    assert str(failure(tmp_path, f"kill -{name} $$")).startswith(f"it was killed by SIG{name} (out of memory?);")


def test_a_hint_says_more_than_a_signal(tmp_path: Path) -> None:
    message = str(failure(tmp_path, "echo disk full >&2; kill -KILL $$", hints=[("disk full", "free the disk")]))
    assert message.startswith("free the disk [it ended with code -9")


def test_a_signal_without_a_name_is_no_crash(tmp_path: Path) -> None:
    assert str(failure(tmp_path, "kill -40 $$")).startswith("the program failed [it ended with code -40")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "Permission denied"),
        (lambda path: path.write_text("#!/bin/sh\n"), "Permission denied"),
        (lambda path: (path.write_bytes(b"\x7fELF nonsense"), path.chmod(0o755)), "Exec format error"),
    ],
    ids=["missing", "folder", "not executable", "no program"],
)
def test_a_program_that_cannot_be_started(tmp_path: Path, make: object, reason: str) -> None:
    path = tmp_path / "encoder"
    make(path)  # type: ignore[operator]
    with pytest.raises(EncoderError) as caught:
        run([str(path), "-x"])
    assert str(caught.value) == f"{path} cannot be started ({reason}); run `featcodec doctor`"


def test_an_interruption_leaves_no_program_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(process: subprocess.Popen[bytes], *_: object, **__: object) -> None:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(["sleep", "60"])
    assert [process.returncode for process in started] == [-9]
    for pipe in (started[0].stdin, started[0].stdout, started[0].stderr):
        assert pipe is not None
        pipe.close()


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featcodec.video.process.LIMIT_SECONDS", 0.2)
    before = time.monotonic()
    error = failure(tmp_path, "exec sleep 60")
    assert time.monotonic() - before < 10
    assert str(error).startswith("the program hangs; encode again with fewer images at once")
    assert f"it ran for over 0.2 seconds: {tmp_path}/encoder '--an option'" in str(error)


def test_the_temporary_folder_goes_with_everything_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
        (folder / "pictures.266").write_bytes(b"x")
    with contextlib.suppress(KeyError), temporary_folder() as folder:
        (folder / "pictures.266").write_bytes(b"x")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_no_place_for_a_temporary_folder_is_an_encoder_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    message = r"no room for temporary files \(.*missing.*\); free disk space, or set TMPDIR"
    with pytest.raises(EncoderError, match=message), temporary_folder():
        pass


def test_trouble_with_a_file_in_the_temporary_folder_is_an_encoder_error() -> None:
    with pytest.raises(EncoderError, match=r"No space left on device.*TMPDIR"), temporary_folder():
        Path("/dev/full").write_bytes(b"x")


def test_a_failing_program_keeps_its_own_message_in_a_temporary_folder(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="said: out of luck"), temporary_folder():
        run([script(tmp_path / "encoder", "echo out of luck; exit 1")])
