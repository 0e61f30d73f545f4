"""featcodec's own checkpoints: a round trip, refusals, and fingerprints."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from featcodec.errors import OutputError, WeightsError
from featcodec.networks import checkpoints
from featcodec.networks.checkpoints import fingerprint, load_checkpoint, save_checkpoint


def refusal(path: Path, kind: str = "thing") -> str:
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(path, kind)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def write(path: Path, config: Any, **tensors: torch.Tensor) -> Path:
    """A safetensors file with a config that `save_checkpoint` would not write."""
    text = config if isinstance(config, str) else json.dumps(config)
    save_file(tensors or {"a": torch.zeros(1)}, path, {"featcodec": text})
    return path


GOOD = {"format": 1, "kind": "thing"}


def test_round_trip(tmp_path: Path) -> None:
    state = {"a.weight": torch.randn(3, 4), "b": torch.randn(2).half(), "n": torch.tensor(7)}
    save_checkpoint(tmp_path / "deep" / "a.safetensors", "thing", {"size": 3, "name": "ä"}, state)
    config, loaded = load_checkpoint(tmp_path / "deep" / "a.safetensors", "thing")
    assert config == {"format": 1, "kind": "thing", "size": 3, "name": "ä"}
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_tensors_that_are_views_are_saved(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    save_checkpoint(tmp_path / "a.safetensors", "thing", {}, {"transposed": base.T, "slice": base[:, 1]})
    _, loaded = load_checkpoint(tmp_path / "a.safetensors", "thing")
    assert torch.equal(loaded["transposed"], base.T)
    assert torch.equal(loaded["slice"], base[:, 1])


def test_same_content_same_bytes(tmp_path: Path) -> None:
    for name, config in (("a", {"x": 1, "y": 2}), ("b", {"y": 2, "x": 1})):
        save_checkpoint(tmp_path / name, "thing", config, {"w": torch.ones(2)})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nothing_is_left_when_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        save_checkpoint(tmp_path / "file" / "a.safetensors", "thing", {}, {"w": torch.ones(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent")
    refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 100, pickle.dumps({"a": 1}), b"PK\x03\x04"], ids=repr)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert "not a safetensors checkpoint" in refusal(tmp_path / "a")


def test_torch_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(3)}, tmp_path / "a.safetensors")
    assert "not a safetensors checkpoint" in refusal(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kept", [4, 60, -1])
def test_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    save_checkpoint(tmp_path / "a", "thing", {}, {"w": torch.ones(100)})
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:kept])
    assert "not a safetensors checkpoint" in refusal(tmp_path / "a")


def test_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    assert "not a safetensors checkpoint" in refusal(tmp_path / "a")


def test_file_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_MAX_BYTES", 1 << 20)
    with (tmp_path / "a").open("wb") as file:
        file.truncate((1 << 20) + 1)
    assert "over 1 MiB, larger than any thing" in refusal(tmp_path / "a")


@pytest.mark.parametrize("config", [{}, {"format": 1}, {"format": 1, "kind": "other"}, [], 3, "null", '"thing"'])
def test_another_kind_is_refused(tmp_path: Path, config: Any) -> None:
    assert "not a thing of featcodec" in refusal(write(tmp_path / "a", config))


def test_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "bare")
    save_file({"a": torch.zeros(1)}, tmp_path / "other", {"format": "pt"})
    assert "not a thing of featcodec" in refusal(tmp_path / "bare")
    assert "not a thing of featcodec" in refusal(tmp_path / "other")


@pytest.mark.parametrize("text", ["{", "not json", "[" * 100_000, '{"a": ' * 5000])
def test_damaged_config_is_refused(tmp_path: Path, text: str) -> None:
    refusal(write(tmp_path / "a", text))


@pytest.mark.parametrize("version", [2, 99, "1", None, 1.5])
def test_later_format_is_refused(tmp_path: Path, version: Any) -> None:
    message = refusal(write(tmp_path / "a", {"format": version, "kind": "thing"}))
    assert f"of format {version}" in message
    assert "update" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    weights = torch.zeros(5, dtype=dtype)
    weights[3] = value
    assert "not finite" in refusal(write(tmp_path / "a", GOOD, good=torch.ones(2), bad=weights))


def test_eight_bit_floats_are_no_crash(tmp_path: Path) -> None:
    path = write(tmp_path / "a", GOOD, w=torch.zeros(4).to(torch.float8_e4m3fn))
    _, state = load_checkpoint(path, "thing")
    assert torch.equal(state["w"].float(), torch.zeros(4))


def test_fingerprint_is_what_its_documentation_says() -> None:
    weights = torch.tensor([[1.0, -2.0]])
    count = torch.tensor(3)
    digest = hashlib.sha256()
    digest.update(b"0/a()" + struct.pack("<q", 3))
    digest.update(b"0/w(1, 2)" + struct.pack("<2f", 1, -2))
    assert fingerprint({"w": weights, "a": count}) == digest.digest()[:8]
    assert fingerprint({"w": weights, "a": count}).hex() == "30c990943328e907"


def test_fingerprint_does_not_depend_on_order_layout_or_precision() -> None:
    weights = torch.randn(2, 3, 4, 5).half()
    expected = fingerprint({"a": weights, "b": torch.ones(1)})
    assert fingerprint({"b": torch.ones(1), "a": weights}) == expected
    assert fingerprint({"a": weights.to(memory_format=torch.channels_last), "b": torch.ones(1)}) == expected
    assert fingerprint({"a": weights.float(), "b": torch.ones(1).half()}) == expected
    assert fingerprint({"a": weights.double(), "b": torch.nn.Parameter(torch.ones(1))}) == expected


def test_fingerprint_depends_on_everything_else() -> None:
    base = {"a": torch.zeros(2, 2), "b": torch.ones(1)}
    changed = torch.zeros(2, 2)
    changed[1, 0] = 1e-30
    others = [
        fingerprint({**base, "a": changed}),
        fingerprint({**base, "a": torch.zeros(4)}),
        fingerprint({"c": base["a"], "b": base["b"]}),
        fingerprint({"a": base["a"]}),
        fingerprint({"a": base["a"]}, {"b": base["b"]}),
        fingerprint({"b": base["b"]}, {"a": base["a"]}),
        fingerprint(),
    ]
    assert len({fingerprint(base), *others}) == len(others) + 1


def test_saved_bytes_are_a_plain_safetensors_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", "thing", {"x": 1}, {"w": torch.ones(2)})
    text = json.dumps({"format": 1, "kind": "thing", "x": 1}, sort_keys=True)
    assert (tmp_path / "a").read_bytes() == save({"w": torch.ones(2)}, {"featcodec": text})
