"""Hostile, damaged and unfit checkpoints: each ends in a WeightsError that names the file, and none runs its code."""

from __future__ import annotations

import copy
import os
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from make_checkpoints import make_yolov5, save_yolov5, write_archive, yolov5_modules
from refusals import refusal_of
from torch import nn

from featcodec.detectors import archive, load_detector
from featcodec.detectors.unpickle import ModuleRecord, read_checkpoint
from featcodec.errors import WeightsError


def refusal(path: Path) -> str:
    """The message of the refusal, less the path that it must begin with."""
    message = refusal_of(WeightsError, path, read_checkpoint)
    return message.removeprefix(f"{path}: ")


def call(module: str, name: str, argument: str) -> bytes:
    """A protocol 2 pickle that calls a function with a string."""
    text = argument.encode()
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X" + struct.pack("<I", len(text)) + text + b"\x85R."


class Runs:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.slow
def test_original_checkpoint_becomes_records(tiny_yolov5: Path) -> None:
    record = read_checkpoint(tiny_yolov5)
    layers = record.children["model"].children
    assert (record.kind, record.package) == ("Model", "yolov5")
    assert list(layers) == [str(index) for index in range(25)]
    assert [layers[name].kind for name in ("0", "4", "9", "11", "12", "24")] == [
        *("Conv", "C3", "SPPF", "Upsample", "Concat", "Detect")
    ]
    assert layers["12"].attributes["f"] == [-1, 6]
    assert layers["24"].tensors["anchors"].shape == (3, 3, 2)
    state = record.state()
    assert state["model.4.cv3.conv.weight"].shape == (16, 16, 1, 1)
    assert state["model.4.cv3.conv.weight"].dtype == torch.float16
    with yolov5_modules():
        model = torch.load(tiny_yolov5, weights_only=False)["model"]
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.slow
def test_ultralytics_checkpoint_becomes_records(tiny_yolov5u: Path) -> None:
    record = read_checkpoint(tiny_yolov5u)
    assert (record.kind, record.package) == ("DetectionModel", "ultralytics")
    assert len(record.children["model"].children) == 25


@pytest.mark.slow
def test_ema_comes_before_model(tmp_path: Path) -> None:
    path = save_yolov5(tmp_path / "a.pt", make_yolov5(), ema=make_yolov5(names=["x", "y", "z"]))
    assert read_checkpoint(path).attributes["names"] == ["x", "y", "z"]


@pytest.mark.slow
def test_bare_model_is_read(tmp_path: Path) -> None:
    with yolov5_modules():
        torch.save(make_yolov5(), tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt").kind == "Model"


def test_safe_globals_of_others_do_not_matter(tiny_yolov5u: Path) -> None:
    """ultralytics registers its classes for the whole process when it loads a model itself."""
    from ultralytics.nn.modules import Conv
    from ultralytics.nn.tasks import DetectionModel

    before = set(torch.serialization.get_safe_globals())
    with torch.serialization.safe_globals([Conv, DetectionModel, nn.Conv2d]):
        record = read_checkpoint(tiny_yolov5u)
        assert {Conv, DetectionModel, nn.Conv2d} <= set(torch.serialization.get_safe_globals())
    assert record.children["model"].children["0"].children["conv"].kind == "Conv2d"
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("subprocess", "Popen"),
        ("torch.nn.modules.conv", "Conv1d"),
        ("torch.hub", "load"),
        ("models.yolo", "SegmentationModel"),
        ("models.common", "os.system"),
    ],
)
def test_unlisted_name_is_refused_by_name(tmp_path: Path, module: str, name: str) -> None:
    marker = tmp_path / "marker"
    path = write_archive(tmp_path / "a.pt", call(module, name, f"touch {marker}"))
    message = refusal(path)
    assert f"{module}.{name}".replace("__builtin__", "") in message
    assert not marker.exists()


