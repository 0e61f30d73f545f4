"""Pictures of plates for a direct reader: which ones, where the plate lies in them, and how they vary."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from plate_set import make_scenes, plates_on

from featcodec.errors import InputError
from featcodec.images.reading import read_image
from featcodec.privacy.direct_reader import WINDOW_HEIGHT, WINDOW_WIDTH
from featcodec.privacy.private_details import PrivateDetails, read_private_details
from featcodec.training.data.plate_windows import (
    BORDER_COLUMNS,
    BORDER_ROWS,
    PICTURE_HEIGHT,
    PICTURE_WIDTH,
    PlateWindows,
    plain_batches,
    read_plate_windows,
    window_batches,
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes"), 8)


@pytest.fixture(scope="module")
def details(scenes: Path) -> PrivateDetails:
    return read_private_details(scenes / "private.json")


@pytest.fixture(scope="module")
def plates(scenes: Path, details: PrivateDetails) -> PlateWindows:
    return read_plate_windows(details, scenes / "images", 512, 0)[0]


def in_pixels(box: np.ndarray) -> np.ndarray:
    """A box in samples of the window, in pixels of the picture."""
    return (box + np.array((BORDER_COLUMNS, BORDER_ROWS) * 2)) * 8


def marked(width: float, height: float, text: str = "AB12CDE") -> PlateWindows:
    """One plate: a white rectangle on black."""
    image = np.zeros((1, round(PICTURE_HEIGHT * 1.4), round(PICTURE_WIDTH * 1.4), 3), np.uint8)
    middle = image.shape[1] // 2, image.shape[2] // 2
    image[0, middle[0] - round(height / 2) : middle[0] + round(height / 2)][
        :, middle[1] - round(width / 2) : middle[1] + round(width / 2)
    ] = 255
    box = [middle[1] - width / 2, middle[0] - height / 2, middle[1] + width / 2, middle[0] + height / 2]
    return PlateWindows(image, np.array([box]), [text])


def bounds(picture: np.ndarray) -> list[float]:
    """The box of what is bright: left, top, right, bottom."""
    rows, columns = np.nonzero(picture[:, :, 0] > 100)
    return [float(edge) for edge in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def test_they_show_the_readable_plates_as_the_edge_sees_them(scenes: Path, plates: PlateWindows) -> None:
    expected = plates_on(scenes)
    assert list(plates.texts) == [text for _, _, text in expected]
    ((pictures, boxes, texts),) = plain_batches(plates, 64)
    assert (pictures.shape[1:], texts) == ((PICTURE_HEIGHT, PICTURE_WIDTH, 3), list(plates.texts))
    for picture, box, (path, (left, top, width, height), _) in zip(pictures, boxes, expected, strict=True):
        original = read_image(path)
        x0, y0, x1, y1 = in_pixels(box)
        assert (x1 - x0, y1 - y0) == pytest.approx((width, height), abs=0.01)
        x, y = round(left - x0), round(top - y0)
        assert (left - x0, top - y0) == pytest.approx((x, y), abs=1e-3), "moved by whole pixels"
        rows, columns = slice(int(y0), int(y1)), slice(int(x0), int(x1))
        assert np.array_equal(picture[rows, columns], np.roll(original, (-y, -x), (0, 1))[rows, columns])


def test_images_are_letterboxed_first(scenes: Path, details: PrivateDetails, plates: PlateWindows) -> None:
    (smaller, _) = read_plate_windows(details, scenes / "images", 256, 0)
    sizes, halves = (found.boxes[:, 2:] - found.boxes[:, :2] for found in (plates, smaller))
    assert np.allclose(halves, sizes / 2)


def test_held_out_images_are_not_trained_on(scenes: Path, details: PrivateDetails, plates: PlateWindows) -> None:
    train, held_out = read_plate_windows(details, scenes / "images", 512, 2)
    assert sorted([*train.texts, *held_out.texts]) == sorted(plates.texts)
    images = [{text for path, _, text in plates_on(scenes) if path == image} for image, _, _ in plates_on(scenes)]
    assert all(texts <= set(train.texts) or texts <= set(held_out.texts) for texts in images)
    assert len(held_out) >= 2


@pytest.mark.parametrize("size", [(64, 16), (40, 12), (190, 50), (400, 200)])
def test_the_box_follows_the_plate_wherever_it_is_moved(size: tuple[int, int]) -> None:
    """A plate that is too large becomes smaller, so that the window has it whole."""
    pictures, boxes, _ = next(window_batches(marked(*size), 40, range(1), 0))
    places = []
    for picture, box in zip(pictures, boxes, strict=True):
        if size[0] < 100:
            found, wide, high = in_pixels(box), box[2] - box[0], box[3] - box[1]
            slack = max(4.0, 0.1 * 8 * max(wide, high))
            assert np.abs(found - bounds(picture)).max() < slack
        assert (box[:2] >= 0).all()
        assert box[2] <= WINDOW_WIDTH
        assert box[3] <= WINDOW_HEIGHT
        places.append((in_pixels(box)[0] + in_pixels(box)[2]) / 2 % 8)
    assert np.histogram(places, bins=4, range=(0, 8))[0].min() >= 2, "every place on the grid of samples occurs"


def test_a_batch_depends_on_seed_and_step_alone(plates: PlateWindows) -> None:
    whole = list(window_batches(plates, 3, range(4), 7))
    again = list(window_batches(plates, 3, range(2, 4), 7))
    for (pictures, boxes, texts), (others, other_boxes, other_texts) in zip(whole[2:], again, strict=True):
        assert np.array_equal(pictures, others)
        assert np.array_equal(boxes, other_boxes)
        assert texts == other_texts
    assert not np.array_equal(whole[0][0], whole[1][0])
    assert not np.array_equal(next(window_batches(plates, 3, range(1), 7, rank=1))[0], whole[0][0])


def test_plates_at_the_edge_of_an_image_keep_their_size(tmp_path: Path) -> None:
    image = np.full((256, 256, 3), 90, np.uint8)
    cv2.rectangle(image, (0, 240), (40, 255), (255, 255, 255), -1)
    Image.fromarray(image).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "details": [
            {"image_id": 1, "kind": "plate", "bbox": [0, 240, 41, 16], "text": "AB12CDE", "readable": True},
            {"image_id": 1, "kind": "plate", "bbox": [0, 0, 41, 16], "text": "AB12CDE", "readable": False},
        ],
    }
    (tmp_path / "private.json").write_text(json.dumps(content))
    (found, _) = read_plate_windows(read_private_details(tmp_path / "private.json"), tmp_path, 256, 0)
    ((pictures, boxes, _),) = plain_batches(found, 4)
    x0, y0, x1, y1 = np.floor(in_pixels(boxes[0])).astype(int)
    assert (x1 - x0, y1 - y0) == (41, 16)
    assert pictures[0, y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].min() > 200


def test_what_cannot_be_read_is_refused(scenes: Path, details: PrivateDetails, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "other.png")
    with pytest.raises(InputError, match="holds none of the images"):
        read_plate_windows(details, tmp_path, 512, 0)
    with pytest.raises(InputError, match="hold out fewer"):
        read_plate_windows(details, scenes / "images", 512, 100)
    with pytest.raises(InputError, match="not a multiple of 32"):
        read_plate_windows(details, scenes / "images", 500, 0)
