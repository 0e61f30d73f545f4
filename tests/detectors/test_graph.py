"""Rebuilding: the rebuilt network computes what the stored one computed, and damaged records are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from make_checkpoints import (
    C3,
    Bottleneck,
    Conv,
    DetectionModel,
    Model,
    make_yolov5,
    make_yolov5u,
    save_yolov5,
    save_yolov5u,
)
from refusals import refusal_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from featcodec.detectors import load_detector
from featcodec.detectors.graph import build_layers
from featcodec.detectors.unpickle import read_checkpoint
from featcodec.errors import WeightsError

Damage = Callable[[Any], Any]


def pictures() -> Tensor:
    return torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(3))


def rebuilt(path: Path, **options: Any) -> Tensor:
    """Predictions of the rebuilt detector."""
    detector = load_detector(path, device="cpu", **options)
    with torch.inference_mode():
        return detector.back(detector.front(pictures()))


def original(model: Model) -> Tensor:
    """Predictions of a fake YOLOv5 in featcodec's layout: objectness times class scores, boxes last."""
    with torch.inference_mode():
        rows = copy.deepcopy(model).float()(pictures())
    return torch.cat((rows[..., :4], rows[..., 5:] * rows[..., 4:5]), -1).transpose(1, 2)


def assert_same_predictions(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    """Equal within the tolerance: scores as they are, boxes relative to the picture's 128 pixels."""
    assert ours.shape == theirs.shape
    assert theirs.isfinite().all()
    assert theirs[:, 4:].std() > 0.01, "degenerate scores prove nothing"
    assert (ours[:, :4] - theirs[:, :4]).abs().max() < tolerance * 128
    assert (ours[:, 4:] - theirs[:, 4:]).abs().max() < tolerance


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Model, DetectionModel])
@pytest.mark.parametrize("fuse", [False, True])
def test_original_checkpoint_computes_as_before(tmp_path: Path, kind: type[Model], fuse: bool) -> None:
    model = make_yolov5(kind=kind, seed=5)
    path = save_yolov5(tmp_path / "a.pt", model)
    assert_same_predictions(rebuilt(path, fuse=fuse), original(model))


@pytest.mark.slow
def test_more_classes(tmp_path: Path) -> None:
    model = make_yolov5([f"kind{index}" for index in range(11)], classes=11)
    path = save_yolov5(tmp_path / "a.pt", model)
    predictions = rebuilt(path)
    assert predictions.shape[1] == 4 + 11
    assert_same_predictions(predictions, original(model))


@pytest.mark.slow
def test_details_beside_the_weights_are_honoured(tmp_path: Path) -> None:
    """Activations, BatchNorm's eps, missing shortcuts and anchors are no weights, but change the result."""
    model = make_yolov5()
    plain = original(model)
    model.model[0].act = nn.LeakyReLU(0.3)
    model.model[1].act = nn.Hardswish()
    model.model[3].act = nn.ReLU()
    model.model[5].bn.eps = 0.5
    for block in model.model[6].m:
        block.add = False
    model.model[24].anchors *= 1.5
    path = save_yolov5(tmp_path / "a.pt", model)
    changed = original(model)
    assert (changed - plain).abs().max() > 1
    assert_same_predictions(rebuilt(path, fuse=False), changed)
    assert_same_predictions(rebuilt(path, fuse=True), changed, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("hidden", "width"), [(15, 22), (31, 39), (1, 49), (29, 49)])
def test_c3_of_any_ratio_is_rebuilt(tmp_path: Path, hidden: int, width: int) -> None:
    """C3 takes its hidden width as a fraction, and truncates; in floating point 22 * (15 / 22) is less than 15."""
    model = make_yolov5()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block, following = C3(8, width, 1), Conv(width, 16, 3, 2)
        block.cv1, block.cv2, block.cv3 = Conv(8, hidden), Conv(8, hidden), Conv(2 * hidden, width)
        block.m = nn.Sequential(Bottleneck(hidden, True))
    for index, layer in ((2, block), (3, following)):
        layer.i, layer.f, layer.type = index, -1, type(layer).__name__
        model.model[index] = layer.eval().requires_grad_(False).half()
    path = save_yolov5(tmp_path / "a.pt", model)
    layers = build_layers(read_checkpoint(path))
    assert layers[2].module.cv1.conv.weight.shape[0] == hidden
    assert_same_predictions(rebuilt(path), original(model))


