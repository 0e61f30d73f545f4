"""The gradient attack: it brings the tensor nearer to the observed one, from any start, and nothing in it is random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from audit_set import SIZE, AuditSet, make_audit_set, random_recnet
from pictures import texture
from torch import Tensor

from featcodec import FeatureCodec
from featcodec.errors import InputError
from featcodec.networks.features import levels_of
from featcodec.privacy.attack import Attack
from featcodec.privacy.gradient import GradientAttack, GradientSettings, total_variation


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tiny_yolov5: Path) -> AuditSet:
    return make_audit_set(tmp_path_factory.mktemp("gradient"), tiny_yolov5)


@pytest.fixture(scope="module", params=["latent", "bottleneck"])
def codec(request: pytest.FixtureRequest, checkpoints: AuditSet) -> FeatureCodec:
    learned = checkpoints.codec()
    return learned if request.param == "bottleneck" else learned.without_bottleneck()


def error_of(codec: FeatureCodec, pictures: list[np.ndarray], observed: Tensor) -> float:
    """How far the tensors of pictures without border are from the observed ones, in units of their variance."""
    batch = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures])
    with torch.inference_mode():
        return float((codec.model.encode(batch) - observed).square().mean() / observed.var())


def test_the_tensor_comes_near_to_the_observed_one(codec: FeatureCodec) -> None:
    batch = [codec.letterbox(texture(SIZE, 64, seed)) for seed in range(2)]
    observed = codec.tensors_of(batch)
    settings = GradientSettings(steps=60, smoothness=0.05)
    pictures = GradientAttack(codec, settings=settings).on_tensors(observed, [one.letterbox for one in batch])
    gray = [np.full_like(picture, 0.5) for picture in pictures]
    assert error_of(codec, pictures, observed) < 0.5 * error_of(codec, gray, observed)
    for picture in pictures:
        assert picture.dtype == np.float32
        assert picture.shape == (64, SIZE, 3)
        assert picture.min() >= 0
        assert picture.max() <= 1


def test_an_image_alone_and_again_gives_the_same_picture(codec: FeatureCodec) -> None:
    batch = [codec.letterbox(texture(SIZE, 64, seed)) for seed in range(2)]
    letterboxes = [one.letterbox for one in batch]
    observed = codec.tensors_of(batch)
    attack = GradientAttack(codec, settings=GradientSettings(steps=5))
    both = attack.on_tensors(observed, letterboxes)
    again = attack.on_tensors(observed, letterboxes)
    (alone,) = attack.on_tensors(observed[1:], letterboxes[1:])
    assert all(np.array_equal(*pair) for pair in zip(both, again, strict=True))
    # Adam divides by the size of a gradient, so the rounding of one near 0 becomes a step.
    assert np.abs(alone - both[1]).mean() < 2e-3


def test_it_starts_from_the_guess_of_a_recnet_and_knows_the_border(codec: FeatureCodec) -> None:
    image = codec.letterbox(texture(50, 120))
    observed = codec.tensors_of([image])
    start = Attack(codec, random_recnet(codec))
    settings = GradientSettings(steps=1, rate=1e-6)
    (picture,) = GradientAttack(codec, start, settings).on_tensors(observed, [image.letterbox], [0])
    (guess,) = start.on_tensors(observed, [image.letterbox])
    assert picture.shape == guess.shape == (96, 40, 3)
    np.testing.assert_allclose(picture, guess, atol=1e-4)
    (gray,) = GradientAttack(codec, settings=GradientSettings(steps=1, rate_from_gray=1e-6)).on_tensors(
        observed, [image.letterbox]
    )
    np.testing.assert_allclose(gray, 0.5, atol=1e-4)


def test_nearness_keeps_the_picture_near_the_guess(codec: FeatureCodec) -> None:
    image = codec.letterbox(texture(SIZE, 64))
    observed = codec.tensors_of([image])
    start = Attack(codec, random_recnet(codec))
    (guess,) = start.on_tensors(observed, [image.letterbox])

    def distance(nearness: float) -> float:
        settings = GradientSettings(steps=20, rate=0.02, nearness=nearness)
        (picture,) = GradientAttack(codec, start, settings).on_tensors(observed, [image.letterbox])
        return float(np.square(picture - guess).mean())

    assert distance(1e4) < 0.5 * distance(0)


def test_a_codec_in_half_precision_is_attacked_in_float32(checkpoints: AuditSet) -> None:
    codec = checkpoints.codec()
    codec.model.detector.half()
    codec.model.bottleneck.half()
    attack = GradientAttack(codec, settings=GradientSettings(steps=2))
    observed = torch.randn(1, 6, 8, 12).half()
    (picture,) = attack.on_tensors(observed, [codec.letterbox(texture(SIZE, 64)).letterbox])
    assert np.isfinite(picture).all()
    assert codec.model.detector.dtype == torch.float16, "the codec itself is left alone"


def test_a_tensor_that_is_not_finite_is_refused(codec: FeatureCodec) -> None:
    image = codec.letterbox(texture(SIZE, 64))
    observed = torch.full_like(codec.tensors_of([image]), torch.nan)
    with pytest.raises(InputError, match="a picture that is not finite"):
        GradientAttack(codec, settings=GradientSettings(steps=2)).on_tensors(observed, [image.letterbox])


def test_several_tensors_are_weighed_alike(tiny_yolov5: Path) -> None:
    """Each in units of its own variance, so that a level of small values counts as much as one of large values."""
    codec = FeatureCodec.load(str(tiny_yolov5), bottleneck="none", image_size=SIZE, split=9)
    model = codec.model
    image = codec.letterbox(texture(SIZE, 64))
    observed = codec.model.encode(codec.pictures_of([image]))
    assert len(levels_of(observed)) == 3
    first = GradientAttack(codec, settings=GradientSettings(steps=60, smoothness=0.05))
    (picture,) = first.on_tensors(observed, [image.letterbox])

    def errors(picture: np.ndarray) -> list[float]:
        found = model.encode(torch.from_numpy(picture).permute(2, 0, 1)[None])
        pairs = zip(levels_of(found), levels_of(observed), strict=True)
        return [float((mine - theirs).square().mean() / theirs.var()) for mine, theirs in pairs]

    for better, gray in zip(errors(picture), errors(np.full_like(picture, 0.5)), strict=True):
        assert better < 0.7 * gray


def test_total_variation() -> None:
    pictures = torch.tensor([[[[0.0, 1.0, 0.5], [0.0, 1.0, 0.5]]], [[[0.25] * 3, [0.5] * 3]]])
    assert total_variation(pictures).tolist() == [0.75, 0.25]
