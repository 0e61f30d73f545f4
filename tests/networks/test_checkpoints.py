"""featcodec's own checkpoints: a round trip, refusals, fingerprints, and the loader of all networks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal_of
from safetensors.torch import save, save_file
from torch import nn

from featcodec.errors import FeatcodecError, InputError, OutputError, WeightsError
from featcodec.networks import checkpoints
from featcodec.networks.checkpoints import (
    check_fingerprint,
    check_sizes,
    check_split,
    config_from,
    fingerprint,
    kind_of,
    load_checkpoint,
    load_network,
    refusing,
    save_checkpoint,
    store_half,
)


def refusal(path: Path, kind: str = "thing") -> str:
    return refusal_of(WeightsError, path, lambda path: load_checkpoint(path, kind))


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


def test_a_copy_in_half_precision_of_any_kind(tmp_path: Path) -> None:
    state = {"a.weight": torch.randn(3, 4), "n": torch.tensor(7)}
    save_checkpoint(tmp_path / "a.safetensors", "thing", {"size": 3}, state)
    store_half(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    config, loaded = load_checkpoint(tmp_path / "b.safetensors", "thing")
    assert config == load_checkpoint(tmp_path / "a.safetensors", "thing")[0]
    assert torch.equal(loaded["a.weight"], state["a.weight"].half())
    assert loaded["n"] == 7
    save_checkpoint(tmp_path / "large.safetensors", "thing", {}, {"a": torch.tensor([1e6])})
    with pytest.raises(WeightsError, match="too large for float16"):
        store_half(tmp_path / "large.safetensors", tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()


def test_the_kind_is_what_the_file_says(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", "thing", {}, {"a": torch.zeros(1)})
    assert kind_of(tmp_path / "a.safetensors") == "thing"
    for number, config in enumerate(("[]", "{}", '{"kind": 3}', "null")):
        assert kind_of(write(tmp_path / f"{number}.safetensors", config)) == ""
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    for path in (tmp_path / "x.safetensors", tmp_path / "missing.safetensors", tmp_path):
        refusal_of(WeightsError, path, kind_of)


def test_fields_of_later_versions_have_their_defaults(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Config:
        old: int
        new: int = 5
        flag: bool = False

    assert config_from(Config, {"old": 1}, later=("new", "flag")) == Config(1)
    assert config_from(Config, {"old": 1, "new": 2, "flag": True}, later=("new", "flag")) == Config(1, 2, flag=True)
    for content in ({"new": 2}, {"old": 1, "flag": True}):
        with pytest.raises(ValueError, match="is missing"):
            config_from(Config, content, later=("flag",))
    for flag in (1, "yes", None):
        with pytest.raises(TypeError, match="flag holds"):
            config_from(Config, {"old": 1, "flag": flag}, later=("new", "flag"))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "no such file; check the path" in refusal(tmp_path / "absent")
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
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 1 << 20)
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
    assert f"has format {version}" in message
    assert "update" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    weights = torch.zeros(5, dtype=dtype)
    weights[3] = value
    assert "not finite" in refusal(write(tmp_path / "a", GOOD, good=torch.ones(2), bad=weights))


@pytest.mark.parametrize(
    "dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "C64", "U16", "U32", "U64", "F128", ""]
)
def test_numbers_that_featcodec_never_writes_are_refused(tmp_path: Path, dtype: str) -> None:
    entry = {"dtype": dtype, "shape": [16], "data_offsets": [0, 16]}
    assert f"'w' holds numbers of the type '{dtype}'" in refusal(lying(tmp_path / "a", {"w": entry}, bytes(16)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int32, torch.int8, torch.uint8, torch.bool])
def test_other_plain_numbers_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    numbers = torch.tensor([0, 1]).to(dtype)
    assert torch.equal(load_checkpoint(write(tmp_path / "a", GOOD, w=numbers), "thing")[1]["w"], numbers)


def lying(path: Path, tensors: Any, data: bytes = b"", config: Any = None) -> Path:
    """A safetensors file with any header."""
    metadata = {"__metadata__": {"featcodec": json.dumps(config or GOOD)}}
    header = tensors if isinstance(tensors, bytes) else json.dumps({**metadata, **tensors}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def entry(*offsets: Any, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "tensors",
    [
        {"a": entry(0, 8), "b": entry(0, 8)},
        {"a": entry(0, 8), "b": entry(4, 12)},
        {"a": entry(0, 8), "b": entry(12, 20)},
        {"a": entry(4, 12)},
        {"a": entry(0, 8)},
        {"a": entry(8, 0)},
        {"a": entry(-8, 0)},
        {"a": entry(0, 8, 16)},
        {"a": entry(0.0, 8.0)},
        {"a": entry("0", "8")},
        {"a": entry(0, 1 << 70)},
        {"a": entry(0, 8, shape=[1 << 62])},
        {"a": entry(0, 8, shape=[1 << 40, 1 << 40])},
        {"a": entry(0, 8, shape=[-2])},
        {"a": entry(0, 8, shape=[True, 2])},
        {"a": entry(0, 8, shape=2)},
        {"a": entry(0, 8, shape="2")},
        {"a": entry(0, 8, shape=[1] * 1000)},
        {"a": entry(0, 8, shape=[3])},
        {"a": entry(0, 8, dtype=["F32"])},
        {"a": entry(0, 8, dtype=None)},
        {"a": {"dtype": "F32"}},
        {"a": {**entry(0, 8), "more": 1}},
        {"a": []},
        {"a": None},
        {"__metadata__": {"featcodec": {"kind": "thing"}}},
        {"__metadata__": {"featcodec": None}},
        {"__metadata__": []},
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b"{} {}",
        b"{" + b" " * 1000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
        b"\xff\xfe",
        b'{"__metadata__":{"featcodec":"{}"},"__metadata__":{"featcodec":"{}"}}',
        b'{"__metadata__":{"featcodec":"{}","featcodec":"{}"}}',
    ],
    ids=lambda tensors: str(tensors)[:60],
)
def test_headers_that_lie_are_refused(tmp_path: Path, tensors: Any) -> None:
    assert "not a safetensors checkpoint (" in refusal(lying(tmp_path / "a", tensors, bytes(20)))


def test_a_key_twice_in_the_config_is_refused(tmp_path: Path) -> None:
    text = '{"kind": "thing", "format": 1, "kind": "thing"}'
    assert "a key twice" in refusal(write(tmp_path / "a", text))


MEASURE = """
import resource, sys
from pathlib import Path
from featcodec.errors import WeightsError
from featcodec.networks.checkpoints import load_checkpoint

