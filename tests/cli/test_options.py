"""The networks for bitstreams: those of most bitstreams, so that a few others cannot make all of them fail."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from pictures import save_texture

from featcodec import bitstream
from featcodec.detectors import load_detector

pytestmark = pytest.mark.slow


@pytest.fixture
def streams(run: Any, tmp_path: Path) -> Path:
    """Two bitstreams of the detector and the bottleneck that ship."""
    for number in (1, 2):
        save_texture(tmp_path / f"in/{number}.png", 120, 90, seed=number)
    encode = ("encode", tmp_path / "in", "-o", tmp_path / "streams", "--detector", "scenes", "--image-size", 160)
    assert run(*encode)[0] == 0
    return tmp_path / "streams"


def forge(streams: Path, name: str, **changes: Any) -> None:
    """A copy of a bitstream whose side info, with a right checksum, claims something else."""
    side_info, picture = bitstream.unpack((streams / "1.266").read_bytes())
    (streams / name).write_bytes(bitstream.pack(dataclasses.replace(side_info, **changes), picture))


@pytest.mark.parametrize("forged", [1, 3])
def test_forged_bitstreams_fail_alone(run: Any, streams: Path, forged: int) -> None:
    detector = load_detector("scenes", device="cpu").fingerprint
    for number in range(forged):
        # The first claims to be coded without the bottleneck, the others claim networks that nobody has.
        forge(streams, f"0-{number}.266", fingerprint=bytes([number]) * 8 if number else detector)
    output = streams.parent / "d.json"
    code, out, err = run("decode", streams, "-o", output, "--detector", "scenes", "--json")
    report = json.loads(out)
    assert (code, report["decoded"], report["failed"], err.count("\n")) == (1, 2, forged, forged)
    assert {result["image_id"] for result in json.loads(output.read_text())} <= {1, 2}
    code, out, err = run("invert", streams, "-o", streams.parent / "out", "--detector", "scenes", "--json")
    report = json.loads(out)
    assert (code, report["inverted"], report["failed"], err.count("\n")) == (1, 2, forged, forged)


def test_the_networks_are_those_of_most_bitstreams(run: Any, streams: Path) -> None:
    encode = ("encode", streams.parent / "in", "-o", streams / "latent", "--bottleneck", "none", "--image-size", 160)
    assert run(*encode, "--detector", "scenes")[0] == 0
    (streams / "1.266").unlink()
    code, out, _ = run("decode", streams, "-o", streams.parent / "d.csv", "--detector", "scenes", "--json")
    assert (code, json.loads(out)["decoded"], json.loads(out)["failed"]) == (1, 2, 1)


def test_networks_that_cannot_be_loaded_are_named(run: Any, streams: Path) -> None:
    code, _, err = run("decode", streams, "-o", streams.parent / "d.csv", "--detector", streams / "missing.pt")
    assert (code, err.count("\n"), "missing.pt" in err) == (1, 1, True)
