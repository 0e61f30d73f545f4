"""LPIPS: measured with AlexNet's weights from torch's cache, and never downloaded."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch
from pictures import texture

from featcodec.errors import FeatcodecError
from featcodec.privacy import perceptual
from featcodec.privacy.perceptual import LPIPS, PerceptualReader
from featcodec.privacy.readers import Original, Reader, Score


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache, empty."""
    pytest.importorskip("lpips")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return folder


def test_without_the_weights_it_says_how_to_get_them_and_downloads_nothing(cache: Path) -> None:
    with pytest.raises(FeatcodecError, match=r"^LPIPS: needs AlexNet's weights, which are not in .*; get alexnet-owt-"):
        PerceptualReader()
    assert list(cache.iterdir()) == []


def test_a_damaged_file_is_refused_before_it_is_read(cache: Path) -> None:
    path = cache / perceptual.ALEXNET
    path.write_bytes(b"no weights")
    with pytest.raises(FeatcodecError, match=r"alexnet-owt-7be5be79.pth: is damaged \(SHA-256 [0-9a-f]{8}\); remove"):
        PerceptualReader()


@pytest.mark.slow
def test_equal_pictures_have_no_distance_and_worse_ones_have_more(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights of AlexNet; the weights of the distance are lpips's own."""
    import torchvision

    torch.manual_seed(0)
    path = cache / "random.pth"
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), path)
    name = f"alexnet-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
    path.rename(cache / name)
    monkeypatch.setattr(perceptual, "ALEXNET", name)
    state = torch.load(cache / name, weights_only=True)
    monkeypatch.setattr(torchvision.models.AlexNet_Weights, "get_state_dict", lambda *_, **__: state)
    reader: Reader = PerceptualReader()
    pixels = texture(96, 64)
    noise = np.random.default_rng(0).integers(-40, 40, pixels.shape)
    noisy = [np.clip(pixels + strength * noise, 0, 255).astype(np.uint8) for strength in (0, 0.3, 1)]
    original = Original(PurePath("a.png"), (96, 64), pixels)
    found = reader.scores(original, dict(zip("abc", noisy, strict=True)))
    distances = [found[key][LPIPS.name].mean for key in "abc"]
    assert distances[0] == 0
    assert distances[0] < distances[1] < distances[2]
    small = Original(PurePath("a.png"), (60, 60), pixels[:60, :60])
    assert reader.scores(small, {"a": pixels[:60, :60]}) == {"a": {LPIPS.name: Score()}}
