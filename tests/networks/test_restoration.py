"""The restoration: it starts without effect, fades with the QP, is read back or refused, and belongs to one codec."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refusal_of
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from featcodec.bitstream import RAW_QP, SideInfo
from featcodec.errors import WeightsError
from featcodec.networks.catalogue import Shipped
from featcodec.networks.restoration import (
    Restoration,
    RestorationConfig,
    choose_restoration,
    default_hidden_channels,
    load_restoration,
    restore,
    save_restoration,
)

CODEC = "0011223344556677"
SMALL = RestorationConfig(
    channels=4,
    hidden_channels=6,
    blocks=1,
    split=4,
    stream_fingerprint=CODEC,
    training={"stage": "restoration", "steps": 2000, "metrics": {"loss": 0.5}},
)


def small(seed: int = 0, *, trained: bool = True, **changes: Any) -> Restoration:
    """One with random weights also in its last layer, as if it had been trained, or as it is made."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        restoration = Restoration(dataclasses.replace(SMALL, **changes))
        if trained:
            for parameter in restoration.net[-1].parameters():
                nn.init.normal_(parameter, std=0.1)
    return restoration.requires_grad_(False)


def coded(batch: int = 3) -> Tensor:
    return torch.randn(batch, 4, 8, 12, generator=torch.Generator().manual_seed(1))


def write(path: Path, state: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """A checkpoint of `small` with another config or other weights; None removes a field."""
    config = {"format": 1, "kind": "restoration", **dataclasses.asdict(SMALL), **changes}
    config = {name: value for name, value in config.items() if value is not None}
    save_file(state or small().state_dict(), path, {"featcodec": json.dumps(config)})
    return path


def refusal(path: Path) -> str:
    return refusal_of(WeightsError, path, load_restoration)


def side_info(qp: int = 38, split: int = 4) -> SideInfo:
    return SideInfo(
        *(96, 64, 96, 64, 4, 8, 12, 2, 2, -3.0, 3.0, 8), split=split, fingerprint=bytes(8), qp=qp, encoder_tag=0
    )


# The network


def test_it_is_made_without_effect() -> None:
    restoration = small(trained=False)
    assert not restoration.training
    assert torch.equal(restoration(coded(), torch.tensor([20.0, 40.0, 60.0])), coded())


def test_its_effect_follows_the_step_size() -> None:
    """A correction that does not depend on its input halves every 6 QPs below 40, and is whole from there on."""
    restoration = small(trained=False)
    nn.init.constant_(restoration.net[-1].bias, 0.5)
    qps = [0.0, 28.0, 34.0, 40.0, 46.0, 63.0]
    difference = restoration(coded(6), torch.tensor(qps)) - coded(6)
    for found, expected in zip(difference, (0.5 * 2 ** (-40 / 6), 0.125, 0.25, 0.5, 0.5, 0.5), strict=True):
        assert torch.allclose(found, torch.full_like(found, expected), atol=1e-6)


def test_it_knows_the_qp_and_all_channels() -> None:
    restoration = small()
    one, other = restoration(coded(), torch.full((3,), 41.0)), restoration(coded(), torch.full((3,), 50.0))
    assert not torch.allclose(one, other, atol=1e-4)
    changed = coded()
    changed[:, 3] += 1
    assert not torch.allclose(restoration(changed, torch.full((3,), 41.0))[:, 0], one[:, 0], atol=1e-4)


def test_each_tensor_is_restored_by_itself() -> None:
    restoration, qp = small(), torch.tensor([30.0, 36.0, 44.0])
    together = restoration(coded(), qp)
    for index in range(3):
        alone = restoration(coded()[index : index + 1], qp[index : index + 1])
        assert torch.allclose(together[index], alone[0], atol=1e-6)


def test_it_computes_in_float32_and_gives_what_it_was_given() -> None:
    restoration, qp = small(), torch.full((3,), 40.0)
    half = restoration(coded().half(), qp)
    assert half.dtype == torch.float16
    assert torch.equal(half, restoration(coded().half().float(), qp).half())


@pytest.mark.parametrize(("channels", "hidden"), [(20, 48), (64, 64), (192, 96), (1, 48)])
def test_its_width_goes_by_the_channels(channels: int, hidden: int) -> None:
    assert default_hidden_channels(channels) == hidden


def test_it_is_light() -> None:
    """Less than a tenth of yolov5n's 1.9 million weights."""
    restoration = Restoration(dataclasses.replace(SMALL, channels=64, hidden_channels=64))
    assert sum(parameter.numel() for parameter in restoration.parameters()) < 160_000


# Streams


def test_streams_are_restored_at_the_qp_of_their_headers() -> None:
    restoration = small()
    found = restore(restoration, coded(), [side_info(30), side_info(38), side_info(44)])
    for index, qp in enumerate([30.0, 38.0, 44.0]):
        assert torch.equal(found[index], restoration(coded()[index : index + 1], torch.tensor([qp]))[0])


def test_raw_samples_and_other_splits_stay_as_they_are() -> None:
    mixed = restore(small(), coded(), [side_info(RAW_QP), side_info(38), side_info(RAW_QP)])
    assert torch.equal(mixed[::2], coded()[::2])
    assert not torch.allclose(mixed[1], coded()[1], atol=1e-4)
    assert torch.equal(restore(small(), coded(), [side_info(split=3)] * 3), coded())
    assert torch.equal(restore(None, coded(), [side_info()] * 3), coded())


# Checkpoints


def test_round_trip(tmp_path: Path) -> None:
    restoration = small()
    save_restoration(tmp_path / "a.safetensors", restoration)
    loaded = load_restoration(tmp_path / "a.safetensors")
    assert loaded.config == SMALL
    assert loaded.fingerprint() == restoration.fingerprint() != small(1).fingerprint()
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(loaded(coded(), torch.full((3,), 40.0)), restoration(coded(), torch.full((3,), 40.0)))


def test_half_precision_is_for_shipping(tmp_path: Path) -> None:
    save_restoration(tmp_path / "a", small(), half=True)
    assert {tensor.dtype for tensor in load_file(tmp_path / "a").values()} == {torch.float16}
    assert {tensor.dtype for tensor in load_restoration(tmp_path / "a").state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 5},
        {"channels": 0},
        {"channels": 4.0},
        {"channels": True},
        {"channels": 4097},
        {"channels": None},
        {"hidden_channels": 7},
        {"hidden_channels": 1 << 40},
        {"blocks": 2},
        {"blocks": -1},
        {"blocks": 10**400},
        {"blocks": "1"},
        {"blocks": None},
        {"split": 128},
        {"split": [4]},
        {"split": None},
        {"stream_fingerprint": None},
        {"stream_fingerprint": 7},
        {"stream_fingerprint": "0011"},
        {"stream_fingerprint": "spam\n" * 99},
        {"training": None},
    ],
    ids=lambda changes: repr(changes)[:40],
)
def test_config_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "its config does not fit its weights" in refusal(write(tmp_path / "a", **changes))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = small().state_dict()
    missing = {name: tensor for name, tensor in state.items() if name != "net.0.bias"}
    more = {**state, "spy.weight": torch.zeros(2)}
    for number, damaged in enumerate((missing, more)):
        assert "its config does not fit its weights" in refusal(write(tmp_path / f"{number}", damaged))
    state["net.0.weight"][1, 2, 0, 0] = float("nan")
    assert "not finite" in refusal(write(tmp_path / "nan", state))