@pytest.mark.parametrize("place", ["model", "ema", "date", "nested"])
def test_nothing_is_executed(tmp_path: Path, place: str) -> None:
    marker = tmp_path / "marker"
    trap: Any = Runs(f"touch {marker}")
    if place == "nested":
        model = make_yolov5()
        model.model[3].conv.trap = trap
        path = save_yolov5(tmp_path / "a.pt", model)
    else:
        path = save_yolov5(tmp_path / "a.pt", make_yolov5(), **{place: trap})
    with yolov5_modules():
        torch.load(path, weights_only=False)
    assert marker.exists(), "the trap is not armed, so this test would prove nothing"
    marker.unlink()
    assert "system" in refusal(path)
    assert not marker.exists()


def test_later_pickle_protocol_hides_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    command = f"touch {marker}".encode()
    pickled = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(command)]) + command + b"\x85R."
    refusal(write_archive(tmp_path / "a.pt", pickled))
    assert not marker.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"not a checkpoint\n", b"PK\x03\x04", call("os", "system", "true")], ids=repr
)
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    assert "not a PyTorch checkpoint" in refusal(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.pt")
    (tmp_path / "folder.pt").mkdir()
    refusal(tmp_path / "folder.pt")


@pytest.mark.parametrize("kept", [0.001, 0.1, 0.5, 0.9, 0.9999])
def test_truncated_archive_is_refused(tmp_path: Path, tiny_yolov5: Path, kept: float) -> None:
    data = tiny_yolov5.read_bytes()
    (tmp_path / "a.pt").write_bytes(data[: int(len(data) * kept)])
    assert "download it again" in refusal(tmp_path / "a.pt")


def test_overwritten_pickle_is_refused(tmp_path: Path, tiny_yolov5: Path) -> None:
    data = bytearray(tiny_yolov5.read_bytes())
    pickle_at = data.index(b"data.pkl") + 200
    data[pickle_at : pickle_at + 40] = bytes(40)
    (tmp_path / "a.pt").write_bytes(data)
    refusal(tmp_path / "a.pt")


def test_polyglot_with_a_legacy_pickle_in_front_is_refused(tmp_path: Path, tiny_yolov5: Path) -> None:
    """zipfile allows anything in front of an archive; torch would read such a file as its older format."""
    marker = tmp_path / "marker"
    (tmp_path / "a.pt").write_bytes(call("os", "system", f"touch {marker}") + tiny_yolov5.read_bytes())
    refusal(tmp_path / "a.pt")
    assert not marker.exists()


@pytest.mark.parametrize("pickled", [b"", b".", b"\x80\x02", b"\x80\x02}", b"garbage", b"\x80\x02h\x05.", b"\xff" * 99])
def test_broken_pickle_is_refused(tmp_path: Path, pickled: bytes) -> None:
    refusal(write_archive(tmp_path / "a.pt", pickled))


def test_archive_without_a_pickle_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refusal(tmp_path / "a.pt")


def test_archive_that_claims_gigabytes_is_refused(tmp_path: Path, tiny_yolov5: Path) -> None:
    data = bytearray(tiny_yolov5.read_bytes())
    entry = data.index(b"PK\x01\x02")  # the first entry of the central directory
    data[entry + 24 : entry + 28] = struct.pack("<I", 0xFFFFFFF0)  # its uncompressed size
    (tmp_path / "a.pt").write_bytes(data)
    assert "unpacks to 40" in refusal(tmp_path / "a.pt")  # 4096 MiB and a bit


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    """A few bytes could unpack to gigabytes; torch.save compresses nothing."""
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(3 << 20))
    assert (tmp_path / "a.pt").stat().st_size < 10_000
    assert "it is compressed" in refusal(tmp_path / "a.pt")


@pytest.mark.slow
def test_tensor_of_stride_0_is_refused(tmp_path: Path) -> None:
    model = make_yolov5()
    model.model[0].conv.weight = nn.Parameter(torch.zeros(1).half().expand(1 << 20, 1 << 14, 6, 6), requires_grad=False)
    path = save_yolov5(tmp_path / "a.pt", model)
    assert path.stat().st_size < 1 << 20
    assert "weight claims more numbers than the file holds" in refusal(path)


