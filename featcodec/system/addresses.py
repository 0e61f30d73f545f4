"""Addresses of objects (s3://BUCKET/KEY), by fsspec. An object is written in one request, so it appears whole or not.

Who may read and write there is known to the libraries behind fsspec (for S3: $AWS_PROFILE and the other variables and
files of AWS). Addresses hold no passwords.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from featcodec.errors import InputError, reason_of
from featcodec.system.elsewhere import Elsewhere, State, UnreachableError, state_of

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_FILE = "file"
_EXTRAS = {"s3": "s3", "gs": "gs", "memory": ""}
"""Kinds of stores where a write appears whole or not at all, and the extra of featcodec that each needs."""
_TRIES = {"mode": "standard", "total_max_attempts": 3}
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 10, "retries": _TRIES}},
}
"""Where nobody answers, the libraries would wait for many minutes."""
_REMEDIES = {"s3": "check the address, the network, and the variables and files of AWS (AWS_PROFILE, AWS_ENDPOINT_URL)"}
_MAGIC = re.compile(r"[*?\[]")


class Address(Elsewhere):
    """The address of an object, or of all objects whose names begin with it and a slash."""

    __slots__ = ("_known",)
    _known: State

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def __reduce__(self) -> Any:
        return _again, (str(self), getattr(self, "_known", None))

    @property
    def kind(self) -> str:
        """The kind of the store: s3, gs or memory."""
        return self.parts[0].rstrip(":")

    @property
    def bucket(self) -> str:
        """The first part of the object's place."""
        return self.parts[1]

    @property
    def is_bucket(self) -> bool:
        """Whether it names a whole bucket."""
        return len(self.parts) < 3

    @property
    def place(self) -> str:
        """Where the object is, as fsspec names it: BUCKET/KEY."""
        return "/".join(self.parts[1:])

    def state(self) -> State | None:
        if hasattr(self, "_known"):
            return self._known
        with _reaching(self) as store:
            found = store.info(self.place)
        return None if found["type"] == "directory" else _state(found)

    def read_range(self, start: int, end: int) -> bytes:
        try:
            with _reaching(self) as store:
                data: bytes = store.cat_file(self.place, start=start, end=end)
                return data
        except UnreachableError as error:
            # Of an empty object, a store gives no part.
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EINVAL and self._is_empty():
                return b""
            raise

    def write(self, data: bytes, *, overwrite: bool) -> None:
        """Write the whole object in one request.

        Raises:
            FileExistsError: there is an object of that name, and `overwrite` is False.
            FileNotFoundError: there is no such bucket.
            UnreachableError: it cannot be written.
        """
        with _reaching(self) as store:
            store.pipe_file(self.place, data, mode="overwrite" if overwrite else "create")

    def upload(self, file: Path, *, overwrite: bool) -> None:
        """Write a local file, in several requests if it is large; the object appears at the end. See `write`."""
        with _reaching(self) as store:
            store.put_file(str(file), self.place, mode="overwrite" if overwrite else "create")

    def remove(self) -> None:
        """Remove the object, if there is one."""
        with contextlib.suppress(FileNotFoundError), _reaching(self) as store:
            store.rm_file(self.place)

    def check_bucket(self) -> None:
        """Find out early whether there is such a bucket.

        Raises:
            FileNotFoundError: there is none.
            UnreachableError: nobody answers, or there are no credentials.
        """
        if self.kind != "memory":
            with _reaching(self) as store:
                store.info(self.bucket)

    def _is_empty(self) -> bool:
        found = self.state()
        return found is not None and found.size == 0


def is_address(text: str) -> bool:
    """Whether a text has the form of an address."""
    return _ADDRESS.match(text) is not None


def path_of(place: str | Path) -> Path:
    """The path of a file or an object. file:///FOLDER/FILE is a local path.

    Raises:
        InputError: an address of a kind that is not known, or one that is not complete.
    """
    match = _ADDRESS.fullmatch(place) if isinstance(place, str) else None
    if match is None:
        return Path(place) if isinstance(place, str) else place
    kind, rest = match[1].lower(), match[2]
    if kind == _FILE:
        if not rest.startswith("/"):
            raise InputError(f"{place}: is not a whole path; write file:///FOLDER/FILE")
        return Path(rest)
    if kind not in _EXTRAS:
        raise InputError(f"{match[1]}://: no such kind of address is known; give s3://, gs://, file:// or a path")
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise InputError(f"{kind}://: there is no name of a bucket behind it; write {kind}://BUCKET/KEY")
    address = Address(f"{kind}://{bucket}/{key}")
    if address.place != f"{bucket}/{key}".rstrip("/") or ".." in address.parts or "\0" in key:
        raise InputError(f"{place}: has an empty part, . or .. in it; rename the object, or give another address")
    return address


