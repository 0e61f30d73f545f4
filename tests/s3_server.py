"""A real S3 server on this machine (moto's), for tests of addresses."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def settings(port: int) -> dict[str, str]:
    """The variables that lead the libraries of AWS to the server."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "user",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(port: int, **variables: str) -> Iterator[None]:
    """The server, in a process of its own with these variables."""
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, **variables}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


class Bucket:
    """A new bucket. `address` is its address."""

    def __init__(self, name: str) -> None:
        import fsspec

        self.name, self.address = name, f"s3://{name}"
        self._store: Any = fsspec.filesystem("s3", use_listings_cache=False)
        self._store.mkdir(name)

    def fill(self, folder: Path, prefix: str) -> None:
        """Copy the files below a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def put(self, key: str, data: bytes) -> None:
        self._store.pipe_file(f"{self.name}/{key}", data)

    def get(self, key: str) -> bytes:
        data: bytes = self._store.cat_file(f"{self.name}/{key}")
        return data

    def files(self, prefix: str) -> dict[Path, bytes]:
        """The content of all objects below a prefix, by their path below it."""
        found = self._store.find(f"{self.name}/{prefix}")
        start = len(f"{self.name}/{prefix}/")
        return {Path(place[start:]): self._store.cat_file(place) for place in found}
