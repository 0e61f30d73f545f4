"""Downloads weights. A file that is not what it should be is never kept, and no other file is ever touched."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from featcodec.errors import WeightsError, in_one_line, reason_of
from featcodec.system.leftovers import beside
from featcodec.system.renaming import move_new

MAX_BYTES = 1 << 30
"""No detector that featcodec knows has half of that."""
_SILENCE_SECONDS = 30
_CHUNK = 1 << 16
_LONGEST_SECONDS = 3600.0


def download(url: str, path: Path, sha256: str | None, check: Callable[[Path], object]) -> None:
    """Download a file. If another process has put a file there meanwhile, that file stays.

    Args:
        url: the address, http or https; redirections are followed.
        path: the file.
        sha256: the SHA-256 that the file must have, or None if it is not known.
        check: reads a file whose SHA-256 is not known, and raises WeightsError if it is not usable.

    Raises:
        WeightsError: the server does not answer, is too slow, or sends something else; the message is only a reason.
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = beside(path)
    try:
        with part.open("xb") as file:
            sink = _Sink(file)
            _receive(url, sink)
        if sha256 is None:
            _check(part, check)
        elif sink.digest.hexdigest() != sha256:
            raise WeightsError(f"got {sink.size} bytes with another sha256")
        try:
            move_new(part, path)
        except FileExistsError:
            return
    finally:
        part.unlink(missing_ok=True)


def _check(part: Path, check: Callable[[Path], object]) -> None:
    if not zipfile.is_zipfile(part):
        raise WeightsError(f"got {part.stat().st_size} bytes that are not a whole checkpoint; perhaps it is a web page")
    try:
        check(part)
    except WeightsError as error:
        raise WeightsError(str(error).replace(in_one_line(str(part)), "the download")) from None


class _Sink:
    """Takes what a server sends, up to a size, until it is closed."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self.is_closed = False
        self._file = file

    def write(self, data: bytes) -> int:
        self.size += len(data)
        if self.is_closed or self.size > MAX_BYTES:
            raise WeightsError(f"got more than {MAX_BYTES >> 20} MiB")
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """The downloader calls this after each piece; there is no need to write each at once."""


def _receive(url: str, sink: _Sink) -> None:
    """Receive in a thread, because only so the whole time has a limit, whatever the server does."""
    import pooch  # noqa: PLC0415  (rarely needed, and it loads an HTTP library)

    failures: list[Exception] = []
    responses: list[Any] = []

    def keep(response: Any, **_: Any) -> None:
        responses.append(response)

    def receive() -> None:
        options = {"timeout": _SILENCE_SECONDS, "hooks": {"response": keep}}
        try:
            pooch.HTTPDownloader(progressbar=False, chunk_size=_CHUNK, **options)(url, sink, None)
        except Exception as error:  # requests, urllib3 and the operating system raise different exceptions
            failures.append(error)
        for response in responses:  # the downloader does not close them
            response.close()

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    thread.join(_LONGEST_SECONDS)
    if thread.is_alive():
        sink.is_closed = True
        raise WeightsError(f"not complete after {_LONGEST_SECONDS:.0f} s")
    for error in failures:
        if isinstance(error, WeightsError):
            raise error
        raise WeightsError(f"{type(error).__name__}: {reason_of(error)}") from None
