"""The bottleneck: shapes and structure of AE and AD, and checkpoints that are read back or refused."""

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

from featcodec.errors import WeightsError
from featcodec.networks.blocks import ResBlock
from featcodec.networks.bottleneck import (
    Bottleneck,
    BottleneckConfig,
    load_bottleneck,
    save_bottleneck,
    with_decoder,
)
from featcodec.networks.checkpoints import config_from

SMALL = BottleneckConfig(
    feature_channels=12,
    hidden_channels=8,
    channels=4,
    clip_low=-3.0,
    clip_high=3.0,
    split=4,
    detector_fingerprint="0011223344556677",
    training={"stage": "distillation", "steps": 2000, "metrics": {"AP50": 54.2}},
)


def small(seed: int = 0) -> Bottleneck:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Bottleneck(SMALL)


def write(path: Path, state: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """A checkpoint of `small` with another config or other weights; None removes a field."""
    config = {"format": 1, "kind": "bottleneck", **dataclasses.asdict(SMALL), **changes}
    config = {name: value for name, value in config.items() if value is not None}
    save_file(state or small().state_dict(), path, {"featcodec": json.dumps(config)})
    return path


def refusal(path: Path) -> str:
    return refusal_of(WeightsError, path, load_bottleneck)


def test_yolov5m_has_the_papers_shapes() -> None:
    config = dataclasses.replace(SMALL, feature_channels=192, hidden_channels=128, channels=64)
    with torch.device("meta"):
        bottleneck = Bottleneck(config)
        coded = bottleneck.encode(torch.empty(2, 192, 64, 48))
        restored = bottleneck.decode(coded)
    assert coded.shape == (2, 64, 64, 48)
    assert restored.shape == (2, 192, 64, 48)
    shapes = {name: tuple(tensor.shape) for name, tensor in bottleneck.state_dict().items() if name.endswith("weight")}
    assert shapes == {
        "encoder.0.weight": (128, 192, 3, 3),
        "encoder.2.body.0.weight": (128, 128, 3, 3),
        "encoder.2.body.2.weight": (128, 128, 3, 3),
        "encoder.3.weight": (64, 128, 3, 3),
        "decoder.0.weight": (128, 64, 3, 3),
        "decoder.2.body.0.weight": (128, 128, 3, 3),
        "decoder.2.body.2.weight": (128, 128, 3, 3),
        "decoder.3.weight": (192, 128, 3, 3),
    }


def test_activations_are_the_papers() -> None:
    """AE ends without one, so that the coded tensor may be negative; AD ends with SiLU, as the features do."""
    bottleneck = small()
    features = torch.randn(1, 12, 16, 16, generator=torch.Generator().manual_seed(1)) * 10
    coded = bottleneck.encode(features)
    assert coded.min() < -1
    assert coded.max() > 1
    assert bottleneck.decode(coded * 10).min() >= -0.2785
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in bottleneck.modules())


def test_resblock_adds_its_input() -> None:
    block = ResBlock(3)
    x = torch.randn(1, 3, 5, 5)
    first, second = block.body[0], block.body[2]
    inner = nn.functional.conv2d(x, first.weight, first.bias, padding=1)
    expected = x + nn.functional.conv2d(inner * inner.sigmoid(), second.weight, second.bias, padding=1)
    assert torch.allclose(block(x), expected, atol=1e-6)
    nn.init.zeros_(second.weight)
    nn.init.zeros_(second.bias)
    assert torch.equal(block(x), x)


def test_round_trip(tmp_path: Path) -> None:
    bottleneck = small()
    save_bottleneck(tmp_path / "a.safetensors", bottleneck)
    loaded = load_bottleneck(tmp_path / "a.safetensors")
    assert loaded.config == SMALL
    assert loaded.fingerprint() == bottleneck.fingerprint()
    assert loaded.state_dict().keys() == bottleneck.state_dict().keys()
    features = torch.randn(1, 12, 8, 8)
    with torch.inference_mode():
        assert torch.equal(loaded.encode(features), bottleneck.encode(features))
        assert torch.equal(loaded.decode(loaded.encode(features)), bottleneck.decode(bottleneck.encode(features)))


