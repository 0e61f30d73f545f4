"""Finds the images of a run by their names: among the images that a file lists, or in a folder of originals."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath, PurePosixPath
from typing import Generic, TypeVar

from featcodec.errors import InputError
from featcodec.images.reading import IMAGE_SUFFIXES
from featcodec.system.paths import expand_sources

T = TypeVar("T")


class ListedNames(Generic[T]):
    """The file names that a file lists, each with a value.

    Args:
        listed: pairs of a file name and its value. Folders in a file name are separated by slashes or backslashes.
    """

    def __init__(self, listed: Iterable[tuple[str, T]]) -> None:
        self._by_last_part: dict[str, list[tuple[tuple[str, ...], T]]] = {}
        for file_name, value in listed:
            path = PurePosixPath(file_name.replace("\\", "/"))
            names = {path.stem}
            if path.suffix.lower() not in IMAGE_SUFFIXES:  # in a listed "cam.01" the last part may not be an ending
                names.add(path.name)
            for name in names:
                self._by_last_part.setdefault(name, []).append(((*path.parts[:-1], name), value))

    def find(self, name: PurePath) -> list[T]:
        """The values of the listed names that fit best.

        The same path as listed comes first. Then the listed paths count whose last parts are the same, at least the
        bare file name: those with the most parts in common.

        Args:
            name: the path of an image within a run, without ending (`Source.name`).

        Returns:
            one value if the image is found; several if the name does not say which one is meant; none if the file
            lists no such image.
        """
        parts = name.parts
        candidates = self._by_last_part.get(name.name, [])
        if len(candidates) < 2:
            return [value for _, value in candidates]
        if same := [value for listed, value in candidates if listed == parts]:
            return same
        most = max(_common(parts, listed) for listed, _ in candidates)
        return [value for listed, value in candidates if _common(parts, listed) == most]


def name_of(file_name: str) -> PurePath:
    """The name of an image from a file name that a file lists: its path without ending. Other endings are kept."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    return path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path


def match_originals(names: Iterable[PurePath], folder: Path) -> dict[PurePath, Path]:
    """The original of each image of a run, matched by name as in `ListedNames.find`.

    Args:
        names: the names of the images (`Source.name`).
        folder: the folder of the originals.

    Returns:
        the path by name. Images without an original, and images for which several originals fit, are left out.

    Raises:
        InputError: the folder holds no image, or two images of the run have the same original.
    """
    sources = expand_sources([str(folder)], IMAGE_SUFFIXES, "images")
    listed = ListedNames((source.relative.as_posix(), source.path) for source in sources)
    taken: dict[Path, PurePath] = {}
    for name in names:
        originals = listed.find(name)
        if len(originals) == 1 and (other := taken.setdefault(originals[0], name)) != name:
            raise InputError(
                f"{originals[0]}: would be the original of both {other} and {name}; give only one of them, or a folder "
                "that has the same folders in it"
            )
    return {name: original for original, name in taken.items()}


def _common(parts: tuple[str, ...], others: tuple[str, ...]) -> int:
    """How many of the last parts are equal."""
    count = 0
    for one, other in zip(reversed(parts), reversed(others), strict=False):
        if one != other:
            break
        count += 1
    return count
