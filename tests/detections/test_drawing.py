"""Drawing boxes: where pixels change, what is refused, and that originals stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import pytest
from pictures import save_texture
from PIL import Image

from featcodec.detections import Detections, Mask
from featcodec.detections.drawing import draw_boxes, open_drawing, save_jpeg
from featcodec.errors import InputError, OutputError
from featcodec.images.reading import read_image

WIDTH, HEIGHT = 320, 200
BOX = (100, 80, 180, 150)


def detections(
    *boxes: tuple[tuple[float, float, float, float], float, int], width: int = WIDTH, height: int = HEIGHT
) -> Detections:
    """Of (box, score, class) each."""
    return Detections(
        xyxy=np.array([box for box, _, _ in boxes], np.float32).reshape(-1, 4),
        scores=np.array([score for _, score, _ in boxes], np.float32),
        class_ids=np.array([class_id for _, _, class_id in boxes], np.int64),
        names=("cat", "a newt of a very long name"),
        width=width,
        height=height,
    )


def gray(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def changed(found: Detections, **options: float) -> np.ndarray:
    """Which pixels differ from the image, (height, width) bool."""
    image = gray(found.width, found.height)
    drawn = draw_boxes(image, found, **options)
    assert (image == 128).all(), "the image itself was drawn on"
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    return np.asarray((drawn != image).any(axis=2))


def test_only_the_outline_and_the_label_above_it_change() -> None:
    mask = changed(detections((BOX, 0.9, 0)))
    left, top, right, bottom = BOX
    assert mask[top, left : right + 1].all()
    assert mask[bottom, left : right + 1].all()
    assert mask[top : bottom + 1, left].all()
    assert mask[top : bottom + 1, right].all()
    assert not mask[top + 3 : bottom - 2, left + 3 : right - 2].any(), "the object itself is covered"
    rows, columns = mask.nonzero()
    assert top - 20 <= rows.min() < top - 5, "no label above the box"
    assert rows.max() <= bottom
    assert columns.min() == left
    assert columns.max() <= right


def test_the_label_stays_in_the_image() -> None:
    inside = changed(detections(((0, 0, 20, 15), 0.9, 1)))
    assert inside[:12, :100].mean() > 0.9, "at the upper edge the label lies in the box"
    right = changed(detections(((310, 80, 320, 100), 0.9, 1)))
    assert right[60:78, WIDTH - 100 :].any(axis=0).mean() > 0.9, "at the right edge the label moves to the left"
    for box in ((0, 0, WIDTH, HEIGHT), (50, 50, 50, 50), (WIDTH, HEIGHT, WIDTH, HEIGHT)):
        assert changed(detections((box, 0.9, 1))).any()


@pytest.mark.parametrize(("least_score", "visible"), [(0.0, True), (0.5, True), (0.51, False), (1.0, False)])
def test_boxes_below_the_least_score_are_left_out(least_score: float, visible: bool) -> None:
    assert changed(detections((BOX, 0.5, 0)), least_score=least_score).any() == visible


def test_the_best_box_lies_on_top() -> None:
    top, bottom = (BOX, 0.9, 0), (BOX, 0.4, 1)
    both = draw_boxes(gray(), detections(top, bottom))
    corner = BOX[3], BOX[0]
    assert (both[corner] == draw_boxes(gray(), detections(top))[corner]).all()
    assert (both[corner] != draw_boxes(gray(), detections(bottom))[corner]).any()


def test_lines_grow_with_the_image() -> None:
    wide = changed(detections(((1000, 800, 1800, 1500), 0.9, 0), width=3200, height=2000))
    assert wide[1200, 1000:1008].all()
    assert not wide[1200, 1020:1780].any()


def test_masks_are_tints_of_the_object() -> None:
    pixels = np.zeros((HEIGHT, WIDTH), bool)
    pixels[100:120, 110:150] = True
    found = replace(detections((BOX, 0.9, 0), (BOX, 0.1, 1)), masks=(Mask.of(pixels), Mask.of(~pixels)))
    box_alone = draw_boxes(gray(), detections((BOX, 0.9, 0)))
    drawn = draw_boxes(gray(), found)
    np.testing.assert_array_equal((drawn != box_alone).any(axis=2), pixels)
    assert len(np.unique(drawn[pixels], axis=0)) == 1


def test_keypoints_are_dots_and_those_of_a_person_are_joined() -> None:
    points = np.zeros((1, 17, 3), np.float32)
    points[0, 5] = 120, 100, 0.9  # left shoulder
    points[0, 7] = 160, 130, 0.8  # left elbow
    points[0, 9] = 20, 20, 0.4  # left wrist, hardly seen
    box = detections((BOX, 0.9, 0))
    alone, drawn = draw_boxes(gray(), box), draw_boxes(gray(), replace(box, keypoints=points))
    mask = (drawn != alone).any(axis=2)
    assert mask[100, 120]
    assert mask[130, 160]
    assert mask[115, 140], "no line from shoulder to elbow"
    assert not mask[:60].any()
    mask = (draw_boxes(gray(), replace(box, keypoints=points[:, :12])) != alone).any(axis=2)
    assert mask[100, 120]
    assert not mask[115, 140], "these are not a person's keypoints"


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (WIDTH + 1, HEIGHT), (WIDTH // 2, HEIGHT // 2)])
def test_another_size_than_that_of_the_detections_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=rf"the image has {size[0]}x{size[1]} pixels, but .* {WIDTH}x{HEIGHT};"):
        draw_boxes(gray(*size), detections((BOX, 0.9, 0)))


@pytest.mark.parametrize("size", [(65_501, 1), (1, 65_501)])
def test_a_side_that_jpeg_cannot_hold_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"a.jpg: {size[0]}x{size[1]} pixels do not fit into a JPEG file") as caught:
        save_jpeg(tmp_path / "a.jpg", gray(*size))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_longest_side_that_jpeg_can_hold(tmp_path: Path) -> None:
    save_jpeg(tmp_path / "deep/a.jpg", gray(65_500, 2))
    with Image.open(tmp_path / "deep/a.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (65_500, 2))


def test_a_folder_in_the_way_of_a_drawn_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        save_jpeg(tmp_path / "a.jpg", gray())


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images found"):
        open_drawing(tmp_path, tmp_path / "drawn", 0.25, [], overwrite=False)


NAMES = [PurePath("a"), PurePath("elsewhere/b"), PurePath("c")]


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    save_texture(tmp_path / "in/a.jpg", WIDTH, HEIGHT, seed=1)
    save_texture(tmp_path / "in/sub/b.jpg", WIDTH, HEIGHT, seed=2)
    return tmp_path / "in"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_images_are_drawn_under_the_name_of_their_stream(tmp_path: Path, originals: Path) -> None:
    before = contents(originals)
    draw = open_drawing(originals, tmp_path / "drawn", 0.25, NAMES, overwrite=False)
    draw(PurePath("elsewhere/b"), detections((BOX, 0.9, 0)))
    draw(PurePath("a"), detections())
    assert sorted(contents(tmp_path / "drawn")) == ["a.jpg", "elsewhere/b.jpg"]
    drawn = read_image(tmp_path / "drawn/elsewhere/b.jpg").astype(int)
    difference = np.abs(drawn - read_image(originals / "sub/b.jpg")).mean(axis=2)
    assert difference[BOX[1] : BOX[3], BOX[0]].mean() > 30
    assert difference[:, BOX[2] + 20 :].mean() < 5, "it is another image"
    assert contents(originals) == before


def test_an_image_without_original_is_an_error(tmp_path: Path, originals: Path) -> None:
    draw = open_drawing(originals, tmp_path / "drawn", 0.25, NAMES, overwrite=False)
    with pytest.raises(InputError, match=r"c: .*in has no image of that name, or several; it is decoded but not drawn"):
        draw(PurePath("c"), detections())


def test_a_drawn_image_that_exists_needs_overwrite(tmp_path: Path, originals: Path) -> None:
    save_texture(tmp_path / "drawn/a.jpg", 8, 8)
    before = contents(tmp_path / "drawn")
    with pytest.raises(OutputError, match=r"drawn/a\.jpg: exists; use `overwrite` or another `draw`"):
        open_drawing(originals, tmp_path / "drawn", 0.25, NAMES, overwrite=False)(PurePath("a"), detections())
    assert contents(tmp_path / "drawn") == before
    open_drawing(originals, tmp_path / "drawn", 0.25, NAMES, overwrite=True)(PurePath("a"), detections())
    assert contents(tmp_path / "drawn") != before


@pytest.mark.parametrize(
    "folder",
    [lambda path: path, lambda path: path / "sub/..", lambda path: path.parent / "link"],
    ids=["itself", "the way round", "link"],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_originals_own_folder_is_refused(originals: Path, folder: Callable[[Path], Path], overwrite: bool) -> None:
    (originals.parent / "link").symlink_to(originals)
    with pytest.raises(OutputError, match="is the folder of the originals"):
        open_drawing(originals, folder(originals), 0.25, NAMES, overwrite=overwrite)


@pytest.mark.parametrize(("images", "folder", "name"), [("in", "in/sub", "b"), ("in/sub", "in", "sub/b")])
def test_an_original_is_not_drawn_over_from_another_folder(
    tmp_path: Path, originals: Path, images: str, folder: str, name: str
) -> None:
    """`--draw` may lie below `--images` or above it, and a stream be named so that the two meet."""
    before = contents(originals)
    draw = open_drawing(tmp_path / images, tmp_path / folder, 0.25, [PurePath(name)], overwrite=True)
    with pytest.raises(OutputError, match="is an original"):
        draw(PurePath(name), detections((BOX, 0.9, 0)))
    assert contents(originals) == before