for file in map(Path, sys.argv[1:]):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load_checkpoint(file, "thing")
        print(file.name, "loaded")
    except WeightsError:
        pass
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before >> 10
    if grown > 200:
        print(file.name, grown, "MiB")
"""


@pytest.mark.slow
def test_large_claims_cost_no_memory(tmp_path: Path) -> None:
    """Files of 200 MiB to 1 GiB, most of it a hole on the disk."""
    one = 200 << 20
    headers: dict[str, Any] = {
        "8 bits": {"w": entry(0, one, shape=[one], dtype="F8_E4M3")},
        "bool": {"w": entry(0, one, shape=[one], dtype="BOOL")},
        "half": {"w": entry(0, 2 * one, shape=[one + one // 2], dtype="F16")},
        "many": {str(index): entry(0, 0, shape=[0]) for index in range(200_000)},
        "deep": b"[" * (8 << 20),
        "lists": b"[" + b"[]," * (2 << 20) + b"[]]",
        "long": b"{" + b" " * (99 << 20) + b"}",
    }
    files = []
    for name, tensors in headers.items():
        files.append(lying(tmp_path / name, tensors))
        with files[-1].open("r+b") as file:
            file.truncate(files[-1].stat().st_size + (one if name == "8 bits" else 3 * one if name == "half" else 0))
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, *files], capture_output=True, text=True, timeout=120, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


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


# The loader of networks


@dataclasses.dataclass(frozen=True)
class Config:
    """One field of every type that configs have."""

    width: int
    gain: float
    model_fingerprint: str
    repeats: tuple[int, int]
    anchors: tuple[tuple[float, float], ...]
    training: dict[str, Any]


CONFIG = Config(4, 0.5, "0011223344556677", (2, 1), ((1.0, 2.0), (3.0, 4.0)), {"steps": [1, 2]})
OLD_KEYS = {"model_fingerprint": "codec_fingerprint"}


class Net(nn.Module):
    """Floats, a counter, what the config alone says, and a parameter of values that are made, not random."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.body = nn.Sequential(nn.Conv2d(3, config.width, 1), nn.BatchNorm2d(config.width))
        self.places = nn.Parameter(torch.arange(config.width).float())
        self.register_buffer("anchors", torch.tensor(config.anchors, device="cpu"))
        self.register_buffer("allowed", torch.tensor([True, False], device="cpu"), persistent=False)


