"""The zip file that `torch.save` writes: one pickle, and one record of raw numbers per storage."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featcodec.detectors.pickles import MAX_PICKLE_BYTES
from featcodec.errors import WeightsError, reason_of
from featcodec.system.files import check_regular

MAX_CHECKPOINT_BYTES = 2 << 30
_MAX_DIRECTORY_BYTES = 2 << 20
_CHUNK = 1 << 20
_PICKLE = "/data.pkl"
_ZIP = b"PK\x03\x04"
_OLD_PICKLE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_TAR = (b"ustar", 257)
_AGAIN = "download it again"
_SOURCE = "use the checkpoint that it was exported from"
_OTHER_FILES = (
    ("a web page", b"<", 0, _AGAIN),
    ("a Git LFS pointer", b"version https://git-lfs", 0, "get the file with git lfs pull"),
    ("a safetensors file", b'{"', 8, "give it that ending"),
    ("an ONNX file", b"\x12\x07pytorch", 2, _SOURCE),
)
_EXPORTS = frozenset(
    {".engine", ".hef", ".mlmodel", ".mnn", ".onnx", ".param", ".pb", ".pte", ".rknn", ".tflite", ".xml"}
)
"""Endings of what ultralytics exports, in formats of other programs."""
_SAVE_AGAIN = "load it with PyTorch and save it again"


class _OtherFileError(zipfile.BadZipFile):
    """The file is intact, but another one is needed.

    Args:
        reason: what the file is.
        remedy: what to do instead of a new download.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


class Archive:
    """An open checkpoint whose records are known to be no larger than the file.

    Attributes:
        pickled: the pickle.
        size: bytes of the file.
        big_endian: True if the numbers were stored by a big-endian machine.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        entries = archive.infolist()
        self._archive = archive
        self._entries = {entry.filename: entry for entry in entries}
        if any(name.endswith("/constants.pkl") for name in self._entries):
            raise _OtherFileError("it is a TorchScript program", _SOURCE)
        _check_entries(entries, size)
        if len(self._entries) != len(entries):
            raise zipfile.BadZipFile("two records have one name")
        pickles = [name for name in self._entries if name.endswith(_PICKLE) and name.count("/") == 1]
        if len(pickles) != 1:
            raise zipfile.BadZipFile(f"{len(pickles)} records data.pkl, not one")
        self._root = pickles[0].removesuffix(_PICKLE)
        pickled = self._entries[self._root + _PICKLE]
        if pickled.file_size > MAX_PICKLE_BYTES:
            raise zipfile.BadZipFile(f"a pickle of over {MAX_PICKLE_BYTES >> 20} MiB")
        self.pickled = bytes(self._read(pickled))
        self.size = size
        order = self._entries.get(f"{self._root}/byteorder")
        self.big_endian = order is not None and order.file_size < 99 and self._read(order) == b"big"

    def storage(self, key: str) -> bytearray:
        """The raw numbers of a storage.

        Raises:
            KeyError: there is no such storage.
            zipfile.BadZipFile: its checksum is wrong.
        """
        return self._read(self._entries[f"{self._root}/data/{key}"])

    def _read(self, entry: zipfile.ZipInfo) -> bytearray:
        data = bytearray(entry.file_size)
        view, at = memoryview(data), 0
        with self._archive.open(entry) as record:
            while chunk := record.read(min(_CHUNK, len(data) - at)):
                view[at : at + len(chunk)] = chunk
                at += len(chunk)
        if at < len(data):
            raise zipfile.BadZipFile("a record is cut off")
        return data


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a `.pt` file.

    Raises:
        WeightsError: the file is missing, too large or damaged, or is not in PyTorch's zip format. In the block, all
            errors of zipfile become WeightsErrors.
    """
    check_regular(path, MAX_CHECKPOINT_BYTES, WeightsError, what="detector", remedy="use another file")
    try:
        with _SmallReads(io.FileIO(path)) as file:
            size = os.fstat(file.fileno()).st_size
            _check_format(path, file)
            with zipfile.ZipFile(file) as archive:
                yield Archive(archive, size)
    except (OSError, EOFError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile) as error:
        remedy = error.remedy if isinstance(error, _OtherFileError) else _AGAIN
        raise WeightsError(f"{path}: not a PyTorch checkpoint ({reason_of(error)}); {remedy}") from None


class _SmallReads(io.BufferedReader):
    """zipfile reads a zip file's list of records at once. A list can claim any size, so long reads are refused."""

    def read(self, size: int | None = -1, /) -> bytes:
        bounded = size is not None and 0 <= size <= _MAX_DIRECTORY_BYTES
        data = super().read(size if bounded else _MAX_DIRECTORY_BYTES + 1)
        if len(data) > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its list of records is too long")
        return data


def _check_format(path: Path, file: io.BufferedReader) -> None:
    start = file.read(_TAR[1] + 5)
    if start.startswith(_OLD_PICKLE) or start[_TAR[1] :] == _TAR[0]:
        raise WeightsError(
            f"{path}: not a PyTorch checkpoint of today's format, but of PyTorch before 1.6; {_SAVE_AGAIN}"
        )
    for other, beginning, at, remedy in _OTHER_FILES:
        if start[at:].startswith(beginning):
            raise _OtherFileError(f"it is {other}", remedy)
    if not start.startswith(_ZIP):
        if path.suffix.lower() in _EXPORTS:
            raise _OtherFileError(f"its ending is {path.suffix.lower()}", _SOURCE)
        raise zipfile.BadZipFile("it does not start like one")
    file.seek(0)


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    if any(entry.flag_bits & 1 for entry in entries):
        raise zipfile.BadZipFile("it is encrypted")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise _OtherFileError("it is compressed, which PyTorch never does", _SAVE_AGAIN)
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.file_size != entry.compress_size for entry in entries):
        raise zipfile.BadZipFile(f"it unpacks to {unpacked >> 20} MiB, but has only {size >> 20} MiB")
