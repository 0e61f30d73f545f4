"""A module tree that does not agree with its configuration is refused, and says where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from make_families import answers, make_family, pictures, save_family
from refusals import refusal_of
from torch import nn

from featcodec.detectors import load_detector
from featcodec.errors import WeightsError

LONG = 1 << 2000


def refusal(path: Path) -> str:
    message = refusal_of(WeightsError, path, lambda path: load_detector(path, device="cpu"))
    assert len(message) < 600
    return message


def put(part: str, name: str, value: Any) -> Callable[[Any], None]:
    """An attribute that is something else."""

    def change(model: Any) -> None:
        (model.get_submodule(part) if part else model).__dict__[name] = value

    return change


def put_weight(part: str, value: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.get_submodule(part)._parameters["weight"] = nn.Parameter(value, requires_grad=False)

    return change


def put_part(part: str, name: str, value: Callable[[], nn.Module | None]) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.get_submodule(part)._modules[name] = value()

    return change


def cyclic_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def shared_list() -> list[Any]:
    value: list[Any] = [1.0] * 8
    for _ in range(30):
        value = [value] * 8
    return value


def row(index: int, *entries: Any) -> Callable[[Any], None]:
    """Another row in the configuration."""

    def change(model: Any) -> None:
        model.yaml["backbone"][index] = list(entries)

    return change


CHANGES: dict[str, tuple[Callable[[Any], None], str]] = {
    "a shortcut": (put("model.2.m.0", "add", False), "layer 2 (C3k2): Bottleneck with add False"),
    "a split of channels": (put("model.2", "c", 9), "layer 2 (C3k2): C3k2 with c 9"),
    "a stride": (put("model.3.conv", "stride", (1, 1)), "layer 3 (Conv): Conv2d with stride"),
    "a stride of shared lists": (put("model.3.conv", "stride", shared_list()), "Conv2d with stride a list"),
    "a kernel": (put("model.3.conv", "kernel_size", (5, 5)), "Conv2d with kernel_size (5, 5), not (3, 3)"),
    "a kernel of 2000 bits": (put("model.3.conv", "kernel_size", (LONG, 3)), "kernel_size a tuple, not (3, 3)"),
    "the head's strides": (
        put("model.23", "stride", torch.tensor([8.0, 16.0, 64.0])),
        "strides (8.0, 16.0, 64.0), not",
    ),
    "the head's strides as text": (put("model.23", "stride", "8"), "strides '8', not (8.0, 16.0, 32.0)"),
    "a stride of floats": (put("model.3.conv", "stride", (LONG, 2)), "Conv2d with stride"),
    "a padding": (put("model.3.conv", "padding", (0, 0)), "Conv2d with padding"),
    "a padding mode": (put("model.3.conv", "padding_mode", "reflect"), "Conv2d with padding_mode 'reflect'"),
    "groups": (put("model.3.conv", "groups", 2), "Conv2d with groups 2, not 1"),
    "a dilation": (put("model.3.conv", "dilation", cyclic_list()), "Conv2d with dilation"),
    "a pool": (put("model.9.m", "kernel_size", 3), "MaxPool2d with kernel_size 3, not 5"),
    "a pool's ceiling": (put("model.9.m", "ceil_mode", True), "MaxPool2d with ceil_mode True"),
    "pools in a row": (put("model.9", "n", 40), "SPPF with n 40"),
    "heads of attention": (put("model.10.m.0.attn", "num_heads", 1), "Attention with num_heads 1"),
    "a scale of attention": (put("model.10.m.0.attn", "scale", 2.0), "Attention with scale 2.0"),
    "an upsampling": (put("model.11", "scale_factor", 4.0), "Upsample with scale_factor 4.0"),
    "a way of upsampling": (put("model.11", "mode", "bilinear"), "Upsample with mode 'bilinear'"),
    "a joint": (put("model.12", "d", 2), "Concat with d 2"),
    "eps NaN": (put("model.3.bn", "eps", float("nan")), "BatchNorm2d has nan as its eps"),
    "eps text": (put("model.3.bn", "eps", "0"), "BatchNorm2d has '0' as its eps"),
    "statistics of the batch": (put("model.3.bn", "track_running_stats", False), "track_running_stats False"),
    "sources": (put("model.12", "f", [-1, 4]), "layer 12 (Concat): takes its input from a list"),
    "sources that are cyclic": (put("model.12", "f", cyclic_list()), "layer 12 (Concat): takes its input from"),
    "sources beyond": (put("model.12", "f", [LONG, LONG]), "layer 12 (Concat): takes its input from"),
    "bins": (put("model.23", "reg_max", 8), "Detect with reg_max 8"),
    "classes": (put("model.23", "nc", 4), "layer 23 (Detect)"),
    "no classes": (put("model.23", "nc", 0), "0 classes are outside"),
    "classes of 2000 bits": (put("model.23", "nc", LONG), "a huge number classes are outside"),
    "a weight": (put_weight("model.3.conv", torch.zeros(1, 1, 1, 1)), "layer 3 (Conv) is damaged: conv.weight is"),
    "a weight NaN": (put_weight("model.3.conv", torch.full((64, 64, 3, 3), torch.nan)), "not finite"),
    "an activation that is none": (put_part("model.3", "act", nn.Tanh), "Tanh in the place of SiLU"),
    "another layer": (put_part("model", "3", lambda: nn.Upsample(None, 2)), "Upsample in the place of Conv"),
    "one layer more": (put_part("model", "24", nn.Identity), "nc"),
    "a part more": (put_part("model.2.m", "1", nn.ReLU), "layer 2 (C3k2): it has ReLU as '1'"),
    "an activation more": (put_part("model.23.cv2.0", "3", nn.Sigmoid), "it has Sigmoid as '3'"),
    "a part less": (put_part("model.2", "cv2", lambda: None), "it lacks parts"),
    "no BatchNorm": (put_part("model.3", "bn", lambda: None), "it was fused for inference"),
    "gray pictures": (lambda model: model.yaml.update(channels=1), "it takes pictures of 1 channel"),
    "no configuration": (put("", "yaml", None), "its configuration is None, not a table"),
    "configuration is a list": (put("", "yaml", cyclic_list()), "its configuration is a list"),
    "another configuration": (row(2, -1, 2, "C2f", [256, True]), "C3k2 in the place of C2f"),
    "blocks": (row(2, -1, 6, "C3k2", [256, False, 0.25]), "in_channels 48, not 80"),
    "fewer layers": (lambda model: model.yaml["head"].pop(0), ""),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (index % 4 > 0)) for index, name in enumerate(CHANGES)]
)
def test_a_changed_module_is_refused(tmp_path: Path, name: str) -> None:
    change, reason = CHANGES[name]
    model = make_family("yolo11n")
    change(model)
    assert reason in refusal(save_family(tmp_path / "a.pt", model))


@pytest.mark.slow
def test_repeated_modules_end(tmp_path: Path) -> None:
    model = make_family("yolo11n")
    model.model[2]._modules["cv2"] = model.model[2]
    assert "without end" in refusal(save_family(tmp_path / "a.pt", model))


def test_what_only_the_modules_know_is_taken_over(tmp_path: Path) -> None:
    """Activations and the constants of BatchNorm, which a configuration does not say."""
    model = make_family("yolo11n")
    model.model[3].act = nn.LeakyReLU(0.1)
    model.model[5].act = nn.Identity()
    for part in model.model[7].modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 0.25
    path = save_family(tmp_path / "a.pt", model)
    detector = load_detector(path, device="cpu", fuse=False)
    plain = load_detector(save_family(tmp_path / "b.pt", make_family("yolo11n")), device="cpu")
    with torch.inference_mode():
        found = detector.double().back(detector.front(pictures().double()))
        expected = model.double()(pictures().double())[0]
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert detector.fingerprint != plain.fingerprint


@pytest.mark.slow
def test_the_activation_of_reparametrized_blocks_is_in_the_fingerprint(tmp_path: Path) -> None:
    prints = set()
    for act in (nn.SiLU(), nn.ReLU()):
        model = make_family("yolov9t")
        block = next(part for part in model.modules() if type(part).__name__ == "RepConv")
        block.act = act
        prints.add(load_detector(save_family(tmp_path / "a.pt", model), device="cpu").fingerprint)
    assert len(prints) == 2


def test_attributes_of_ultralytics_own_run_do_not_matter(tmp_path: Path) -> None:
    """What a run leaves on the head: the grid of the last image, and how many boxes it may answer."""
    model = make_family("yolo11n")
    answers(model, pictures(96, 64))
    model.model[-1].max_det, model.model[-1].xyxy, model.model[-1].agnostic_nms = 7, True, True
    assert load_detector(save_family(tmp_path / "a.pt", model), device="cpu").stride == 32