def trained() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = Net(CONFIG)
    with torch.no_grad():
        net.places += 0.25
    net.body[1].num_batches_tracked += 7
    return net


def stored_state(net: Net) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in net.state_dict().items() if name != "anchors"}


def load_net(path: Path) -> Net:
    return load_network(path, "thing", lambda content: config_from(Config, content, OLD_KEYS), Net)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.bfloat16], ids=str)
def test_a_network_is_read_back_frozen_in_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: one.to(dtype) if one.is_floating_point() else one for name, one in stored_state(trained()).items()}
    save_checkpoint(tmp_path / "a", "thing", dataclasses.asdict(CONFIG), state)
    net = load_net(tmp_path / "a")
    assert net.config == CONFIG
    for name, tensor in stored_state(net).items():
        assert torch.equal(tensor, state[name].float() if state[name].is_floating_point() else state[name]), name
    assert {one.dtype for one in net.state_dict().values()} == {torch.float32, torch.int64}
    assert {one.device.type for one in (*net.parameters(), *net.buffers())} == {"cpu"}
    assert not any(module.training for module in net.modules())
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_what_follows_from_the_config_has_its_values(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", "thing", dataclasses.asdict(CONFIG), stored_state(trained()))
    net = load_net(tmp_path / "a")
    assert net.get_buffer("anchors").tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert net.get_buffer("allowed").tolist() == [True, False]
    assert net.places.tolist() == [0.25, 1.25, 2.25, 3.25]


def test_the_random_numbers_of_a_run_do_not_depend_on_what_it_loads(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", "thing", dataclasses.asdict(CONFIG), stored_state(trained()))
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_net(tmp_path / "a")
    assert torch.equal(torch.rand(3), expected)


def network_refusal(path: Path, read: Callable[..., Any] | None = None) -> str:
    with pytest.raises(WeightsError) as caught:
        load_network(path, "thing", read or (lambda content: config_from(Config, content)), Net)
    message = str(caught.value)
    assert message.startswith(f"{path}: its config does not fit its weights (")
    assert message.endswith("); train it again")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 300
    return message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"places": None}, "places is missing"),
        ({"spy": torch.zeros(1)}, "spy is not one of its tensors"),
        ({"anchors": torch.zeros(2, 2)}, "anchors is not one of its tensors"),
        ({"allowed": torch.zeros(2)}, "allowed is not one of its tensors"),
        ({"places": torch.zeros(5)}, "places is (5,), not (4,)"),
        ({"places": torch.zeros(4, dtype=torch.int64)}, "places holds torch.int64"),
        ({"body.1.num_batches_tracked": torch.tensor(1.0)}, "body.1.num_batches_tracked holds torch.float32"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    state = {name: one for name, one in {**stored_state(trained()), **changes}.items() if one is not None}
    save_checkpoint(tmp_path / "a", "thing", dataclasses.asdict(CONFIG), state)
    assert f"({reason})" in network_refusal(tmp_path / "a")


def test_large_claims_allocate_nothing(tmp_path: Path) -> None:
    config = {**dataclasses.asdict(CONFIG), "width": 1 << 40}
    save_checkpoint(tmp_path / "a", "thing", config, stored_state(trained()))
    assert "(4,), not (1099511627776,)" in network_refusal(tmp_path / "a")


def test_a_buffer_that_is_left_without_values_is_a_fault_of_ours(tmp_path: Path) -> None:
    class Forgetful(nn.Module):
        def __init__(self, config: Config) -> None:
            super().__init__()
            self.register_buffer("forgotten", torch.zeros(config.width), persistent=False)

    save_checkpoint(tmp_path / "a", "thing", dataclasses.asdict(CONFIG), {})
    with pytest.raises(AssertionError, match="forgotten"):
        load_network(tmp_path / "a", "thing", lambda content: config_from(Config, content), Forgetful)


@pytest.mark.parametrize(
    "error",
    [
        *(
            kind("two\nlines")
            for kind in (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError)
        ),
        *(
            FeatcodecError("of ours"),
            InputError("of ours"),
            WeightsError("x" * 5000),
            RuntimeError(""),
            RecursionError(),
        ),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error)[:10]!r}",
)
def test_whatever_fails_becomes_one_line(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(WeightsError) as caught, refusing(tmp_path / "a", "strange", "look again"):
        raise error
    reason = str(caught.value).removeprefix(f"{tmp_path / 'a'}: strange (").removesuffix("); look again")
    assert 0 < len(reason) <= 200
    assert "\n" not in str(caught.value)


def test_what_is_not_the_files_fault_passes(tmp_path: Path) -> None:
    for error in (KeyboardInterrupt, MemoryError, AssertionError):
        with pytest.raises(error), refusing(tmp_path / "a", "strange", "look again"):
            raise error


# Configs and their checks


def test_a_config_survives_json() -> None:
    assert config_from(Config, json.loads(json.dumps({**dataclasses.asdict(CONFIG), "more": 1}))) == CONFIG


def test_a_whole_number_will_do_for_a_float() -> None:
    gain = config_from(Config, {**dataclasses.asdict(CONFIG), "gain": 3}).gain
    assert (gain, type(gain)) == (3.0, float)


def test_a_key_that_was_renamed_is_found_under_both_names() -> None:
    content = dataclasses.asdict(CONFIG)
    older = {OLD_KEYS.get(name, name): value for name, value in content.items()}
    assert config_from(Config, older, OLD_KEYS) == config_from(Config, content, OLD_KEYS) == CONFIG
    both = {**content, "codec_fingerprint": "of no account"}
    assert config_from(Config, both, OLD_KEYS) == CONFIG
    with pytest.raises(ValueError, match="model_fingerprint is missing"):
        config_from(Config, older)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Config)])
