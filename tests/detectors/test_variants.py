"""Checkpoints as people have them: those of YOLOv5 compute what they should, others are refused by the true reason."""

from __future__ import annotations

import argparse
import datetime
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from make_checkpoints import (
    fuse_yolov5,
    make_yolov5,
    make_yolov5u,
    rename_classes,
    save_yolov5,
    save_yolov5u,
    yolov5_modules,
)
from refusals import refusal_of
from safetensors.torch import save_file
from torch import Tensor, nn

from featcodec.detectors import load_detector
from featcodec.errors import WeightsError


def predictions(path: Path, **options: Any) -> Tensor:
    pictures = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    detector = load_detector(path, device="cpu", **options)
    with torch.inference_mode():
        return detector.back(detector.front(pictures))


def refusal(path: Path) -> str:
    return refusal_of(WeightsError, path, lambda path: load_detector(path, device="cpu"))


# Harmless ones


@pytest.mark.slow
@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("which", ["original", "ultralytics"])
def test_fused_checkpoint_computes_what_the_plain_one_does(tmp_path: Path, which: str, fuse: bool) -> None:
    """fuse() leaves no BatchNorm, a bias, and a bound method that the pickle takes by getattr."""
    if which == "original":
        plain = save_yolov5(tmp_path / "plain.pt", make_yolov5())
        fused = save_yolov5(tmp_path / "fused.pt", fuse_yolov5(make_yolov5()))
    else:
        plain = save_yolov5u(tmp_path / "plain.pt", make_yolov5u())
        fused = save_yolov5u(tmp_path / "fused.pt", make_yolov5u().float().fuse(verbose=False))
    assert b"forward_fuse" in fused.read_bytes()
    ours, theirs = predictions(fused, fuse=fuse), predictions(plain, fuse=True)
    assert theirs[:, 4:].std() > 0.01, "degenerate scores prove nothing"
    assert (ours[:, :4] - theirs[:, :4]).abs().max() < 0.01
    assert (ours[:, 4:] - theirs[:, 4:]).abs().max() < 1e-3


@pytest.mark.slow
def test_fused_convolution_without_bias_is_refused(tmp_path: Path) -> None:
    model = make_yolov5()
    del model.model[3].bn
    assert "layer 3 (Conv) is damaged: conv.bias is missing" in refusal(save_yolov5(tmp_path / "a.pt", model))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("u", rb"cultralytics\.nn\.modules\.(conv|block|head)\n", rb"cultralytics.nn.modules\n"),
        ("original", rb"cpathlib(\._local)?\nPosixPath\n", rb"cpathlib\nPosixPath\n"),
        ("original", rb"cpathlib(\._local)?\nPosixPath\n", rb"cpathlib._local\nPosixPath\n"),
        ("original", rb"cpathlib(\._local)?\nPosixPath\n", rb"cpathlib\nWindowsPath\n"),
        ("original", rb"cmodels\.", rb"cyolov5.models."),
        ("original", rb"cnumpy\.core\.|cnumpy\._core\.", rb"cnumpy.core."),
    ],
    ids=["ultralytics 8.0", "python 3.12", "python 3.13", "windows", "package yolov5", "numpy 1"],
)
def test_names_of_other_versions_mean_the_same(
    tmp_path: Path, tiny_yolov5: Path, tiny_yolov5u: Path, kind: str, old: bytes, new: bytes
) -> None:
    source = tiny_yolov5u if kind == "u" else tiny_yolov5
    assert torch.equal(predictions(rename_classes(source, tmp_path / "a.pt", old, new)), predictions(source))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["model", "ema"])
def test_unfinished_run_with_its_loss_is_read(tmp_path: Path, tiny_yolov5u: Path, place: str) -> None:
    """ultralytics keeps the loss on the model, and before 8.4.95 its pickles held it."""
    from ultralytics.cfg import get_cfg

    model = make_yolov5u()
    model.args = get_cfg()
    model.criterion = model.init_criterion()
    optimizer = torch.optim.AdamW(nn.Linear(3, 3).parameters())
    further = {"model": None, place: model, "optimizer": optimizer.state_dict(), "scaler": None}
    path = save_yolov5u(tmp_path / "a.pt", model, **further)
    assert b"v8DetectionLoss" in path.read_bytes()
    assert torch.equal(predictions(path), predictions(tiny_yolov5u))


BESIDE: dict[str, Any] = {
    "numpy number": np.float64(1),
    "numpy array": np.arange(3),
    "numpy generator": np.random.default_rng(0),
    "date": datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
    "namespace": argparse.Namespace(lr=0.1),
    "simple namespace": SimpleNamespace(lr=0.1),
    "counter": Counter("aab"),
    "range": range(3),
    "uuid": uuid.UUID(int=1),
    "function": print,
    "class": nn.Conv1d,
    "type": torch.float16,
    "random state": torch.get_rng_state(),
    "tuple key": {(1, "a"): 1},
    "optimizer": torch.optim.SGD(nn.Linear(3, 3).parameters(), 0.1, momentum=0.9),
    "meta tensor": torch.zeros(3, device="meta"),
    "complex tensor": torch.zeros(3, dtype=torch.complex64),
    "own class": SimpleNamespace,
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if index else []) for index, name in enumerate(BESIDE)],
)
def test_what_stands_beside_the_model_does_not_matter(tmp_path: Path, tiny_yolov5: Path, name: str) -> None:
    path = save_yolov5(tmp_path / "a.pt", make_yolov5(), train_args={"x": BESIDE[name]})
    assert load_detector(path, device="cpu").fingerprint == load_detector(tiny_yolov5, device="cpu").fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_any_pickle_protocol_is_read(tmp_path: Path, tiny_yolov5: Path, protocol: int) -> None:
    with yolov5_modules():
        torch.save({"model": make_yolov5()}, tmp_path / "a.pt", pickle_protocol=protocol)
    assert torch.equal(predictions(tmp_path / "a.pt"), predictions(tiny_yolov5))


