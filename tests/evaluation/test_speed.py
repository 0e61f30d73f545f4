"""The speed of a codec: the parts add up, and limits are limits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pictures import save_texture

from featcodec.codec import FeatureCodec
from featcodec.errors import InputError
from featcodec.evaluation.speed import core_seconds, measure_speed, operations_of, peak_of
from featcodec.system.paths import Source


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    for number in range(3):
        save_texture(tmp_path / f"{number}.png", 120, 90, seed=number)
    return [Source(path, Path(path.name)) for path in sorted(tmp_path.iterdir())]


@pytest.mark.parametrize("video_codec", ["hevc", "ffmpeg"])
def test_all_that_is_measured(tiny_yolov5: Path, sources: list[Source], video_codec: str) -> None:
    codec = FeatureCodec.load(tiny_yolov5, device="cpu", image_size=96, video_codec=video_codec)
    speed = measure_speed(codec, codec, sources, 38, rounds=1)
    assert speed.images == 3
    assert [rate.direction for rate in speed.rates] == ["encode", "decode"]
    for rate in speed.rates:
        assert rate.ratio == pytest.approx(rate.images_per_second / rate.plain)
        assert rate.core_milliseconds > 0
    steps = {(stage.direction, stage.name) for stage in speed.stages}
    assert {("encode", "read"), ("encode", "front-end"), ("encode", "video"), ("decode", "NMS")} <= steps
    assert all(stage.core_milliseconds >= 0 for stage in speed.stages)
    video = next(stage for stage in speed.stages if (stage.direction, stage.name) == ("encode", "video"))
    limits = {(limit.direction, limit.name): limit for limit in speed.limits}
    assert limits.keys() == {("encode", "video"), ("encode", "networks"), ("decode", "networks")}
    limit = limits["encode", "video"]
    assert limit.images_per_second == pytest.approx(1000 * speed.cores / video.core_milliseconds)
    assert limit.share == pytest.approx(speed.rates[0].images_per_second / limit.images_per_second)
    assert speed.peak_memory[0] > 50


def test_operations_are_those_of_the_convolutions(tiny_yolov5: Path, sources: list[Source]) -> None:
    codec = FeatureCodec.load(tiny_yolov5, device="cpu", image_size=96)
    counted = []

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(layer, torch.nn.Conv2d)
        counted.append(2 * output.numel() * layer.weight[0].numel())

    for layer in codec.model.detector.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    found = operations_of(codec, sources[0])
    assert sum(found.values()) == sum(counted)
    assert found["encode"] > 0 < found["decode"]


def test_peak_and_core_seconds_are_times_of_this_machine() -> None:
    before = core_seconds()
    assert 1e8 < peak_of(torch.float32) < 1e14
    assert core_seconds() > before


def test_an_image_that_cannot_be_encoded_is_an_error(tiny_yolov5: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    codec = FeatureCodec.load(tiny_yolov5, device="cpu", image_size=96)
    with pytest.raises(InputError, match=r"a\.png"):
        measure_speed(codec, codec, [Source(tmp_path / "a.png", Path("a.png"))], 38, rounds=1)
