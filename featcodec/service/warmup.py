"""The first picture: a server is ready when one has run through all that a client's picture runs through."""

from __future__ import annotations

from concurrent.futures import wait

import numpy as np

from featcodec.codec import FeatureCodec
from featcodec.service.engine import Engine


def warm_up(codec: FeatureCodec, engine: Engine, count: int) -> None:
    """Decode a gray picture as often as there are decoders, so that each has started its process.

    Args:
        codec: makes the bitstream.
        engine: decodes it.
        count: how many decoders there are.

    Raises:
        FeatcodecError: the codec cannot work.
    """
    gray = np.full((codec.image_size, codec.image_size, 3), 114, np.uint8)
    stream = codec.encode(gray)
    pending = [engine.submit(stream) for _ in range(min(count, engine.settings.max_queue))]
    wait(pending)
    for each in pending:
        each.result()
