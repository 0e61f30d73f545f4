"""The edge as a program. Nothing in this room knows torch.

from featcodec.edge import EdgeEncoder
data = EdgeEncoder.load("model/").encode("street.jpg", qp=38)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featcodec.edge.encoder import EdgeEncoder

__all__ = ["EdgeEncoder"]


def __getattr__(name: str) -> Any:
    # A server needs the messages alone, without the encoder.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("featcodec.edge.encoder"), name)