def test_loaded_bottleneck_is_frozen_float32_on_the_cpu(tmp_path: Path) -> None:
    save_bottleneck(tmp_path / "a", small().half())
    loaded = load_bottleneck(tmp_path / "a")
    assert not any(module.training for module in loaded.modules())
    for parameter in loaded.parameters():
        assert (parameter.dtype, parameter.device.type, parameter.requires_grad) == (torch.float32, "cpu", False)


def test_half_precision_copy_has_the_same_fingerprint() -> None:
    half = small().half()
    assert half.fingerprint() == small().half().float().fingerprint()
    assert half.fingerprint() != small(1).half().fingerprint()


def test_quantizer_has_the_configs_range() -> None:
    quantizer = dataclasses.replace(SMALL, clip_low=-1.5, clip_high=6.0).quantizer()
    assert (quantizer.low, quantizer.high, quantizer.bits) == (-1.5, 6.0, 8)


def test_config_survives_json() -> None:
    assert config_from(BottleneckConfig, json.loads(json.dumps(dataclasses.asdict(SMALL)))) == SMALL


def test_checkpoint_of_a_later_minor_version_may_say_more(tmp_path: Path) -> None:
    assert load_bottleneck(write(tmp_path / "a", comment="hello")).config == SMALL


@pytest.mark.parametrize(
    "changes",
    [
        {"feature_channels": 13},
        {"hidden_channels": 16},
        {"channels": 5},
        {"channels": 0},
        {"channels": -4},
        {"channels": 4.0},
        {"channels": "4"},
        {"channels": True},
        {"channels": 4097},
        {"hidden_channels": 1 << 40},
        {"feature_channels": 10**400},
        {"channels": None},
        {"split": None},
        {"split": 128},
        {"split": -1},
        {"split": "four"},
        {"split": [4]},
        {"detector_fingerprint": None},
        {"detector_fingerprint": 7},
        {"training": None},
        {"clip_low": None},
        {"clip_low": 3.0},
        {"clip_low": float("nan")},
        {"clip_high": float("inf")},
        {"clip_high": 10**400},
        {"clip_high": "wide"},
        {"clip_high": [3.0]},
        {"clip_high": {}},
    ],
    ids=repr,
)
def test_config_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "its config does not fit its weights" in refusal(write(tmp_path / "a", **changes))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = small().state_dict()
    missing = {name: tensor for name, tensor in state.items() if name != "decoder.3.bias"}
    more = {**state, "spy.weight": torch.zeros(2)}
    reshaped = {**state, "encoder.0.weight": state["encoder.0.weight"][:, :, :1, :1].contiguous()}
    for number, damaged in enumerate((missing, more, reshaped)):
        assert "its config does not fit its weights" in refusal(write(tmp_path / f"{number}", damaged))


def test_large_claims_allocate_nothing(tmp_path: Path) -> None:
    """4096 channels throughout would be 5 GB of weights."""
    path = write(tmp_path / "a", feature_channels=4096, hidden_channels=4096, channels=4096)
    assert "size mismatch" in refusal(path) or "does not fit" in refusal(path)


def test_nan_weights_are_refused(tmp_path: Path) -> None:
    state = small().state_dict()
    state["decoder.0.weight"][1, 2, 0, 0] = float("nan")
    assert "not finite" in refusal(write(tmp_path / "a", state))


def test_weights_beyond_float32_are_refused(tmp_path: Path) -> None:
    state = {name: tensor.double() for name, tensor in small().state_dict().items()}
    state["decoder.0.weight"][1, 2, 0, 0] = 1e300
    refusal(write(tmp_path / "a", state))


@pytest.mark.parametrize("changes", [{"kind": "inversion"}, {"kind": None}, {"format": 2}, {"format": None}])
def test_other_kinds_and_formats_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    refusal(write(tmp_path / "a", **changes))


def test_pickle_is_refused(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "a.safetensors")
    assert "not a safetensors checkpoint" in refusal(tmp_path / "a.safetensors")
    assert "no such file" in refusal(tmp_path / "absent.safetensors")


