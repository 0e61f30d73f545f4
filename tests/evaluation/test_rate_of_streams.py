"""The rate of a set of files: what counts, and what is said of files that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from featcodec.errors import BitstreamError, InputError
from featcodec.evaluation.rate import rate_of_streams

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.266"))[:3]


def test_every_byte_counts_per_pixel_of_the_originals() -> None:
    rate = rate_of_streams(GOLDEN)
    size = sum(path.stat().st_size for path in GOLDEN)
    assert (rate.streams, rate.bytes, len(rate.sizes)) == (3, size, 3)
    assert rate.bpp == pytest.approx(8 * size / sum(width * height for width, height in rate.sizes))


def test_each_damaged_stream_is_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.266" for number in range(4)]
    for path, data in zip(paths, (GOLDEN[0].read_bytes(), b"", GOLDEN[1].read_bytes()[:-1]), strict=False):
        path.write_bytes(data)
    said: list[str] = []
    with pytest.raises(BitstreamError, match=r"^3 of 4 bitstreams cannot be read, so there is no rate; encode"):
        rate_of_streams(paths, said.append)
    assert [line.split(": ")[0] for line in said] == [str(path) for path in paths[1:]]
    assert not any("\n" in line for line in said)
    with pytest.raises(BitstreamError, match=rf"^{paths[1]}: empty file"):
        rate_of_streams(paths[:2], said.append)
    assert len(said) == 3


def test_no_stream_has_no_rate() -> None:
    with pytest.raises(InputError):
        rate_of_streams([])
