"""What the commands that attack files share: options, their sources, the originals, and the number plates on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from featcodec.cli.console import complain
from featcodec.cli.options import together

if TYPE_CHECKING:
    from featcodec.privacy.plates import PlateAudit
    from featcodec.system.paths import Source


letterbox_and_plates_options = together(
    click.option(
        "--image-size",
        type=int,
        default=512,
        show_default=True,
        help="If SRC is images: longer side of the letterboxed image in pixels, a multiple of 32. Bitstreams store "
        "theirs.",
    ),
    click.option(
        "--square", is_flag=True, help="If SRC is images: letterbox to a square instead of the minimum rectangle."
    ),
    click.option(
        "--private",
        type=click.Path(path_type=Path),
        default=None,
        help="private.json of the originals, from `featcodec scenes`: measure how much can be read on number plates.",
    ),
    click.option(
        "--plate-reader",
        type=click.Path(path_type=Path),
        default=Path("auto"),
        show_default=True,
        help="Plate reader from `featcodec train plate-reader`, for --private; or auto: the one that ships.",
    ),
)
"""--image-size, --square, --private and --plate-reader."""


def expand_attacked(arguments: Sequence[str]) -> tuple[list[Source], bool]:
    """The sources, and whether they are bitstreams."""
    from featcodec.bitstream import STREAM_SUFFIXES
    from featcodec.errors import InputError
    from featcodec.images.reading import IMAGE_SUFFIXES
    from featcodec.privacy.attack_pictures import is_stream
    from featcodec.system.paths import expand_sources

    files = expand_sources(arguments, IMAGE_SUFFIXES | STREAM_SUFFIXES, "bitstreams or images")
    streams = [source for source in files if is_stream(source)]
    if streams and len(streams) < len(files):
        image = next(source for source in files if not is_stream(source))
        raise InputError(
            f"{streams[0].path} is a bitstream and {image.path} is an image; give them separately, because a mean "
            "over both has no meaning"
        )
    return files, bool(streams)


def match_attacked(
    files: Sequence[Source], originals: Path | None, *, are_streams: bool
) -> tuple[dict[Path, Path], set[Source]]:
    """The original of each source, by the source's path; and the sources without an original."""
    from featcodec.images.names import match_originals

    if originals is None:
        return {} if are_streams else {source.path: source.path for source in files}, set()
    images = match_originals([source.name for source in files], originals)
    matched = {source.path: images[source.name] for source in files if source.name in images}
    return matched, {source for source in files if source.name not in images}


def plate_audit(private: Path, reader: Path | None, sources: Sequence[Source]) -> PlateAudit:
    """The plate reader and the plates of --private. Says how many of the images the file does not list."""
    from featcodec.privacy.plates import PlateAudit

    audit = PlateAudit.load(private, reader, [source.relative for source in sources])
    if unlisted := [source.path for source in sources if not audit.details.lists(source.relative)]:
        complain(
            f"note: {private} does not list {len(unlisted)} of {len(sources)} images (the first is {unlisted[0]}); "
            "plates on them do not count"
        )
    return audit