@pytest.mark.slow
def test_big_endian_numbers_are_read(tmp_path: Path, tiny_yolov5: Path) -> None:
    with yolov5_modules():
        model = torch.load(tiny_yolov5, weights_only=False)["model"]
    tensors = (*model.state_dict().values(), model.stride)
    sizes = {tensor.numpy().tobytes(): tensor.element_size() for tensor in tensors}
    with zipfile.ZipFile(tiny_yolov5) as archive, zipfile.ZipFile(tmp_path / "a.pt", "w") as copied:
        for name in archive.namelist():
            content = archive.read(name)
            if "/data/" in name and content in sizes:
                content = np.frombuffer(content, f"u{sizes[content]}").byteswap().tobytes()
            copied.writestr(name, b"big" if name.endswith("byteorder") else content)
    assert torch.equal(predictions(tmp_path / "a.pt"), predictions(tiny_yolov5))


# Others


def of_ultralytics(name: str) -> Callable[[], Any]:
    def make() -> Any:
        from ultralytics import YOLO

        return {"model": YOLO(name, verbose=False).model, "ema": None}

    return make


OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "yolov6": (of_ultralytics("yolov6n.yaml"), "layer 11 is 'nn.ConvTranspose2d', which is not a layer of"),
    "tiny": (of_ultralytics("yolov3-tiny.yaml"), "layer 1 is 'nn.MaxPool2d', which is not a layer of"),
    "rotated": (of_ultralytics("yolo11n-obb.yaml"), "holds 'ultralytics.nn.tasks.OBBModel', which is not"),
    "classify": (of_ultralytics("yolov8n-cls.yaml"), "holds 'ultralytics.nn.tasks.ClassificationModel', which is not"),
    "data parallel": (lambda: {"model": nn.DataParallel(nn.SiLU())}, "DataParallel', which is not a YOLO model"),
    "weights": (lambda: make_yolov5().state_dict(), "holds no model, only its weights (a state dict)"),
    "weights in model": (lambda: {"model": make_yolov5().state_dict()}, "only its weights (a state dict)"),
    "weights in ema": (lambda: {"ema": make_yolov5u().state_dict(), "model": None}, "only its weights (a state dict)"),
    "nothing": (lambda: {"ema": None, "model": None}, "holds no model, but nothing in its place"),
    "unknown call": (lambda: {"mode": Fraction(1, 2), "model": None}, "because it calls 'fractions.Fraction'"),
}


SLOW = ("yolov6", "tiny", "rotated", "classify")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in OTHERS])
def test_another_model_is_refused_by_the_reason(tmp_path: Path, name: str) -> None:
    make, reason = OTHERS[name]
    content = make()
    with yolov5_modules():
        torch.save(content, tmp_path / "a.pt")
    assert reason in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["models.yolo.SegmentationModel", "models.common.AutoShape"])
def test_other_classes_of_yolov5_are_refused_by_their_name(tmp_path: Path, tiny_yolov5: Path, name: str) -> None:
    module, _, kind = name.rpartition(".")
    new = f"c{module}\\n{kind}\\n".encode()
    path = rename_classes(tiny_yolov5, tmp_path / "a.pt", rb"cmodels.yolo\nModel\n", new)
    assert f"holds '{name}', which is not a YOLO model that can be split" in refusal(path)


def write_torchscript(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 8, 8)), path)


def write_legacy(path: Path) -> None:
    torch.save({"model": nn.SiLU()}, path, _use_new_zipfile_serialization=False)


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "torchscript": (write_torchscript, "it is a TorchScript program); use the checkpoint that it was exported from"),
    "before 1.6": (write_legacy, "of PyTorch before 1.6; load it with PyTorch and save it again"),
    "tar": (lambda path: path.write_bytes(bytes(257) + b"ustar" + bytes(9999)), "of PyTorch before 1.6"),
    "safetensors": (lambda path: save_file({"a": torch.zeros(1)}, path), "it is a safetensors file"),
    "web page": (lambda path: path.write_bytes(b"<!DOCTYPE html><html>404</html>"), "it is a web page"),
    "git lfs": (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
    "onnx": (
        lambda path: path.write_bytes(b"\x08\x09\x12\x07pytorch" + bytes(999)),
        "it is an ONNX file); use the",
    ),
    "empty": (lambda path: path.write_bytes(b""), "not a PyTorch checkpoint"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("name", FILES)
def test_another_file_is_refused_by_the_reason(tmp_path: Path, name: str) -> None:
    write, reason = FILES[name]
    write(tmp_path / "a.pt")
    message = refusal(tmp_path / "a.pt")
    assert reason in message
    assert message.count(";") == 1  # one remedy


@pytest.mark.parametrize("suffix", [".engine", ".tflite", ".mlmodel"])
def test_an_export_is_refused_by_its_ending(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"yolo11n{suffix}"
    path.write_bytes(b"\x00\x01\x02\x03" * 999)
    message = refusal(path)
    assert f"not a PyTorch checkpoint (its ending is {suffix}); use the checkpoint that it was exported from" in message


def test_a_compressed_archive_has_one_remedy(tmp_path: Path, tiny_yolov5: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(tiny_yolov5) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    message = refusal(path)
    assert message.endswith("(it is compressed, which PyTorch never does); load it with PyTorch and save it again")
