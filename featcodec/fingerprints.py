"""Fingerprints: 8 bytes that name networks and what else a bitstream was made with. Knows nothing of torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FINGERPRINT_BYTES = 8


def fingerprint_of_arrays(*states: Mapping[str, npt.NDArray[Any]], structure: str = "") -> bytes:
    """8 bytes that name a network: SHA-256 over names, shapes and values of all arrays, floats as float32.

    Half-precision copies of weights that were stored in half precision have the same fingerprint.

    Args:
        states: arrays by name, in order.
        structure: what else distinguishes networks of equal weights.
    """
    digest = hashlib.sha256(structure.encode())
    for position, state in enumerate(states):
        for name in sorted(state):
            array = np.asarray(state[name])
            values = array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
            digest.update(f"{position}/{name}{tuple(array.shape)}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.digest()[:FINGERPRINT_BYTES]


class _Named(Protocol):
    def fingerprint(self) -> bytes: ...


def name_of(part: _Named | None) -> str:
    """The fingerprint of a part of a codec in 16 hex digits, or nothing where there is none."""
    return "" if part is None else part.fingerprint().hex()


def joined_fingerprint(first: bytes, second: bytes | None) -> bytes:
    """8 bytes that name two things together; the first alone where there is no second.

    Args:
        first, second: their fingerprints.
    """
    return first if second is None else hashlib.sha256(first + second).digest()[:FINGERPRINT_BYTES]