def test_damaged_files_and_other_kinds_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a")
    path.write_bytes(path.read_bytes()[:-100])
    assert "not a safetensors checkpoint" in refusal(path)
    torch.save(small(), tmp_path / "pickle")
    assert "not a safetensors checkpoint" in refusal(tmp_path / "pickle")
    assert "not a restoration of featcodec" in refusal(write(tmp_path / "b", kind="bottleneck"))
    assert "no such file" in refusal(tmp_path / "absent")


# The codec that it belongs to


def test_it_is_taken_for_its_codec_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a")
    codec = bytes.fromhex(CODEC)
    chosen = choose_restoration(path, codec, 4, 4)
    assert chosen is not None
    assert chosen.config == SMALL
    with pytest.raises(WeightsError) as caught:
        choose_restoration(path, bytes(8), 4, 4)
    assert str(caught.value) == (
        f"{path}: restores streams of the networks {CODEC}, but 0000000000000000 are loaded; give the `detector` and "
        "`bottleneck` it was trained with, or `restoration` none"
    )
    with pytest.raises(WeightsError, match="behind layer 4, but the streams are made behind layer 3"):
        choose_restoration(path, codec, 4, 3)
    with pytest.raises(WeightsError, match="takes 4 channels, but the streams have 5"):
        choose_restoration(path, codec, 5, 4)


def test_none_and_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = bytes.fromhex(CODEC)
    assert choose_restoration("none", codec, 4, 4) is choose_restoration(None, codec, 4, 4) is None
    assert choose_restoration("auto", codec, 4, 4) is None
    shipped = Shipped("some", CODEC, str(write(tmp_path / "a")), "for a test")
    monkeypatch.setattr("featcodec.networks.restoration.SHIPPED_RESTORATIONS", (shipped,))
    assert choose_restoration("auto", codec, 4, 4) is not None
    assert choose_restoration("auto", codec, 4, 3) is None
    assert choose_restoration("auto", bytes(8), 4, 4) is None
    (tmp_path / "a").unlink()
    with pytest.raises(WeightsError, match="no such file"):
        choose_restoration("auto", codec, 4, 4)
