"""Loading: class names, fingerprints, precision, and messages that name the file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from make_checkpoints import NAMES, make_yolov5, make_yolov5u, save_yolov5, save_yolov5u
from torch import nn

from featcodec.detectors import SplitDetector, load_detector
from featcodec.errors import InputError, WeightsError


def load(path: Path, **options: Any) -> SplitDetector:
    return load_detector(path, device="cpu", **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat", "dog", "newt"], ("cat", "dog", "newt")),
        (("cat", "dog", "newt"), ("cat", "dog", "newt")),
        ({0: "cat", 1: "dog", 2: "newt"}, ("cat", "dog", "newt")),
        ({2: "newt", 0: "cat"}, ("cat", "class1", "newt")),
        ([0, 1, 2], ("0", "1", "2")),
        (["x" * 5000, "dog", "newt"], ("x" * 200, "dog", "newt")),
        ([], ("class0", "class1", "class2")),
        (None, ("class0", "class1", "class2")),
    ],
    ids=["list", "tuple", "dict", "sparse dict", "numbers", "long", "empty", "none"],
)
def test_class_names(tmp_path: Path, names: Any, expected: tuple[str, ...]) -> None:
    assert load(save_yolov5(tmp_path / "a.pt", make_yolov5(names))).names == expected


@pytest.mark.slow
def test_class_names_may_be_missing(tmp_path: Path) -> None:
    model = make_yolov5()
    del model.names
    assert load(save_yolov5(tmp_path / "a.pt", model)).names == ("class0", "class1", "class2")


@pytest.mark.slow
def test_class_names_of_ultralytics(tiny_yolov5u: Path) -> None:
    assert load(tiny_yolov5u).names == tuple(NAMES)


@pytest.mark.slow
def test_fingerprint_is_of_the_weights_alone(tmp_path: Path, tiny_yolov5: Path) -> None:
    expected = load(tiny_yolov5).fingerprint
    assert len(expected) == 8
    assert load(tiny_yolov5, split=1).fingerprint == expected
    assert load(tiny_yolov5, fuse=False).fingerprint == expected
    assert load(tiny_yolov5, half=True).fingerprint == expected
    renamed = save_yolov5(tmp_path / "other.pt", make_yolov5(["x", "y", "z"]), epoch=7)
    assert load(renamed).fingerprint == expected


@pytest.mark.slow
def test_fingerprint_is_that_of_yolov5n_for_ever(yolov5n_path: Path) -> None:
    """Every bitstream carries it: were it computed otherwise, no old stream could be decoded."""
    assert load(yolov5n_path).fingerprint.hex() == "53961ef2ce19a847"


@pytest.mark.slow
def test_fingerprint_tells_activations_apart(tmp_path: Path) -> None:
    """Equal weights behind another activation are another network."""
    new, old = (
        load(save_yolov5u(tmp_path / f"{old}.pt", make_yolov5u(old_sppf=old))).fingerprint for old in (False, True)
    )
    assert new != old


@pytest.mark.slow
@pytest.mark.parametrize("which", ["original", "ultralytics"])
def test_fingerprint_of_float_copies_of_half_weights_is_the_same(tmp_path: Path, which: str) -> None:
    make, save = (make_yolov5, save_yolov5) if which == "original" else (make_yolov5u, save_yolov5u)
    model: Any = make()
    half = load(save(tmp_path / "half.pt", model))
    single = load(save(tmp_path / "single.pt", copy.deepcopy(model).float()))
    assert half.fingerprint == single.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.0.conv.weight", "model.4.cv3.bn.running_var", "model.24.m.2.bias"])
def test_fingerprint_changes_with_one_weight(tmp_path: Path, tiny_yolov5: Path, name: str) -> None:
    model = make_yolov5()
    assert load(save_yolov5(tmp_path / "same.pt", model)).fingerprint == load(tiny_yolov5).fingerprint
    with torch.no_grad():
        model.state_dict()[name].flatten()[-1] += 0.01
    assert load(save_yolov5(tmp_path / "a.pt", model)).fingerprint != load(tiny_yolov5).fingerprint


@pytest.mark.slow
def test_fingerprint_changes_with_the_anchors(tmp_path: Path, tiny_yolov5: Path) -> None:
    model = make_yolov5()
    model.model[24].anchors[2, 2, 1] += 0.5
    assert load(save_yolov5(tmp_path / "a.pt", model)).fingerprint != load(tiny_yolov5).fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("which", ["tiny_yolov5", "tiny_yolov5u"])
def test_half_precision_is_close(request: pytest.FixtureRequest, which: str) -> None:
    path = request.getfixturevalue(which)
    pictures = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    half, single = load(path, half=True), load(path)
    assert (half.dtype, single.dtype) == (torch.float16, torch.float32)
    with torch.inference_mode():
        features = half.front(pictures)
        ours, theirs = half.back(features), single.back(single.front(pictures))
    assert features.dtype == torch.float16
    assert (ours[:, :4].float() - theirs[:, :4]).abs().max() < 2
    assert (ours[:, 4:].float() - theirs[:, 4:]).abs().max() < 0.02


@pytest.mark.slow
def test_cpu_computes_in_single_precision_and_frozen(tiny_yolov5: Path) -> None:
    detector = load(tiny_yolov5)
    assert (detector.device.type, detector.dtype) == ("cpu", torch.float32)
    assert not any(module.training for module in detector.modules())
    assert not any(parameter.requires_grad for parameter in detector.parameters())


@pytest.mark.slow
def test_path_may_be_text(tiny_yolov5: Path) -> None:
    assert load_detector(str(tiny_yolov5), device="cpu").fingerprint == load(tiny_yolov5).fingerprint


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="neither a file nor a known detector"):
        load(tmp_path / "absent.pt")


def test_device_that_is_absent_is_refused(tiny_yolov5: Path) -> None:
    with pytest.raises(InputError, match="device cuda:99"):
        load_detector(tiny_yolov5, device="cuda:99")


def test_another_head_is_refused(tmp_path: Path) -> None:
    model = make_yolov5()
    model.model[24] = nn.Sequential(model.model[24])
    model.model[24].f, model.model[24].i = [17, 20, 23], 24
    with pytest.raises(WeightsError, match="last layer is Sequential, not its only Detect"):
        load(save_yolov5(tmp_path / "a.pt", model))


def test_another_number_of_class_names_is_said(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="3 classes, but 2 class names"):
        load(save_yolov5(tmp_path / "a.pt", make_yolov5(["cat", "dog"])))
