"""Fingerprints: 8 bytes that name networks and layouts. This module does not use torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FINGERPRINT_BYTES = 8


def fingerprint_of_arrays(*states: Mapping[str, npt.NDArray[Any]], structure: str = "") -> bytes:
    """8 bytes that name a network: SHA-256 over the names, shapes and values of all arrays, with floats as float32.

    If weights were stored in half precision, their float32 copy and their float16 copy have the same fingerprint.

    Args:
        states: arrays by name, in order.
        structure: a text that tells apart networks with equal weights.
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
    """The fingerprint of a part of a codec as 16 hex digits, or an empty string if the part is None."""
    return "" if part is None else part.fingerprint().hex()


def joined_fingerprint(first: bytes, second: bytes | None) -> bytes:
    """8 bytes that name two things together. Without a second thing, the first fingerprint is returned as it is.

    Args:
        first, second: the fingerprints of the two things.
    """
    return first if second is None else hashlib.sha256(first + second).digest()[:FINGERPRINT_BYTES]