@pytest.mark.slow
@pytest.mark.parametrize("old_sppf", [False, True], ids=["identity", "silu"])
@pytest.mark.parametrize("fuse", [False, True])
def test_ultralytics_checkpoint_computes_as_before(tmp_path: Path, old_sppf: bool, fuse: bool) -> None:
    model = make_yolov5u(old_sppf=old_sppf)
    path = save_yolov5u(tmp_path / "a.pt", model)
    with torch.inference_mode():
        theirs = copy.deepcopy(model).float()(pictures())[0]
        model.model[9].cv1.act = nn.Identity() if old_sppf else nn.SiLU()
        otherwise = model.float()(pictures())[0]
    assert_same_predictions(rebuilt(path, fuse=fuse), theirs, 1e-3 if fuse else 1e-4)
    assert (otherwise - theirs).abs().max() > 0.1, "the two activations would not be told apart"


@pytest.mark.slow
@pytest.mark.parametrize("which", ["tiny_yolov5", "tiny_yolov5u"])
def test_fused_and_unfused_agree(request: pytest.FixtureRequest, which: str) -> None:
    path = request.getfixturevalue(which)
    assert_same_predictions(rebuilt(path, fuse=True), rebuilt(path, fuse=False), 1e-3)


@pytest.mark.slow
def test_fused_detector_has_no_batchnorm(tiny_yolov5: Path) -> None:
    def count(fuse: bool) -> int:
        modules = load_detector(tiny_yolov5, device="cpu", fuse=fuse).modules()
        return sum(isinstance(module, nn.BatchNorm2d) for module in modules)

    assert count(fuse=True) == 0
    assert count(fuse=False) > 50


def test_layers_are_frozen_float32_in_eval_mode(tiny_yolov5: Path) -> None:
    layers = build_layers(read_checkpoint(tiny_yolov5))
    assert [layer.sources for layer in layers[:2]] == [(-1,), (0,)]
    assert [layers[index].sources for index in (12, 16, 19, 22, 24)] == [
        *((11, 6), (15, 4), (18, 14), (21, 10), (17, 20, 23))
    ]
    for layer in layers:
        assert not any(module.training for module in layer.module.modules())
        assert all(tensor.dtype == torch.float32 and not tensor.requires_grad for tensor in layer.module.parameters())


def drop(path: str) -> Damage:
    """Removes a submodule."""

    def damage(model: Any) -> None:
        holder, _, name = path.rpartition(".")
        del model.get_submodule(holder)._modules[name]

    return damage


def forget(path: str, name: str) -> Damage:
    """Removes an attribute."""
    return lambda model: model.get_submodule(path).__dict__.pop(name)


def put(path: str, name: str, value: Any) -> Damage:
    """Sets an attribute, a tensor or a submodule."""

    def damage(model: Any) -> None:
        holder = model.get_submodule(path)
        if name in holder._parameters:
            value_ = value if value is None else nn.Parameter(value, requires_grad=False)
            holder._parameters[name] = value_
        elif name in holder._buffers:
            holder._buffers[name] = value
        elif name in holder._modules:
            holder._modules[name] = value
        else:
            holder.__dict__[name] = value

    return damage