def test_half_precision_is_for_shipping_and_is_a_bottleneck_of_its_own(tmp_path: Path) -> None:
    bottleneck = small()
    path = tmp_path / "a.safetensors"
    save_bottleneck(path, bottleneck, half=True)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    loaded = load_bottleneck(path)
    assert loaded.fingerprint() != bottleneck.fingerprint()
    for name, tensor in bottleneck.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float())


# An AD that is larger than AE


def larger(**changes: Any) -> Bottleneck:
    torch.manual_seed(3)
    return with_decoder(small(), **{"hidden_channels": 11, "blocks": 3, "knows_qp": True, **changes})


def test_a_larger_decoder_computes_the_same_until_it_is_trained() -> None:
    coded, qp = torch.randn(2, 4, 6, 5), torch.tensor([0.0, 43])
    for changes in ({}, {"blocks": 1}, {"hidden_channels": 8}, {"knows_qp": False}):
        grown = larger(**changes)
        assert torch.allclose(grown.decode(coded, qp), small().decode(coded), atol=1e-6)
        assert grown.edge_fingerprint() == small().edge_fingerprint()
    assert len([part for part in larger().decoder.modules() if isinstance(part, ResBlock)]) == 3
    assert larger().fingerprint() != small().fingerprint()
    again = with_decoder(larger(), hidden_channels=16, blocks=4, knows_qp=True)
    assert torch.allclose(again.decode(coded, qp), small().decode(coded), atol=1e-6)


def test_all_of_a_larger_decoder_learns() -> None:
    """Within three steps, what is new reaches the output: no part of it is dead."""
    grown, coded, qp = larger(), torch.randn(2, 4, 6, 5), torch.tensor([20.0, 43])
    optimizer = torch.optim.SGD(grown.decoder.parameters(), 0.1)
    before = {name: tensor.clone() for name, tensor in grown.decoder.state_dict().items()}
    for _ in range(3):
        optimizer.zero_grad()
        grown.decode(coded, qp).square().sum().backward()
        optimizer.step()
    unchanged = [name for name, tensor in grown.decoder.state_dict().items() if torch.equal(tensor, before[name])]
    assert unchanged == []


def test_a_decoder_that_knows_the_qp_uses_it_and_others_do_not() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, decoder_knows_qp=True)
    coded, qps = torch.randn(1, 4, 6, 5), (torch.tensor([20.0]), torch.tensor([40.0]))
    knowing, ignorant = Bottleneck(config), small()
    assert not torch.equal(*(knowing.decode(coded, qp) for qp in qps))
    assert torch.equal(knowing.decode(coded), knowing.decode(coded, torch.tensor([0.0])))
    assert torch.equal(*(ignorant.decode(coded, qp) for qp in qps))


def test_a_larger_decoder_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    save_bottleneck(path, larger())
    found = load_bottleneck(path)
    assert (found.config, found.fingerprint()) == (larger().config, larger().fingerprint())


def test_a_checkpoint_from_before_says_nothing_of_the_decoder(tmp_path: Path) -> None:
    old = dict.fromkeys(("decoder_hidden_channels", "decoder_blocks", "decoder_knows_qp"))
    old |= dict.fromkeys(("level_channels", "level_scales", "fusion_scale"))
    assert load_bottleneck(write(tmp_path / "b.safetensors", **old)).config == SMALL


def test_a_smaller_decoder_is_refused() -> None:
    for changes in ({"hidden_channels": 7}, {"blocks": 0}):
        with pytest.raises(WeightsError, match="give at least as many"):
            larger(**changes)
    with pytest.raises(WeightsError, match="and the QP"):
        with_decoder(larger(), 11, 3, knows_qp=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder_hidden_channels": -1},
        {"decoder_hidden_channels": 10**6},
        {"decoder_blocks": 10**6},
        {"decoder_blocks": 2},
        {"decoder_knows_qp": 1},
        {"decoder_knows_qp": True},
    ],
)
def test_a_decoder_that_is_not_in_the_file_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "its config does not fit its weights" in refusal(write(tmp_path / "b.safetensors", **changes))
