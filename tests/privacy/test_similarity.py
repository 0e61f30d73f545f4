"""SSIM and MS-SSIM from the library, with what they have no value for; and whole pictures as a reader."""

from __future__ import annotations

import math
import sys
from pathlib import PurePath

import numpy as np
import pytest
from pictures import texture

from featcodec.privacy.image_quality import image_quality
from featcodec.privacy.measures import EDGE_PSNR, MEASURES, MS_SSIM, PSNR, SSIM
from featcodec.privacy.readers import Original, Score
from featcodec.privacy.similarity import Similarity, similarity_of, structure


def pair(width: int, height: int, noise: float = 20) -> tuple[np.ndarray, np.ndarray]:
    """A uint8 picture, and the same with noise."""
    first = texture(width, height)
    rough = first + np.random.default_rng(0).normal(0, noise, first.shape)
    return first, np.clip(rough, 0, 255).astype(np.uint8)


def as_floats(*pictures: np.ndarray) -> list[np.ndarray]:
    return [picture.astype(np.float32) / 255 for picture in pictures]


def test_equal_pictures_are_alike_and_noise_makes_them_less_so() -> None:
    pytest.importorskip("pytorch_msssim")
    same = structure(*as_floats(texture(200, 176), texture(200, 176)))
    assert same == pytest.approx({"ssim": 1, "ms_ssim": 1})
    little, much = (structure(*as_floats(*pair(200, 176, noise))) for noise in (10, 40))
    for name in ("ssim", "ms_ssim"):
        assert 1 > little[name] > much[name] > 0


def test_ssim_is_that_of_the_paper() -> None:
    """One window, so the formula of Wang et al. by hand."""
    pytest.importorskip("pytorch_msssim")
    first, second = as_floats(*pair(11, 11))
    offset = np.arange(11) - 5
    window = np.exp(-(offset**2) / (2 * 1.5**2))
    weights = np.outer(window, window)[..., None] / window.sum() ** 2
    means = [(weights * one).sum((0, 1)) for one in (first, second)]
    variances = [(weights * one**2).sum((0, 1)) - mean**2 for one, mean in zip((first, second), means, strict=True)]
    covariance = (weights * first * second).sum((0, 1)) - means[0] * means[1]
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * means[0] * means[1] + c1) * (2 * covariance + c2)
    expected /= (means[0] ** 2 + means[1] ** 2 + c1) * (variances[0] + variances[1] + c2)
    assert structure(first, second)["ssim"] == pytest.approx(expected.mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("side", "undefined"), [(10, {"ssim", "ms_ssim"}), (11, {"ms_ssim"}), (160, {"ms_ssim"}), (161, set())]
)
def test_a_picture_that_is_too_small_has_no_value(side: int, undefined: set[str]) -> None:
    pytest.importorskip("pytorch_msssim")
    found = structure(*as_floats(*pair(200, side)))
    assert {name for name, value in found.items() if math.isnan(value)} == undefined


def test_a_reconstruction_is_clipped_like_for_psnr() -> None:
    pytest.importorskip("pytorch_msssim")
    first, second = as_floats(*pair(64, 48))
    beyond = np.where(second > 0.7, 9, second)
    assert similarity_of(first, beyond) == similarity_of(first, np.clip(beyond, 0, 1))


def test_without_the_library_there_are_psnr_and_edge_psnr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_msssim", None)
    first, second = as_floats(*pair(64, 48))
    quality = image_quality(first, second)
    assert similarity_of(first, second) == {"psnr": quality.psnr, "edge_psnr": quality.edge_psnr}
    assert Similarity().measures == (PSNR, EDGE_PSNR)


def test_as_a_reader_every_image_counts_once_and_what_has_no_value_not_at_all() -> None:
    pytest.importorskip("pytorch_msssim")
    first, second = pair(64, 48)
    reader = Similarity()
    assert reader.measures == (PSNR, EDGE_PSNR, SSIM, MS_SSIM) == MEASURES[:4]
    found = reader.scores(Original(PurePath("a.png"), (64, 48), first), {"rough": second, "exact": first})
    assert {name: score.count for name, score in found["rough"].items()} == {
        **{"psnr": 1, "edge_psnr": 1, "ssim": 1, "ms_ssim": 0}
    }
    assert found["rough"]["psnr"].mean == pytest.approx(image_quality(*as_floats(first, second)).psnr, abs=1e-4)
    assert found["exact"]["psnr"] == Score(), "infinite, so it would hide all others"
    assert found["exact"]["ssim"] == Score(pytest.approx(1), 1)
