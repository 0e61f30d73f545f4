"""The worst case: the strongest attack of each side, whatever "strong" means for a score."""

from __future__ import annotations

import math

import pytest

from featcodec.privacy.measures import LPIPS, PLATE_CHARACTERS, PSNR, SSIM, title_of, written, written_difference
from featcodec.privacy.worst_case import Strongest, worst_cases

MEANS = {
    ("bottleneck", "recnet"): {"psnr": 19.0, "lpips": 0.5, "ssim": 0.4},
    ("bottleneck", "gradient"): {"psnr": 18.0, "lpips": 0.3, "ssim": math.nan},
    ("latent", "recnet"): {"psnr": 20.5, "lpips": 0.4},
    ("latent", "gradient"): {"psnr": 21.0, "lpips": 0.45},
}


def test_each_side_has_its_own_strongest_attack() -> None:
    psnr, ssim, lpips = worst_cases(MEANS, (PSNR, SSIM, LPIPS, PLATE_CHARACTERS))
    assert psnr.sides == {"bottleneck": Strongest("recnet", 19.0), "latent": Strongest("gradient", 21.0)}
    assert psnr.difference == -2
    assert lpips.sides == {"bottleneck": Strongest("gradient", 0.3), "latent": Strongest("recnet", 0.4)}
    assert lpips.difference == pytest.approx(-0.1)
    assert ssim.sides == {"bottleneck": Strongest("recnet", 0.4)}, "NaN is no value"
    assert math.isnan(ssim.difference)


def test_an_attack_that_only_one_side_got_does_not_count() -> None:
    alone = {key: scores for key, scores in MEANS.items() if key != ("bottleneck", "gradient")}
    psnr, lpips = worst_cases(alone, (PSNR, LPIPS))
    assert psnr.sides == {"bottleneck": Strongest("recnet", 19.0), "latent": Strongest("recnet", 20.5)}
    assert psnr.difference == -1.5
    assert lpips.sides == {"bottleneck": Strongest("recnet", 0.5), "latent": Strongest("recnet", 0.4)}
    unlike = {key: MEANS[key] for key in (("bottleneck", "recnet"), ("latent", "gradient"))}
    (case,) = worst_cases(unlike, [PSNR])
    assert case.sides == {"bottleneck": Strongest("recnet", 19.0)}
    assert math.isnan(case.difference)


def test_one_side_alone_has_no_difference() -> None:
    (case,) = worst_cases({key: scores for key, scores in MEANS.items() if key[0] == "latent"}, [PSNR])
    assert case.sides == {"latent": Strongest("gradient", 21.0)}
    assert math.isnan(case.difference)
    assert worst_cases({}, [PSNR]) == []


def test_scores_are_written_for_people() -> None:
    assert [written(PSNR, 20.426), written(SSIM, 0.4126), written(PLATE_CHARACTERS, 0.147)] == [
        "20.43",
        "0.413",
        "14.7 %",
    ]
    assert written(PSNR, math.nan) == written_difference(SSIM, math.nan) == "–"
    assert written_difference(PSNR, -0.5) == "\N{MINUS SIGN}0.50"
    assert written_difference(PLATE_CHARACTERS, 0.055) == "+5.5 points"
    assert title_of(PSNR) == "PSNR, dB"
    assert "lower" in title_of(LPIPS)
