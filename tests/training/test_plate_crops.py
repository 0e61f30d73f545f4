"""Crops of plates to train on: which ones, from which folders, and how they are degraded."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import texture
from PIL import Image
from plate_set import crops_of, make_scenes

from featcodec.errors import InputError
from featcodec.images.reading import read_image
from featcodec.privacy.private_details import PrivateDetails, read_private_details
from featcodec.training.data.plate_crops import degrade, read_plate_crops, training_batches


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes"), 8)


@pytest.fixture(scope="module")
def details(scenes: Path) -> PrivateDetails:
    return read_private_details(scenes / "private.json")


def scaled(scenes: Path, folder: Path, side: int, without: int | None = None) -> Path:
    """The scenes in another size, as an attack of another image size leaves them."""
    folder.mkdir()
    for path in (scenes / "images").iterdir():
        if without is None or path.stem != f"{without:06d}":
            Image.fromarray(cv2.resize(read_image(path), (side, side), interpolation=cv2.INTER_AREA)).save(
                folder / path.name
            )
    return folder


@pytest.mark.slow
def test_they_are_the_readers_crops_of_the_readable_plates(scenes: Path, details: PrivateDetails) -> None:
    train, held_out = read_plate_crops(details, [scenes / "images"], 0)
    crops, texts = crops_of(scenes)
    assert list(train.texts) == texts
    assert len(train) == len(texts) >= 4
    assert train.images.shape == (len(texts), 48, 192, 3)
    assert np.abs(train.plain.astype(float) - crops).mean() < 3
    assert np.abs(train.plain[::-1].astype(float) - crops).mean() > 20
    assert len(held_out) == 0


@pytest.mark.slow
def test_held_out_images_are_not_trained_on_in_any_folder(
    scenes: Path, details: PrivateDetails, tmp_path: Path
) -> None:
    folders = [scenes / "images", scaled(scenes, tmp_path / "small", 384)]
    train, held_out = read_plate_crops(details, folders, 2)
    images = [{plate.text for plate in details.plates(name)} for name in details.by_name]
    apart = [texts for texts in images if texts & set(held_out.texts)]
    assert len(apart) == 2
    assert set().union(*apart) == set(held_out.texts)
    assert not set(train.texts) & set(held_out.texts)
    assert len(train) + len(held_out) == 2 * sum(map(len, images))


@pytest.mark.slow
def test_reconstructions_of_another_size_show_the_same_plates(
    scenes: Path, details: PrivateDetails, tmp_path: Path
) -> None:
    folders = [scenes / "images", scaled(scenes, tmp_path / "small", 384)]
    train, _ = read_plate_crops(details, folders, 0)
    half = len(train) // 2
    assert list(train.texts[:half]) == list(train.texts[half:])
    assert (train.strengths[:half] == 1).all()
    assert (train.strengths[half:] < 0.5).all()
    first, second = train.images[:half].astype(float), train.images[half:]
    assert np.abs(first - second).mean() < 10
    assert np.abs(first - second[::-1]).mean() > 20


@pytest.mark.slow
def test_reconstructions_may_be_few_but_not_none(scenes: Path, details: PrivateDetails, tmp_path: Path) -> None:
    with_plates = next(number for number, name in enumerate(details.by_name) if details.plates(name))
    lacking = scaled(scenes, tmp_path / "some", 512, without=with_plates)
    whole, _ = read_plate_crops(details, [scenes / "images"], 0)
    train, _ = read_plate_crops(details, [scenes / "images", lacking], 0)
    missing = len(details.plates(Path(f"{with_plates:06d}")))
    assert len(train) == 2 * len(whole) - missing
    (tmp_path / "foreign").mkdir()
    Image.fromarray(texture(64, 64)).save(tmp_path / "foreign/x.png")
    for folders in ([tmp_path / "foreign"], [scenes / "images", tmp_path / "foreign"]):
        with pytest.raises(InputError, match="foreign: holds none of the images of "):
            read_plate_crops(details, folders, 0)
    with pytest.raises(InputError, match="no images found"):
        read_plate_crops(details, [tmp_path / "absent"], 0)


def test_a_part_of_the_images_is_enough(scenes: Path, details: PrivateDetails, tmp_path: Path) -> None:
    """Also for those held out: they are chosen among what is there."""
    (tmp_path / "some").mkdir()
    for path in [path for path in sorted((scenes / "images").iterdir()) if details.plates(path)][:3]:
        (tmp_path / "some" / path.name).symlink_to(path)
    train, held_out = read_plate_crops(details, [tmp_path / "some"], 2)
    assert min(len(train), len(held_out)) > 0
    named = [details.plates(path) for path in (tmp_path / "some").iterdir()]
    assert len(train) + len(held_out) == sum(map(len, named))


def test_nothing_to_train_on_is_refused(scenes: Path, details: PrivateDetails, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images: has \d images with readable plates; hold out fewer"):
        read_plate_crops(details, [scenes / "images"], 8)
    (tmp_path / "p.json").write_text(json.dumps({"images": [{"id": 0, "file_name": "000000.png"}], "details": []}))
    with pytest.raises(InputError, match="holds none of the images of "):
        read_plate_crops(read_private_details(tmp_path / "p.json"), [scenes / "images"], 0)


def test_a_step_is_a_function_of_seed_step_and_rank(scenes: Path, details: PrivateDetails) -> None:
    train, _ = read_plate_crops(details, [scenes / "images"], 0)

    def batch(first: int, step: int, seed: int = 3, rank: int = 0) -> tuple[bytes, list[str]]:
        *_, (images, texts) = training_batches(train, 6, range(first, step + 1), seed, rank=rank)
        assert images.shape == (6, 32, 128, 3)
        assert images.dtype == np.uint8
        return images.tobytes(), texts

    assert batch(0, 4) == batch(4, 4) == batch(2, 4)
    others = [batch(4, 4), batch(5, 5), batch(4, 4, seed=4), batch(4, 4, rank=1)]
    assert len({images for images, _ in others}) == 4
    assert {text for _, texts in others for text in texts} <= set(train.texts)


@pytest.mark.slow
def test_crops_are_degraded_from_hardly_to_badly(scenes: Path, details: PrivateDetails) -> None:
    """Sharpness, as the mean difference of neighbours, from nearly all of it to nearly none; contrast likewise."""
    train, _ = read_plate_crops(details, [scenes / "images"], 0)
    crop = train.images[0]
    plain = train.plain[0].astype(float)
    degraded = [degrade(crop, np.random.default_rng(seed)).astype(float) for seed in range(200)]
    edges = np.array([np.abs(np.diff(image, axis=1)).mean() for image in (plain, *degraded)])
    assert (edges[1:] < 0.25 * edges[0]).mean() > 0.05
    assert (edges[1:] > 0.7 * edges[0]).mean() > 0.2
    spread = np.array([image.std() for image in (plain, *degraded)])
    assert spread[1:].min() < 0.4 * spread[0]
    casts = np.array([image.mean((0, 1)) - image.mean() for image in degraded])
    assert casts.std(0).min() > 3
    mild = [degrade(crop, np.random.default_rng(seed), most=0.2).astype(float) for seed in range(100)]
    assert np.mean([np.abs(np.diff(image, axis=1)).mean() for image in mild]) > 1.2 * edges[1:].mean()
    assert min(image.std() for image in mild) > 0.6 * spread[0]
    again = degrade(crop, np.random.default_rng(7))
    assert np.array_equal(again, degraded[7].astype(np.uint8))
