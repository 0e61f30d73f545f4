"""Images are found by their names, in a list of file names and in a folder, and never one for two."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest
from pictures import save_texture

from featcodec.errors import InputError
from featcodec.images.names import ListedNames, match_originals


@pytest.mark.parametrize(
    ("listed", "name", "expected"),
    [
        (["cam.01.png", "cam.02.png"], "cam.02", ["cam.02.png"]),
        (["cam.01.png", "cam.02.png"], "cam", []),
        (["cam.01", "cam.02"], "cam.01", ["cam.01"]),
        (["a.jpg.rf.3f2.png"], "a.jpg.rf.3f2", ["a.jpg.rf.3f2.png"]),
        (["a.heic"], "a", ["a.heic"]),
        (["cam1/1.png", "cam2/1.png"], "cam2/1", ["cam2/1.png"]),
        (["cam1/1.png", "cam2/1.png"], "set/cam2/1", ["cam2/1.png"]),
        (["cam1/1.png", "cam2/1.png"], "1", ["cam1/1.png", "cam2/1.png"]),
        (["cam1/1.png", "cam2/1.png"], "cam3/1", ["cam1/1.png", "cam2/1.png"]),
        (["1.png", "cam/1.png"], "1", ["1.png"]),
        (["x/cam/1.png", "cam/1.png"], "cam/1", ["cam/1.png"]),
        (["x/cam/1.png", "cam/1.png"], "x/cam/1", ["x/cam/1.png"]),
        (["/data/val2017/x.jpg", "/data/train2017/x.jpg"], "val2017/x", ["/data/val2017/x.jpg"]),
        (["val2017/x.jpg"], "x", ["val2017/x.jpg"]),
        (["cam1\\1.png", "cam2\\1.png"], "cam1/1", ["cam1\\1.png"]),
        (["./cam1/1.png"], "cam1/1", ["./cam1/1.png"]),
        (["1.png", "1.jpg"], "1", ["1.png", "1.jpg"]),
        (["", "1.png"], "1", ["1.png"]),
    ],
)
def test_the_name_that_fits_best_is_found(listed: list[str], name: str, expected: list[str]) -> None:
    assert ListedNames((each, each) for each in listed).find(PurePath(name)) == expected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cam.01.png", "x/b.jpg", "y/b.png", "x/c.JPG"):
        save_texture(tmp_path / name, 8, 8)
    return tmp_path


def test_originals_are_matched_by_path_and_by_bare_name_where_it_is_unique(folder: Path) -> None:
    names = [PurePath(name) for name in ("cam.01", "y/b", "b", "c", "d", "cam")]
    assert match_originals(names, folder) == {
        PurePath("cam.01"): folder / "cam.01.png",
        PurePath("y/b"): folder / "y/b.png",
        PurePath("c"): folder / "x/c.JPG",
    }


def test_one_original_of_two_images_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"c\.JPG: would be the original of both x/c and y/c; give only one"):
        match_originals([PurePath("x/c"), PurePath("y/c")], folder)
