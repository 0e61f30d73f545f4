"""Committed bitstreams decode for ever, to exactly the committed samples (tests/golden/make.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featcodec import bitstream
from featcodec.bitstream import Header
from featcodec.errors import EncoderError
from featcodec.packing.tiling import TileGrid
from featcodec.video import open_codec

FOLDER = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.stem for path in FOLDER.glob("*.266"))


def expected_header(name: str) -> Header:
    fields = json.loads((FOLDER / f"{name}.json").read_text())
    return Header(**{**fields, "fingerprint": bytes.fromhex(fields["fingerprint"])})


def data_of(name: str) -> bytes:
    return (FOLDER / f"{name}.266").read_bytes()


def test_the_golden_files_are_there() -> None:
    for version, at_least in ((1, 9), (2, 4)):
        names = [name for name in NAMES if bitstream.format_version(data_of(name)) == version]
        assert len(names) >= at_least
        assert sum(expected_header(name).is_raw for name in names) >= 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("codec", ["ffmpeg", "vvenc", "none"])
def test_golden_files_decode_to_their_samples(name: str, codec: str) -> None:
    header, stream = bitstream.unpack(data_of(name))
    assert header == expected_header(name)
    if header.is_raw != (codec == "none"):
        pytest.skip("holds raw samples" if header.is_raw else "holds a VVC picture")
    try:
        decoder = open_codec(codec)
    except EncoderError as error:
        pytest.skip(str(error))
    samples = np.asarray(Image.open(FOLDER / f"{name}.png"))
    assert samples.dtype == np.uint8
    assert np.array_equal(decoder.decode(stream, header.mosaic_shape), samples)
    assert TileGrid(header.tile_rows, header.tile_cols).untile(samples, header.channels).any()


@pytest.mark.parametrize("name", NAMES)
def test_the_writer_still_makes_the_same_bytes(name: str) -> None:
    data = data_of(name)
    header, stream = bitstream.unpack(data)
    assert bitstream.pack(header, stream, version=bitstream.format_version(data)) == data