def test_storage_larger_than_its_record_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(4), tmp_path / "honest.pt")
    with zipfile.ZipFile(tmp_path / "honest.pt") as honest:
        pickled = honest.read("honest/data.pkl")
    lying = pickled.replace(b"K\x04", b"J" + struct.pack("<i", 100_000_000))
    assert lying != pickled
    refusal(write_archive(tmp_path / "a.pt", lying, **{"0": bytes(16)}))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_sparse_tensor_is_refused(tmp_path: Path) -> None:
    model = make_yolov5()
    model.model[0].bn.running_mean = torch.eye(4).to_sparse()
    assert "running_mean is not a plain tensor" in refusal(save_yolov5(tmp_path / "a.pt", model))


@pytest.mark.slow
def test_module_that_contains_itself_is_refused(tmp_path: Path) -> None:
    model = make_yolov5()
    model.model[2]._modules["again"] = model.model
    assert "without end" in refusal(save_yolov5(tmp_path / "a.pt", model))


@pytest.mark.slow
def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    model = make_yolov5()
    for _ in range(30):
        model.model[11] = nn.Sequential(model.model[11])
    assert "without end" in refusal(save_yolov5(tmp_path / "a.pt", model))


@pytest.mark.slow
@pytest.mark.timeout(20)
def test_tree_that_doubles_at_every_level_is_refused(tmp_path: Path) -> None:
    model = make_yolov5()
    part: nn.Module = nn.SiLU()
    for _ in range(14):
        part = nn.Sequential(part, part)
    model.model[11] = part
    assert "without end" in refusal(save_yolov5(tmp_path / "a.pt", model))


def damage_modules(model: nn.Module) -> None:
    model.model[3]._modules = 5  # type: ignore[assignment]


def damage_parameters(model: nn.Module) -> None:
    model.model[3].conv._parameters = {"weight": "heavy"}  # type: ignore[dict-item]


def damage_buffers(model: nn.Module) -> None:
    model.model[3].bn._buffers = [1, 2]  # type: ignore[assignment]


def damage_names(model: nn.Module) -> None:
    model.model[3]._modules[5] = nn.SiLU()  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [damage_modules, damage_parameters, damage_buffers, damage_names])
def test_damaged_tree_is_refused(tmp_path: Path, damage: Callable[[nn.Module], None]) -> None:
    model = make_yolov5()
    broken = copy.deepcopy(model)
    damage(broken)
    assert "damaged" in refusal(save_yolov5(tmp_path / "a.pt", broken))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"epoch": 3},
        {"model": None},
        {"model": {"0.weight": torch.zeros(2)}},
        {"model": OrderedDict(a=torch.zeros(2))},
        {"model": torch.zeros(2)},
        {"ema": torch.zeros(2), "model": None},
        {"model": "yolov5n"},
        {"model": 1.5},
        [],
        [1, 2],
        None,
        "text",
        torch.zeros(3),
    ],
    ids=repr,
)
def test_checkpoint_without_a_model_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pt")
    assert "holds no model" in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 3, 1),
        nn.Sequential(nn.SiLU(), nn.SiLU()),
        nn.SiLU(),
        Path("x"),
        nn.ModuleDict,
    ],
    ids=lambda module: type(module).__name__,
)
def test_another_kind_of_module_is_no_detector(tmp_path: Path, module: Any) -> None:
    torch.save({"model": module}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"detection checkpoint|download it again") as caught:
        load_detector(tmp_path / "a.pt", device="cpu")
    assert str(caught.value).startswith(f"{tmp_path / 'a.pt'}: ")


def test_state_names_nested_tensors() -> None:
    inner = ModuleRecord("Conv2d", "torch", {}, {"weight": torch.ones(1)})
    outer = ModuleRecord("Conv", "yolov5", {}, {"scale": torch.ones(2)}, {"conv": inner})
    assert list(outer.state("layer.")) == ["layer.scale", "layer.conv.weight"]


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    assert "not a regular file" in refusal(tmp_path / "pipe.pt")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_CHECKPOINT_BYTES", 1 << 20)
    with (tmp_path / "a.pt").open("wb") as file:
        file.truncate((1 << 20) + 1)
    assert "over 1 MiB, larger than any detector" in refusal(tmp_path / "a.pt")
