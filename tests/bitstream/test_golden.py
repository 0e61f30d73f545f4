"""Committed bitstreams decode for ever, to exactly the committed samples (tests/golden/make.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featcodec import bitstream
from featcodec.bitstream import SideInfo
from featcodec.errors import EncoderError
from featcodec.video import open_video_codec

FOLDER = Path(__file__).parents[1] / "golden"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.26[56]"))}
NAMES = list(FILES)


def expected_header(name: str) -> SideInfo:
    fields = json.loads((FOLDER / f"{name}.json").read_text())
    further = tuple(map(tuple, fields.get("further", ())))
    return SideInfo(**{**fields, "fingerprint": bytes.fromhex(fields["fingerprint"]), "further": further})


def data_of(name: str) -> bytes:
    return FILES[name].read_bytes()


def test_the_golden_files_are_there() -> None:
    for version, at_least in ((1, 9), (2, 4), (3, 6)):
        names = [name for name in NAMES if bitstream.format_version(data_of(name)) == version]
        assert len(names) >= at_least
        assert sum(expected_header(name).is_raw for name in names) >= 1
        assert sum(FILES[name].suffix == ".265" for name in names) >= 1
    assert {len(expected_header(name).tensors) for name in names} == {1, 3}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("codec", ["ffmpeg", "vvenc", "hevc", "none"])
def test_golden_files_decode_to_their_samples(name: str, codec: str) -> None:
    side_info, stream = bitstream.unpack(data_of(name))
    assert side_info == expected_header(name)
    if side_info.is_raw != (codec == "none"):
        pytest.skip("holds raw samples" if side_info.is_raw else "holds a picture")
    try:
        decoder = open_video_codec(codec)
    except EncoderError as error:
        pytest.skip(str(error))
    samples = np.asarray(Image.open(FOLDER / f"{name}.png"))
    assert samples.dtype == np.uint8
    assert np.array_equal(decoder.decode(stream, side_info.frame_shape), samples)
    tensors = side_info.bands.untile(samples)
    assert [tensor.shape for tensor in tensors] == list(side_info.tensors)
    assert all(tensor.any() for tensor in tensors)


@pytest.mark.parametrize("name", NAMES)
def test_the_writer_still_makes_the_same_bytes(name: str) -> None:
    data = data_of(name)
    side_info, stream = bitstream.unpack(data)
    assert bitstream.pack(side_info, stream, version=bitstream.format_version(data)) == data