def nested_list(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def leaky_without_slope(model: Any) -> None:
    model.model[3].act = nn.LeakyReLU()
    del model.model[3].act.__dict__["negative_slope"]


DAMAGES: dict[str, Damage] = {
    "no layers": drop("model"),
    "layers are no modules": put("", "model", None),
    "one layer": lambda model: model._modules.update(model=nn.Sequential(model.model[0])),
    "no convolution": drop("model.3.conv"),
    "no batchnorm": drop("model.3.bn"),
    "no activation": drop("model.3.act"),
    "no part of C3": drop("model.4.cv2"),
    "no bottlenecks": drop("model.4.m"),
    "no last part of C3": drop("model.4.cv3"),
    "no part of SPPF": drop("model.9.m"),
    "no part of a bottleneck": drop("model.4.m.0.cv2"),
    "no outputs": drop("model.24.m"),
    "no output level": drop("model.24.m.1"),
    "no backbone layer": drop("model.2"),
    "no head": drop("model.24"),
    "head is no Detect": put("model", "24", nn.Upsample(None, 2, "nearest")),
    "weight of 3 dimensions": put("model.3.conv", "weight", torch.zeros(16, 8, 3)),
    "weight that is not square": put("model.3.conv", "weight", torch.zeros(16, 8, 3, 5)),
    "empty weight": put("model.3.conv", "weight", torch.zeros(16, 0, 3, 3)),
    "no weight": put("model.3.conv", "weight", None),
    "batchnorm of another width": put("model.3.bn", "weight", torch.zeros(7)),
    "no running mean": put("model.3.bn", "running_mean", None),
    "merge of another width": put("model.4.cv3.conv", "weight", torch.zeros(16, 10, 1, 1)),
    "bottleneck of another width": put("model.4.m.0.cv1.conv", "weight", torch.zeros(4, 4, 1, 1)),
    "no stride": forget("model.3.conv", "stride"),
    "stride is text": put("model.3.conv", "stride", "ab"),
    "stride is None": put("model.3.conv", "stride", None),
    "stride 0": put("model.3.conv", "stride", (0, 0)),
    "negative stride": put("model.3.conv", "stride", (-1, -1)),
    "huge stride": put("model.3.conv", "stride", (10**30, 10**30)),
    "unequal strides": put("model.3.conv", "stride", (2, 1)),
    "stride 3": put("model.3.conv", "stride", (3, 3)),
    "padding that would need gigabytes": put("model.3.conv", "padding", (30_000, 30_000)),
    "infinite padding": put("model.3.conv", "padding", (float("inf"), 0)),
    "negative padding": put("model.3.conv", "padding", (-1, -1)),
    "dilated": put("model.3.conv", "dilation", (2, 2)),
    "grouped": put("model.3.conv", "groups", 2),
    "no eps": forget("model.3.bn", "eps"),
    "eps is text": put("model.3.bn", "eps", "small"),
    "unknown activation": put("model.3", "act", nn.Identity),
    "LeakyReLU without slope": leaky_without_slope,
    "some shortcuts": put("model.6.m.1", "add", False),
    "no shortcut flag": forget("model.6.m.1", "add"),
    "even pool": put("model.9.m", "kernel_size", 4),
    "huge pool": put("model.9.m", "kernel_size", 10001),
    "pool of nothing": put("model.9.m", "kernel_size", None),
    "bilinear upsampling": put("model.11", "mode", "bilinear"),
    "upsampling by 1000": put("model.11", "scale_factor", 1000.0),
    "no upsampling factor": put("model.11", "scale_factor", None),
    "concatenation of one": put("model.12", "f", [-1]),
    "no source": forget("model.12", "f"),
    "source is None": put("model.12", "f", None),
    "source is text": put("model.12", "f", "all"),
    "source is a list of lists": put("model.12", "f", [[6]]),
    "source is deep": put("model.12", "f", nested_list(400)),
    "source is not finite": put("model.12", "f", [float("inf")]),
    "no sources": put("model.12", "f", []),
    "forward source": put("model.12", "f", [-1, 13]),
    "own output": put("model.12", "f", 12),
    "before the picture": put("model.12", "f", [-1, -50]),
    "picture in the neck": put("model.12", "f", [-1, -13]),
    "layer before the split": put("model.12", "f", [-1, 2]),
    "a hundred sources": put("model.12", "f", [6] * 100),
    "two inputs of a convolution": put("model.10", "f", [9, 8]),
    "two levels of three": put("model.24", "f", [17, 20]),
    "levels in another order": put("model.24", "f", [23, 20, 17]),
    "one level": put("model.24", "f", 23),
    "Detect in the middle": lambda model: model.model._modules.update({"11": copy.deepcopy(model.model[24])}),
    "no class count": forget("model.24", "nc"),
    "class count of another number": put("model.24", "nc", 5),
    "class count is text": put("model.24", "nc", "3"),
    "class count 0": put("model.24", "nc", 0),
    "class count huge": put("model.24", "nc", 1 << 40),
    "no strides": forget("model.24", "stride"),
    "two strides": put("model.24", "stride", torch.tensor([8.0, 16.0])),
    "negative strides": put("model.24", "stride", torch.tensor([8.0, 16.0, -32.0])),
    "NaN strides": put("model.24", "stride", torch.tensor([8.0, 16.0, float("nan")])),
    "strides are text": put("model.24", "stride", ["a", "b", "c"]),
    "no anchors": put("model.24", "anchors", None),
    "flat anchors": put("model.24", "anchors", torch.zeros(18)),
    "too many anchors": put("model.24", "anchors", torch.zeros(3, 4, 2)),
    "two levels of anchors": put("model.24", "anchors", torch.zeros(2, 3, 2)),
    "too few names": put("", "names", ["cat", "dog"]),
    "too many names": put("", "names", ["cat", "dog", "newt", "toad"]),
    "names are text": put("", "names", "abcd"),
    "names are a number": put("", "names", 3),
    "names are a tensor": put("", "names", torch.zeros(2)),
    "names are deep": put("", "names", [nested_list(400), "dog", "newt"]),
    "four upsamplings": lambda model: model.model._modules.update(
        {index: copy.deepcopy(model.model[11]) for index in ("5", "7")}
    ),
    "reflected padding": put("model.3.conv", "padding_mode", "reflect"),
    "stride inside a block": put("model.4.cv2.conv", "stride", (2, 2)),
    "padding inside a block": put("model.4.m.0.cv2.conv", "padding", (0, 0)),
    "pool with a stride": put("model.9.m", "stride", 2),
    "pool without padding": put("model.9.m", "padding", 0),
    "pool of another kind": put("model.9", "m", nn.AvgPool2d(5, 1, 2)),
    "batchnorm of another kind": put("model.3", "bn", nn.InstanceNorm2d(16, affine=True, track_running_stats=True)),
    "transposed convolution": put("model.4.cv2", "conv", nn.ConvTranspose2d(16, 8, 1, bias=False)),
    "concatenation of rows": put("model.12", "d", 2),
    "SPPF with a shortcut": put("model.9", "add", True),
    "65 layers": lambda model: [model.model.append(copy.copy(model.model[11])) for _ in range(40)],
}


def some_are_slow(names: Iterable[str]) -> list[Any]:
    """One in eight is not: each is short, but they are many and alike."""
    return [pytest.param(name, marks=[pytest.mark.slow] if index % 8 else []) for index, name in enumerate(names)]


@pytest.mark.slow
@pytest.mark.parametrize("name", some_are_slow(DAMAGES))
def test_damaged_original_is_refused(tmp_path: Path, name: str) -> None:
    model = make_yolov5()
    DAMAGES[name](model)
    path = save_yolov5(tmp_path / "a.pt", model)
    assert_refused(path)


DAMAGES_U: dict[str, Damage] = {
    "no box branch": drop("model.24.cv2"),
    "no class branch level": drop("model.24.cv3.1"),
    "no first convolution": drop("model.24.cv2.0.0"),
    "branches emptied": lambda model: model.model[24]._modules.update(cv2=nn.ModuleList()),
    "no reg_max": forget("model.24", "reg_max"),
    "reg_max 0": put("model.24", "reg_max", 0),
    "reg_max huge": put("model.24", "reg_max", 1 << 30),
    "reg_max infinite": put("model.24", "reg_max", float("inf")),
    "reg_max of another number": put("model.24", "reg_max", 8),
    "class count of another number": put("model.24", "nc", 4),
    "no strides": forget("model.24", "stride"),
    "one stride": put("model.24", "stride", torch.tensor([8.0])),
    "strides are text": put("model.24", "stride", "8, 16, 32"),
    "zero strides": put("model.24", "stride", torch.zeros(3)),
    "NaN strides": put("model.24", "stride", torch.full((3,), float("nan"))),
    "forward source": put("model.12", "f", [-1, 20]),
    "one level": put("model.24", "f", 23),
    "levels in another order": put("model.24", "f", [23, 20, 17]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", some_are_slow(DAMAGES_U))
def test_damaged_ultralytics_is_refused(tmp_path: Path, name: str) -> None:
    model = make_yolov5u()
    DAMAGES_U[name](model)
    assert_refused(save_yolov5u(tmp_path / "a.pt", model))


def assert_refused(path: Path) -> None:
    message = refusal_of(WeightsError, path, lambda path: load_detector(path, device="cpu"))
    assert len(message) < 600


@pytest.mark.slow
def test_undamaged_copies_load(tmp_path: Path) -> None:
    """The counterpart of the damages: what they start from is accepted."""
    load_detector(save_yolov5(tmp_path / "a.pt", make_yolov5()), device="cpu")
    load_detector(save_yolov5u(tmp_path / "b.pt", make_yolov5u()), device="cpu")


@pytest.mark.slow
def test_message_names_the_layer(tmp_path: Path) -> None:
    model = make_yolov5()
    put("model.3.conv", "groups", 2)(model)
    with pytest.raises(WeightsError, match=r"layer 3 \(Conv\): dilated or grouped"):
        load_detector(save_yolov5(tmp_path / "a.pt", model), device="cpu")


def test_upsamplings_without_end_are_refused_by_their_number(tmp_path: Path) -> None:
    """Each quadruples its input: the file would be small, what it computes would not."""
    model = make_yolov5()
    for index in ("5", "7", "13"):
        model.model._modules[index] = copy.deepcopy(model.model[11])
    with pytest.raises(WeightsError, match="5 upsampling layers; no YOLOv5 has more than 3"):
        load_detector(save_yolov5(tmp_path / "a.pt", model), device="cpu")


class _NoLargeTensors(TorchDispatchMode):
    """Fails where a tensor of over a million numbers is made in memory, before it is filled."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.device.type != "meta":
            assert result.numel() < 1_000_000, f"{function} made a tensor of {tuple(result.shape)}"
        return result


@pytest.mark.slow
def test_sizes_that_a_file_claims_but_does_not_hold_cost_no_memory(tmp_path: Path) -> None:
    """Two columns of 14000 weights claim bottlenecks of 14000x14000x3x3."""
    column = torch.zeros(14_000, 1, 1, 1, dtype=torch.float16)
    model = make_yolov5()
    for name in ("cv1", "cv3"):
        put(f"model.4.{name}.conv", "weight", column.clone())(model)
    path = save_yolov5(tmp_path / "a.pt", model)
    assert path.stat().st_size < 1_000_000
    record = read_checkpoint(path)
    with _NoLargeTensors(), pytest.raises(WeightsError, match=r"layer 4 \(C3\) is damaged"):
        build_layers(record)
