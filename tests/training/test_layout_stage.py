"""Finding a layout: gray levels, signs, steps and order from samples, and the whole command on small pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_codec import make_bottleneck

from featcodec import FeatureCodec
from featcodec.cli.main import main
from featcodec.errors import InputError
from featcodec.networks.layouts import load_layout
from featcodec.packing.layout import LayoutConfig
from featcodec.training.layout import GRAY, LayoutTask, align_signs, find_layout, lay_out

CONFIG = LayoutConfig("00" * 8, 4, -0.2786, 3.0, {})


def related_channels() -> np.ndarray:
    """Six channels, (6, 400): two kinds of content, one of each kind turned, at different levels."""
    chance = np.random.default_rng(0)
    first, second = chance.exponential(0.3, (2, 400))
    mixed = 0.5 * first + 0.5 * second
    noise = chance.normal(0, 0.01, (6, 400))
    return np.stack([first, 0.5 - mixed, second, first + 1, 1 - second, second + 0.5]) + noise


def test_signs_make_channels_move_together() -> None:
    assert align_signs(related_channels()).tolist() == [1, -1, 1, 1, -1, 1]
    assert align_signs(np.zeros((1, 9))).tolist() == [1]
    assert set(align_signs(np.zeros((3, 9)))) == {1}


def test_medians_become_gray_and_like_channels_lie_side_by_side() -> None:
    samples = related_channels()
    layout = lay_out(CONFIG, samples, np.ones(6))
    medians = np.median(layout.arrange(samples.astype(np.float32)[:, :, None]), axis=(1, 2))
    gray = (medians + 0.2786) / (3 + 0.2786)
    assert np.allclose(gray, np.where(layout.scale > 0, GRAY, 1 - GRAY), atol=1e-4)
    # 2 x 3 tiles, the second row from right to left.
    line = [*layout.order[:3], *layout.order[:2:-1]]
    assert {1, 4} == set(line[-2:])
    assert abs(line.index(0) - line.index(3)) == abs(line.index(2) - line.index(5)) == 1


def test_what_the_predictions_depend_on_gets_finer_steps() -> None:
    weights = np.array([1, 1, 4, 1, 1, 1.0])
    layout = lay_out(CONFIG, related_channels(), weights)
    scale = np.abs(layout.scale)[np.argsort(layout.order)]
    assert scale[2] == pytest.approx(2 * scale[0])
    assert np.exp(np.log(scale).mean()) == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("latent", [True, False])
def test_a_layout_is_found_and_codes_pictures(tmp_path: Path, toy_set: Path, tiny_yolov5: Path, latent: bool) -> None:
    plain = FeatureCodec.load(tiny_yolov5, bottleneck="none", image_size=64)
    bottleneck = "none" if latent else str(make_bottleneck(tmp_path / "b.safetensors", plain))
    output = tmp_path / "layout.safetensors"
    task = LayoutTask(tiny_yolov5, bottleneck, image_size=64, sensitivity_images=1)
    pictures = sorted((toy_set / "in").iterdir())
    found = find_layout(task, pictures, output)
    assert load_layout(output).fingerprint() == found.fingerprint() == find_layout(task, pictures, output).fingerprint()
    assert found.config.training["images"] == len(pictures)
    assert "bottleneck" not in found.config.training
    codec = FeatureCodec.load(tiny_yolov5, bottleneck=bottleneck, layout=output, image_size=64)
    assert codec.packing.layout is not None
    assert len(codec.decode(codec.encode(np.zeros((64, 64, 3), np.uint8), 30))) >= 0


@pytest.mark.slow
def test_the_anchor_free_head_is_asked_too(tmp_path: Path, toy_set: Path, tiny_yolov5u: Path) -> None:
    task = LayoutTask(tiny_yolov5u, "none", image_size=64, sensitivity_images=1)
    layout = find_layout(task, sorted((toy_set / "in").iterdir())[:1], tmp_path / "l.safetensors")
    assert len(set(np.abs(layout.scale))) > 1


def test_without_images_there_is_none(tmp_path: Path, tiny_yolov5: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        find_layout(LayoutTask(tiny_yolov5), [], tmp_path / "l.safetensors")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


@pytest.mark.slow
def test_the_command(tmp_path: Path, toy_set: Path, tiny_yolov5: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, pictures = tmp_path / "l.safetensors", toy_set / "in"
    models = ["--detector", tiny_yolov5, "--bottleneck", "none"]
    find = ["train", "layout", pictures, *models, "-o", output, "--image-size", 64]
    assert run(*find) == 0
    assert capsys.readouterr().out.strip() == str(output)
    assert run(*find) == 1
    assert "exists; use --overwrite or another -o" in capsys.readouterr().err
    streams, detections = tmp_path / "streams", tmp_path / "found.json"
    assert run("encode", pictures, "-o", streams, *models, "--layout", output, "--image-size", 64) == 0
    assert run("decode", streams, "-o", detections, *models, "--layout", "none") == 1
    assert run("decode", streams, "-o", detections, *models, "--layout", output, "--overwrite") == 0
