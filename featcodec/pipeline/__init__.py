"""Encoding and decoding of many images with FeatureCodec, in parallel and with bounded memory.

    encode:  load + letterbox (threads) -> front-end in batches -> VVC in parallel processes -> files
    decode:  read + VVC, then back-end in batches (threads) -> detections, in the order of the sources

If one file fails, the run goes on with the other files.
"""

from __future__ import annotations

from featcodec.pipeline.decode import Decoded, decode_files
from featcodec.pipeline.encode import DEFAULT_BATCH, Encoded, encode_files, output_path

__all__ = ["DEFAULT_BATCH", "Decoded", "Encoded", "decode_files", "encode_files", "output_path"]
