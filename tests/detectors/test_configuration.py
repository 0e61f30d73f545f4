"""Configurations: those of ultralytics come back as they were, forged ones are refused in one line and no time."""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path
from typing import Any

import pytest
import ultralytics
import yaml  # type: ignore[import-untyped, unused-ignore]

from featcodec.detectors import configuration_of
from featcodec.detectors.configuration import HEADS, read_configuration
from featcodec.errors import WeightsError
from featcodec.networks.known import KNOWN

NAN = float("nan")
LONG = 1 << 2000
CONV = [-1, 1, "Conv", [64, 3, 2]]


def plain() -> dict[str, Any]:
    return configuration_of("yolo11n").mapping()


def with_row(*row: Any) -> dict[str, Any]:
    content = plain()
    content["backbone"][6] = list(row)
    return content


def network(*rows: list[Any], head: list[Any] | None = None) -> dict[str, Any]:
    """A configuration of these layers and a head behind the last one."""
    last = head or [[len(rows) - 1], 1, "Detect", ["nc"]]
    return {**plain(), "backbone": copy.deepcopy(list(rows)), "head": [last]}


def refusal(content: Any) -> str:
    started = time.process_time()
    with pytest.raises(WeightsError) as caught:
        read_configuration(content)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    assert time.process_time() - started < 5
    return message


def test_a_configuration_comes_back_from_its_mapping() -> None:
    for name in ("yolov5n6u", "yolov8n", "yolov9e", "yolov10b", "yolo12x", "yolo26n-seg", "yolo11s-pose"):
        configuration = configuration_of(name)
        assert read_configuration(configuration.mapping()) == configuration


def test_every_detector_that_is_listed_has_a_configuration() -> None:
    for name in KNOWN:
        if not name.startswith("yolov5") or name.endswith("u"):
            assert configuration_of(name).head in HEADS


def test_ultralytics_configurations_are_read_or_refused_by_a_layer() -> None:
    files = sorted((Path(ultralytics.__file__).parent / "cfg" / "models").glob("*/*.yaml"))
    refused = {file.stem: refused_by(file) for file in files}
    assert all(reason is None or "is not a layer of" in reason for reason in refused.values())
    read = {stem for stem, reason in refused.items() if reason is None}
    assert {"yolov5", "yolov5-p6", "yolov8-p2", "yolov9e-seg", "yolov10x", "yolo12-seg", "yolo26-p6"} <= read
    assert not read & {"yolo11-obb", "yolo11-cls", "yolov8-world", "rtdetr-l", "yoloe-26", "yolo26-depth"}


def refused_by(file: Path) -> str | None:
    try:
        read_configuration(yaml.safe_load(file.read_bytes()))
    except WeightsError as error:
        return str(error)
    return None


def test_old_configurations_mean_the_same() -> None:
    """Before ultralytics had scales, and YOLOv9 before 8.2.56."""
    content = {"nc": 3, "depth_multiple": 0.33, "width_multiple": 0.25, "backbone": [CONV], "head": plain()["backbone"]}
    content["head"] = [CONV, [[1], 1, "Detect", ["nc"]]]
    configuration = read_configuration(content)
    assert (configuration.scale, configuration.depth, configuration.width) == ("none", 0.33, 0.25)
    assert math.isinf(configuration.max_channels)
    silent = read_configuration(network([-1, 1, "Silence", []], CONV))
    assert silent.rows[0].kind == "nn.Identity"


ROWS: dict[str, list[Any]] = {
    "evaluated text": [-1, 1, "Conv", ["__import__('os').system('true')", 3, 2]],
    "local args": [-1, 1, "Conv", ["args", 3, 2]],
    "local d": [-1, 1, "Conv", [64, "d", 2]],
    "local nc": [-1, 1, "Conv", [64, "nc", 2]],
    "local scales": [-1, 1, "C3k2", [64, "scales"]],
    "text as channels": [-1, 1, "Conv", ["nearest", 3, 2]],
    "no module": [-1, 1, "nn", []],
    "a function": [-1, 1, "make_divisible", []],
    "a function of torch": [-1, 1, "nn.init.zeros_", []],
    "another module of torch": [-1, 1, "nn.LSTM", [64, 64]],
    "torchvision": [-1, 1, "torchvision.ops.nms", []],
    "TorchVision": [-1, 1, "TorchVision", [64, "resnet18", "DEFAULT", True, 2]],
    "kind is a number": [-1, 1, 7, []],
    "kind is a list": [-1, 1, ["Conv"], []],
    "kind with a surrogate": [-1, 1, "\ud800" * 99, []],
    "channels beyond": [-1, 1, "Conv", [8193, 3, 2]],
    "channels zero": [-1, 1, "Conv", [0, 3, 2]],
    "channels negative": [-1, 1, "Conv", [-1, 3, 2]],
    "channels true": [-1, 1, "Conv", [True, 3, 2]],
    "channels float": [-1, 1, "Conv", [64.0, 3, 2]],
    "channels NaN": [-1, 1, "Conv", [NAN, 3, 2]],
    "channels None": [-1, 1, "Conv", [None, 3, 2]],
    "channels in a list": [-1, 1, "Conv", [[64, 64], 3, 2]],
    "kernel in a list": [-1, 1, "Conv", [64, [3, 3, 3, 3], 2]],
    "kernel beyond": [-1, 1, "Conv", [64, 33, 2]],
    "kernel of 2000 bits": [-1, 1, "Conv", [64, LONG, 2]],
    "factor NaN": [-1, 1, "C3k2", [64, True, NAN]],
    "factor infinite": [-1, 1, "C3k2", [64, True, math.inf]],
    "factor beyond": [-1, 1, "C3k2", [64, True, 9.0]],
    "nested lists": [-1, 1, "CBLinear", [[[64]]]],
    "no channels in a list": [-1, 1, "CBLinear", [[]]],
    "many in a list": [-1, 1, "CBLinear", [[64] * 9]],
    "many arguments": [-1, 1, "Conv", [1] * 9],
    "arguments are text": [-1, 1, "Conv", "64"],
    "repeats": [-1, 65, "C3k2", [64]],
    "repeats of a convolution": [-1, 2, "Conv", [64, 3, 2]],
    "repeats zero": [-1, 0, "C3k2", [64]],
    "repeats true": [-1, True, "C3k2", [64]],
    "repeats float": [-1, 2.0, "C3k2", [64]],
    "repeats of 2000 bits": [-1, LONG, "C3k2", [64]],
    "source ahead": [7, 1, "Conv", [64, 3, 2]],
    "source itself": [6, 1, "Conv", [64, 3, 2]],
    "source before the picture": [-8, 1, "Conv", [64, 3, 2]],
    "source true": [True, 1, "Conv", [64, 3, 2]],
    "source None": [None, 1, "Conv", [64, 3, 2]],
    "no sources": [[], 1, "Concat", [1]],
    "many sources": [[-1] * 9, 1, "Concat", [1]],
    "three entries": [-1, 1, "Conv"],
    "another head": [[-1], 1, "Detect", ["nc"]],
}


