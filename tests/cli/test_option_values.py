"""What values of shared options mean; and the networks are those of most bitstreams, so that a few cannot harm all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import pytest
from pictures import save_texture

from featcodec import bitstream
from featcodec.cli.option_values import conditions_of, device_for
from featcodec.detectors import load_detector


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_networks_are_those_of_most_bitstreams(run: Any, streams: Path) -> None:
    encode = ("encode", streams.parent / "in", "-o", streams / "latent", "--bottleneck", "none", "--image-size", 160)
    assert run(*encode, "--detector", "scenes")[0] == 0
    (streams / "1.266").unlink()
    code, out, _ = run("decode", streams, "-o", streams.parent / "d.csv", "--detector", "scenes", "--json")
    assert (code, json.loads(out)["decoded"], json.loads(out)["failed"]) == (1, 2, 1)


@pytest.mark.slow
def test_networks_that_cannot_be_loaded_are_named(run: Any, streams: Path) -> None:
    code, _, err = run("decode", streams, "-o", streams.parent / "d.csv", "--detector", streams / "missing.pt")
    assert (code, err.count("\n"), "missing.pt" in err) == (1, 1, True)


def test_on_a_cluster_networks_run_on_cpus() -> None:
    assert [device_for(None, device, workers=2) for device in ("auto", "cuda:1")] == ["auto", "cuda:1"]
    assert [device_for("auto", device, workers=None, networks=3) for device in ("auto", "cpu")] == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((None, "auto", None, 2), "--networks is for a cluster; give --cluster too"),
        (("auto", "auto", 2), "--workers is for this machine alone; leave it out with --cluster"),
        (("auto", "cuda", None), "--device cuda is for this machine alone; with --cluster, networks run on CPUs"),
    ],
    ids=["networks", "workers", "device"],
)
def test_options_of_a_cluster_and_of_this_machine_exclude_each_other(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        device_for(*values)
    assert caught.value.message == message


def test_conditions_are_by_column() -> None:
    assert conditions_of(["method=latent", "note=a=b", "method=latent"]) == {"method": "latent", "note": "a=b"}
    for texts, message in ((["latent"], "'latent' is not of the form COLUMN=VALUE"), (["qp=1", "qp=2"], "exclude")):
        with pytest.raises(click.UsageError, match=message):
            conditions_of(texts)
