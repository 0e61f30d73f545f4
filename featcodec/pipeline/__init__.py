"""Encoding and decoding of many images, in parallel and with bounded memory.

    encode:  load + letterbox (threads) -> front-end in batches -> VVC in parallel processes -> files
    decode:  read + VVC, then back-end in batches (threads) -> detections, in the order of the sources

If one file fails, the run goes on with the other files. Encoding works without torch, by an `EdgeEncoder`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featcodec.pipeline.coding import Encoded, output_path
    from featcodec.pipeline.decode import Decoded, decode_files
    from featcodec.pipeline.encode import DEFAULT_BATCH, encode_files

__all__ = ["DEFAULT_BATCH", "Decoded", "Encoded", "decode_files", "encode_files", "output_path"]

_HOMES = {"Decoded": "decode", "decode_files": "decode", "DEFAULT_BATCH": "encode", "encode_files": "encode"}


def __getattr__(name: str) -> Any:
    # On first use: all but `pipeline.decode` works without torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'coding')}"), name)