def test_every_field_is_needed(name: str) -> None:
    content = {key: value for key, value in dataclasses.asdict(CONFIG).items() if key != name}
    with pytest.raises(ValueError, match=f"^{name} is missing$"):
        config_from(Config, content)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@pytest.mark.slow
@given(name=st.sampled_from([field.name for field in dataclasses.fields(Config)]), value=JSON_VALUES)
def test_a_config_has_its_types_or_is_refused(name: str, value: Any) -> None:
    try:
        config = config_from(Config, {**dataclasses.asdict(CONFIG), name: value})
    except (OverflowError, TypeError, ValueError):
        return
    assert type(config.width) is int
    assert type(config.gain) is float
    assert type(config.model_fingerprint) is str
    assert [type(one) for one in config.repeats] == [int, int]
    assert all([type(one) for one in pair] == [float, float] for pair in config.anchors)
    assert type(config.training) is dict


@pytest.mark.slow
@given(
    low=st.integers(-5, 5), span=st.integers(0, 9), sizes=st.lists(st.integers(-9, 19) | st.booleans() | st.floats())
)
def test_sizes_are_whole_numbers_within_bounds(low: int, span: int, sizes: list[Any]) -> None:
    if all(type(size) is int and low <= size <= low + span for size in sizes):
        check_sizes("channels", sizes, low, low + span)
    else:
        with pytest.raises(ValueError, match=f"^channels .*: not whole numbers within {low}..{low + span}$"):
            check_sizes("channels", sizes, low, low + span)


@pytest.mark.parametrize("split", [-1, 128, True, False, 4.0, "4", None])
def test_splits_that_are_none_are_refused(split: Any) -> None:
    for good in range(128):
        check_split(good)
    with pytest.raises(ValueError, match="split"):
        check_split(split)


@pytest.mark.parametrize(
    "digits", ["", "00", "0" * 17, "0" * 15 + "g", "0" * 15 + "A", "0" * 16 + "\n", 7, None, b"0" * 16]
)
def test_fingerprints_are_16_hex_digits(digits: Any) -> None:
    check_fingerprint("codec fingerprint", "0123456789abcdef")
    with pytest.raises(ValueError, match=r"^codec fingerprint .*: not 16 hex digits$"):
        check_fingerprint("codec fingerprint", digits)


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "endless", tmp_path):
        assert "not a regular file" in refusal(path)
