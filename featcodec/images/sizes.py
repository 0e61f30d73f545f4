"""Compares the sizes of images with those that annotations list: boxes fit only the images that they were drawn on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcodec.errors import InputError
from featcodec.images.annotations import Annotations, Note, listed_size
from featcodec.images.entries import reaches_out
from featcodec.images.orientation import has_late_metadata, is_on_its_side, orientation_of
from featcodec.images.reading import opened

_METADATA = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}
"""Where Pillow keeps what may hold the orientation of a PNG file."""

_Size = tuple[float, float]
_Same = Callable[[_Size, _Size], bool]


@dataclass(frozen=True)
class FileSize:
    """What the head of an image file says.

    Attributes:
        stored: (width, height) of the stored pixels.
        orientation: the orientation in the EXIF data, 1 (upright) to 8.
    """

    stored: tuple[int, int]
    orientation: int

    def read_as(self, *, ignore_exif: bool) -> tuple[int, int]:
        """(width, height) of what `read_image` returns."""
        width, height = self.stored
        return (height, width) if is_on_its_side(self.orientation) and not ignore_exif else (width, height)


def read_size(path: Path) -> FileSize:
    """The size of an image file. Most files are not decoded for that.

    Raises:
        InputError: the file cannot be read as an image, or is too large; see `read_image`.
    """
    with opened(path, head=True) as image:
        if image.format == "PNG" and not _METADATA & image.info.keys() and not has_late_metadata(path):
            return FileSize(image.size, 1)
        orientation = orientation_of(image)
        # Of a TIFF file, Pillow gives the size as a person sees it.
        is_turned = image.format == "TIFF" and is_on_its_side(orientation)
        width, height = image.size
        return FileSize((height, width) if is_turned else (width, height), orientation)


def check_files(
    annotations: Annotations,
    files: Iterable[tuple[int | str, Path]],
    note: Note,
    *,
    ignore_exif: bool,
    fractions: bool = False,
) -> None:
    """Refuse image files of other sizes than the annotations list.

    Args:
        annotations: the annotations.
        files: the id and the path of each image.
        note: is told when the sizes cannot say whether the boxes were drawn on the stored pixels, and when boxes reach
            out of their images.
        ignore_exif: how the images will be read; see `read_image`.
        fractions: the boxes are used as fractions of the listed size, so only the shape of the images must fit.

    Raises:
        InputError: the size of an image differs; or an image cannot be read.
    """
    same = _same_shape if fractions else _same_size
    listed = _listed_sizes(annotations)
    differing: list[tuple[Path, _Size, _Size]] = []
    undecided: list[Path] = []
    sizes: dict[int | str, _Size] = {}
    fit_otherwise = 0
    for image_id, path in files:
        size, file_size = listed.get(image_id), read_size(path)
        read, otherwise = (file_size.read_as(ignore_exif=ignore) for ignore in (ignore_exif, not ignore_exif))
        sizes[image_id] = read
        fits_otherwise = size is not None and read != otherwise and _same_size(size, otherwise)
        if size is not None and (fits_otherwise or not same(size, read)):
            fit_otherwise += fits_otherwise
            differing.append((path, size, read))
        elif file_size.orientation != 1 and not ignore_exif and (size is None or read == otherwise):
            undecided.append(path)
    if differing:
        path, wrong, found = differing[0]
        if fit_otherwise == len(differing):
            remedy = "leave `ignore_exif` out" if ignore_exif else "use `ignore_exif`"
            why = "their boxes were drawn on " + ("turned images" if ignore_exif else "the pixels as they are stored")
        else:
            why = "their boxes do not fit"
            remedy = "give the images that were annotated, or correct the sizes"
        raise InputError(
            f"{annotations.path}: lists other sizes than {len(differing)} of {len(sizes)} images have ({path}: listed "
            f"as {_text(wrong)}, read as {_text(found)}), so {why}; {remedy}"
        )
    if undecided:
        note(_turned(undecided, "their sizes cannot confirm it", "they are read upright"))
    if (reaching := beyond(annotations, sizes)) is not None:
        note(f"note: {reaching}")


def note_turned(labelled: Iterable[Path], note: Note) -> None:
    """Say how many images with YOLO labels EXIF data turns or mirrors. Their labels fit both ways, being fractions.

    Args:
        labelled: image files with labels.
        note: is told about them.

    Raises:
        InputError: an image cannot be read.
    """
    if turned := [path for path in labelled if read_size(path).orientation != 1]:
        note(_turned(turned, "YOLO labels do not confirm it", "they are read upright, as in ultralytics"))


def _turned(paths: Sequence[Path], why: str, so: str) -> str:
    return (
        f"note: {len(paths)} images are turned or mirrored by EXIF data, and {why} (the first is {paths[0]}); {so}; "
        "use `ignore_exif` if the boxes were drawn on the stored pixels"
    )


def difference(annotations: Annotations, coded: Mapping[int | str, _Size]) -> str | None:
    """One line about coded images of other sizes than the annotations list, or None.

    Args:
        annotations: the annotations.
        coded: (width, height) of the images that were coded, by id.
    """
    listed = _listed_sizes(annotations)
    differing = [
        (image_id, listed_as, size)
        for image_id, size in coded.items()
        if (listed_as := listed.get(image_id)) is not None and not _same_size(listed_as, size)
    ]
    if not differing:
        return None
    image_id, first, size = differing[0]
    remedy = "give the annotations of the coded images, or encode the images that were annotated"
    if all(_same_size(listed_as, (height, width)) for _, listed_as, (width, height) in differing):
        remedy = "encode with `ignore_exif` if they were drawn on the stored pixels, without it if on turned images"
    return (
        f"{annotations.path}: lists other sizes than {len(differing)} of {len(coded)} images were coded with (image "
        f"{image_id}: listed as {_text(first)}, coded as {_text(size)}), so their boxes do not fit; {remedy}"
    )


def coded_sizes(image_ids: Sequence[int | str], results: Sequence[Mapping[str, Any]]) -> dict[int | str, _Size]:
    """(width, height) of the images that results are about, by id, where the results say it.

    Args:
        image_ids: the id of the image of each result, from `matched_ids`.
        results: COCO results.
    """
    return {
        image_id: (width, height)
        for image_id, result in zip(image_ids, results, strict=True)
        if "image_size" in result
        for width, height in [result["image_size"]]
    }


def reaching_out(
    annotations: Annotations, image_ids: Sequence[int | str], results: Sequence[Mapping[str, Any]]
) -> str | None:
    """One line about boxes that reach out of their image as it is listed, or None.

    Args:
        annotations: the annotations.
        image_ids: the id of the image of each result, from `matched_ids`.
        results: COCO results. Those that say the size of their image are not looked at; see `difference`.
    """
    listed = _listed_sizes(annotations)
    found: dict[int | str, None] = {}
    for image_id, result in zip(image_ids, results, strict=True):
        size = None if "image_size" in result else listed.get(image_id)
        if size is not None and _reaches_out(result["bbox"], size):
            found[image_id] = None
    if not found:
        return None
    return (
        f"boxes reach out of {len(found)} images as {annotations.path} lists them (the first is image "
        f"{next(iter(found))}); check that they were found on these images, at this size and turned in this way"
    )


def beyond(annotations: Annotations, images: Mapping[int | str, _Size]) -> str | None:
    """One line about annotated boxes that reach out of their images, or None.

    Args:
        annotations: the annotations.
        images: (width, height) of the images by id, as read or coded. A listed size comes first.
    """
    sizes = {**images, **{image_id: size for image_id, size in _listed_sizes(annotations).items() if size is not None}}
    found: dict[int | str, _Size] = {}
    for box in annotations.content["annotations"]:
        size = sizes.get(box["image_id"])
        if size is not None and box["image_id"] in images and _reaches_out(box["bbox"], size):
            found[box["image_id"]] = size
    if not found:
        return None
    image_id, size = next(iter(found.items()))
    return (
        f"{annotations.path}: boxes reach out of {len(found)} of {len(images)} images (the first is image {image_id} "
        f"of {_text(size)}); check that they were drawn on these images, at this size and turned in this way"
    )


def _reaches_out(box: Sequence[float], size: _Size) -> bool:
    return reaches_out(box[0] + box[2], size[0]) or reaches_out(box[1] + box[3], size[1])


def _listed_sizes(annotations: Annotations) -> dict[int | str, _Size | None]:
    return {image["id"]: listed_size(image) for image in annotations.content["images"]}


def _same_size(one: _Size, other: _Size) -> bool:
    return all(abs(a - b) < 1 for a, b in zip(one, other, strict=True))


def _same_shape(listed: _Size, read: _Size) -> bool:
    """Whether an image is the listed one at another scale, rounded to whole pixels in any way."""
    wanted = read[1] * listed[0] / listed[1], read[0] * listed[1] / listed[0]
    return abs(wanted[0] - read[0]) <= 2 or abs(wanted[1] - read[1]) <= 2


def _text(size: _Size) -> str:
    return f"{size[0]:g}x{size[1]:g}"
