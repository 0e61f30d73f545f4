"""Attacks on a cluster make the same pictures and outcomes as those without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import save_texture

from featcodec.cluster.invert import attack_on_cluster
from featcodec.cluster.resources import Resources
from featcodec.codec import FeatureCodec
from featcodec.images.reading import IMAGE_SUFFIXES
from featcodec.privacy.attack import Attack
from featcodec.privacy.attack_files import attack_files
from featcodec.privacy.recnet import RecNet, RecNetConfig
from featcodec.system.paths import expand_sources

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]  # Ray's own


def test_the_same_pictures(on_two_nodes: Any, tiny_yolov5: Path, tmp_path: Path) -> None:
    codec = FeatureCodec.load(tiny_yolov5, bottleneck=None, image_size=96)
    torch.manual_seed(0)
    config = RecNetConfig(16, 0, 0, (2, 1), codec.fingerprint.hex(), {"stage": "test"})
    attack = Attack(codec, RecNet(config).requires_grad_(False))
    for number in range(5):
        save_texture(tmp_path / f"in/{number % 2}/{number}.png", 96, (64, 96)[number % 2], seed=number)
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    sources = expand_sources([str(tmp_path / "in")], IMAGE_SUFFIXES, "images")
    options = {"originals": {source.path: source.path for source in sources}}
    here = list(attack_files(attack, sources, tmp_path / "here", **options))
    there = list(attack_on_cluster(attack, sources, tmp_path / "there", resources=Resources.of_cluster(), **options))
    assert [(one.source, one.quality, one.error) for one in there] == [
        (one.source, one.quality, one.error) for one in here
    ]
    assert sum(one.error is not None for one in there) == 1
    assert files_in(tmp_path / "there") == files_in(tmp_path / "here")


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