def find_objects(text: str, suffixes: frozenset[str]) -> list[tuple[Address, Path]]:
    """The objects that an address names: one object, all whose names begin with it and a slash, or those of a pattern.

    Args:
        text: the address. In a pattern, * stands for any part of a name without a slash, and ** for any part.
        suffixes: lower-case endings of the names that count. An object that is named directly may have any ending.

    Returns:
        each object, with its path below the address; sorted.

    Raises:
        InputError: the store or the bucket cannot be reached, or an object has a name that no path can have.
    """
    try:
        path = path_of(text)
        magic = _MAGIC.search(text)
        if magic is None or path.is_file():
            return _found(path, suffixes)
        base = path_of(text[: magic.start()].rpartition("/")[0] + "/")
        assert isinstance(base, Address)  # noqa: S101
        with _reaching(base) as store:
            matches = store.glob(text.partition("://")[2].rstrip("/"), detail=True)
        found: list[tuple[Address, Path]] = []
        for place, entry in sorted(matches.items()):
            address = _address(base, place, entry)
            if entry["type"] == "directory" and not _is_hidden(base, address):
                found += _found(address, suffixes)
            elif entry["type"] == "file" and _counts(base, address, suffixes):
                found.append((address, Path(address.name)))
        return found
    except FileNotFoundError:
        raise InputError(f"{text}: there is no such bucket; check the address") from None
    except UnreachableError as error:
        raise InputError(str(error)) from None


def objects_below(folder: Address) -> Iterator[Address]:
    """All objects below an address, by one listing. There may be none.

    Raises:
        FileNotFoundError: there is no such bucket.
        UnreachableError: the store cannot be reached.
        InputError: an object has a name that no path can have.
    """
    with _reaching(folder) as store:
        entries: Mapping[str, Any] = store.find(folder.place, detail=True)
    for place, entry in entries.items():
        # An empty object whose name ends with a slash stands for a folder.
        if entry["type"] == "file" and not place.endswith("/"):
            yield _address(folder, place, entry)


def states_below(folder: Path) -> Callable[[Path], State | None]:
    """A function that returns the state of a file below a folder, or None if there is none.

    Of objects, it says what was there at the time of this call: one listing takes less time than a request per object.

    Raises:
        UnreachableError: the store cannot be reached.
    """
    if not isinstance(folder, Address):
        return state_of
    states: dict[str, State] = {}
    with contextlib.suppress(FileNotFoundError), _reaching(folder) as store:
        found = store.find(folder.place, detail=True)
        states.update((place.lstrip("/"), _state(entry)) for place, entry in found.items())
    start = len(str(folder)) - len(folder.place)
    return lambda path: states.get(str(path)[start:])


def presence_below(folder: Path) -> Callable[[Path], bool]:
    """A function that says whether there is a file below a folder; see `states_below`."""
    if not isinstance(folder, Address):
        return Path.exists
    states = states_below(folder)
    return lambda path: states(path) is not None


def _found(path: Path, suffixes: frozenset[str]) -> list[tuple[Address, Path]]:
    """An object itself; else those below the address whose endings count. Hidden ones are left out."""
    assert isinstance(path, Address)  # noqa: S101
    if not path.is_bucket:
        with contextlib.suppress(FileNotFoundError):
            found = path.state()
            if found is not None:
                path._known = found
                return [(path, Path(path.name))]
    below = sorted(address for address in objects_below(path) if _counts(path, address, suffixes))
    return [(address, Path(*address.parts[len(path.parts) :])) for address in below]


def _counts(base: Address, address: Address, suffixes: frozenset[str]) -> bool:
    return address.suffix.lower() in suffixes and not _is_hidden(base, address)


def _is_hidden(base: Address, address: Address) -> bool:
    return any(part.startswith(".") for part in address.parts[len(base.parts) :])


def _address(base: Address, place: str, entry: Mapping[str, Any]) -> Address:
    address = path_of(f"{base.kind}://{place.lstrip('/')}")
    assert isinstance(address, Address)  # noqa: S101
    if entry["type"] == "file":
        address._known = _state(entry)
    return address


def _again(text: str, known: State | None) -> Address:
    address = Address(text)
    if known is not None:
        address._known = known
    return address


def _state(entry: Mapping[str, Any]) -> State:
    """The state of an object as a store describes it. Each kind of store has another name for the time."""
    times: Iterable[Any] = (entry.get(name) for name in ("LastModified", "mtime", "updated", "created"))
    time = next((value for value in times if value is not None), 0)
    if isinstance(time, str):
        time = datetime.fromisoformat(time.replace("Z", "+00:00"))
    if isinstance(time, datetime):
        time = time.timestamp()
    return State(int(entry["size"]), int(time * 1000) * 10**6)


@contextlib.contextmanager
def _reaching(address: Address) -> Iterator[Any]:
    """The store of an address, for a block. Its errors become one line, except that there is or is not an object."""
    import fsspec  # noqa: PLC0415  (paths on this machine need none of it)

    kind = address.kind
    try:
        store = fsspec.filesystem(kind, use_listings_cache=False, **_OPTIONS.get(kind, {}))
        store.retries = 2  # of s3fs, each with the tries above
        yield store
    except (FileNotFoundError, FileExistsError, UnreachableError):
        raise
    except ImportError as error:
        needed = f"{kind}:// needs a library ({reason_of(error)})"
        raise UnreachableError(f"{address}: {needed}; pip install 'featcodec[{_EXTRAS[kind]}]'") from None
    except PermissionError as error:
        remedy = "check the credentials, and what they may do with the bucket"
        raise UnreachableError(f"{address}: access denied ({_reason(error)}); {remedy}") from error
    except Exception as error:  # each store has a library with errors of its own
        remedy = _REMEDIES.get(kind, "check the address, the network and the credentials")
        raise UnreachableError(f"{address}: cannot be reached ({_reason(error)}); {remedy}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return reason_of(error)
