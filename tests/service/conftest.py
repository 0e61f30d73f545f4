"""A small codec, bitstreams of it, and real servers on free ports of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from pictures import texture
from running import Running, running

from featcodec import FeatureCodec
from featcodec.detections import BoxFilter
from featcodec.service.settings import Settings


@pytest.fixture(scope="session")
def codec() -> FeatureCodec:
    """The detector that ships, with its bottleneck; HEVC, because it starts no programs."""
    return FeatureCodec.load(
        "scenes", video_codec="hevc", image_size=160, boxes=BoxFilter(conf=0.001, max_det=20), device="cpu"
    )


@pytest.fixture(scope="session")
def streams(codec: FeatureCodec) -> list[bytes]:
    """Bitstreams of two kinds, in turns: wide pictures and high ones."""
    return [codec.encode(texture(*((160, 120), (96, 160))[seed % 2], seed=seed)) for seed in range(4)]


@pytest.fixture(scope="session")
def foreign(codec: FeatureCodec) -> bytes:
    """A bitstream of other networks: the same detector without its bottleneck."""
    return codec.without_bottleneck().encode(texture(160, 120))


@pytest.fixture
def serve(codec: FeatureCodec) -> Iterator[Callable[..., Running]]:
    """Starts a server with these settings; it ends with the test."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Running:
            chosen = replace(Settings(workers=1, body_seconds=20), **settings)
            return stack.enter_context(running(codec, chosen))

        yield start


@pytest.fixture(scope="module")
def server(codec: FeatureCodec) -> Iterator[Running]:
    """A server for the tests of a module that change nothing in it."""
    with running(codec, Settings(workers=1)) as started:
        yield started
