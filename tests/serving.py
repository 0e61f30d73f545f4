"""The command `featcodec serve` in a process of its own, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

PATIENCE = 120
SMALL = ("--detector", "scenes", "--image-size", "160", "--port", "0", "--workers", "1", "--device", "cpu")


@contextmanager
def serving(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and its address; the process is ended with the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "featcodec", "serve", *SMALL, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("serving http://127.0.0.1:"), line
            url = line.split()[1]
            while httpx.get(f"{url}/readyz", timeout=PATIENCE).status_code != 200:
                assert process.poll() is None
            yield process, url
        finally:
            process.kill()