@pytest.mark.parametrize("name", ROWS)
def test_a_forged_row_is_refused(name: str) -> None:
    refusal(with_row(*ROWS[name]))


CHANGES: dict[str, dict[str, Any]] = {
    "rows are text": {"backbone": "Conv"},
    "thousands of rows": {"backbone": [CONV] * 5000},
    "65 rows": {"backbone": [CONV] * 64},
    "no rows": {"backbone": [], "head": []},
    "rows of text": {"backbone": ["four"] * 4},
    "no head": {"head": [[-1, 1, "Conv", [64, 3, 2]]]},
    "classes": {"nc": 5000},
    "classes true": {"nc": True},
    "classes text": {"nc": "80"},
    "reg_max": {"reg_max": 65},
    "end2end is text": {"end2end": "yes"},
    "scale without values": {"scale": "q"},
    "scale is a list": {"scale": ["n"]},
    "scales are a list": {"scales": [1, 2]},
    "scales of two": {"scales": {"n": [1.0, 1.0]}, "scale": "n"},
    "long scale": {"scales": {"n" * 99: [1.0, 1.0, 1]}, "scale": "n" * 99},
    "depth NaN": {"scales": {"n": [NAN, 1.0, 1024]}, "scale": "n"},
    "depth zero": {"scales": {"n": [0, 1.0, 1024]}, "scale": "n"},
    "depth true": {"scales": {"n": [True, 1.0, 1024]}, "scale": "n"},
    "depth text": {"scales": {"n": ["1", 1.0, 1024]}, "scale": "n"},
    "width infinite": {"scales": {"n": [1.0, math.inf, 1024]}, "scale": "n"},
    "width beyond": {"scales": {"n": [1.0, 9, 1024]}, "scale": "n"},
    "width of 2000 bits": {"scales": {"n": [1.0, LONG, 1024]}, "scale": "n"},
    "most channels": {"scales": {"n": [1.0, 1.0, 1 << 20]}, "scale": "n"},
    "most channels NaN": {"scales": {"n": [1.0, 1.0, NAN]}, "scale": "n"},
    "blocks by depth": {"scales": {"n": [8.0, 1.0, 1024]}, "scale": "n"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_forged_configuration_is_refused(name: str) -> None:
    refusal({**plain(), **CHANGES[name]})


@pytest.mark.parametrize("content", [None, [], "yolo11n.yaml", 7, {}])
def test_what_is_not_a_configuration_is_refused(content: Any) -> None:
    refusal(content)


@pytest.mark.parametrize("shape", [None, [17], [17, 4], [0, 3], [2000, 3], [17.0, 3], [True, 3], "17"])
def test_keypoints_that_no_pose_has_are_refused(shape: Any) -> None:
    refusal({**configuration_of("yolo11n-pose").mapping(), "kpt_shape": shape})


@pytest.mark.parametrize(
    "row",
    [[-1, 64, "A2C2f", [64, True, 1]], [-1, 1, "RepNCSPELAN4", [64, 64, 32, 32]], [-1, 8, "C3k2", [64, True]]],
    ids=lambda row: str(row[2]),
)
def test_blocks_of_all_layers_are_bounded(row: list[Any]) -> None:
    """Sixty layers of 64 blocks took ten minutes to build, on the meta device."""
    assert "blocks, more than any such detector" in refusal(network(CONV, *[row] * 60))


def test_what_parse_model_would_evaluate_never_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It evaluates an activation; the configuration here has none, and names no other layer than those on the list."""
    from ultralytics.nn import tasks
    from ultralytics.nn.modules import Conv, Detect

    from featcodec.detectors.families import build_layers_of

    seen: list[dict[str, Any]] = []
    parse = tasks.parse_model
    monkeypatch.setattr(
        "featcodec.detectors.families.parse_model", lambda d, **options: seen.append(d) or parse(d, **options)
    )
    before = Conv.default_act, Detect.legacy
    content = {**plain(), "activation": "__import__('os')._exit(3)", "self": 1}
    build_layers_of(read_configuration(content))
    assert (Conv.default_act, Detect.legacy) == before
    assert seen
    for given in seen:
        assert given.keys() == {"nc", "scale", "scales", "backbone", "head"}
        texts = {each for row in given["backbone"] for each in row[3] if isinstance(each, str)}
        assert texts <= {"nearest"}
