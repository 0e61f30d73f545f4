"""Whatever clients send: each is answered or closed, the server goes on, and its memory does not grow."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hostile_clients import STATUSES, Clients
from running import Running
from serving import serving

from featcodec import FeatureCodec
from featcodec.edge.messages import Answer
from featcodec.service.answers import detections_json

_GROWTH = 64
"""MiB that the memory of a server may grow after its first thousand bodies."""


def test_some_hundred_bodies_and_frames(server: Running, codec: FeatureCodec, streams: list[bytes]) -> None:
    clients = Clients(server.url, streams, seed=1)
    clients.run(160)
    assert sum(clients.seen[status] for status in STATUSES) >= 320
    assert clients.seen[200]
    assert clients.seen[400]
    answer = Answer.from_json(server.post("/v1/detections", streams[0]).text)
    assert answer.detections == detections_json(codec.decode(streams[0]))
    assert server.metric("featcodec_held_bytes") == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read in /proc")
def test_ten_thousand_bodies_and_frames_and_memory_stays(
    streams: list[bytes],
) -> None:
    options = ("--workers", "2", "--max-connections", "200")
    with serving(*options) as (process, url):
        clients = [Clients(url, streams, seed) for seed in range(4)]

        def run(count: int) -> None:
            with ThreadPoolExecutor(len(clients)) as pool:
                for done in [pool.submit(each.run, count // len(clients)) for each in clients]:
                    done.result()

        run(1000)
        before = memory(process.pid)
        run(9000)
        grown = memory(process.pid) - before
        seen = sum((each.seen for each in clients), start=Counter())
        print(f"{dict(seen)}; memory {before} MiB, then {grown} MiB more")
        assert sum(seen[status] for status in STATUSES) >= 20_000
        assert grown < _GROWTH
        assert process.poll() is None


def memory(number: int) -> int:
    """MiB of memory of a process."""
    return int(Path(f"/proc/{number}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
