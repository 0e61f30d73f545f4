"""Encoding into shards (`system.shards`): each has a part of the images, and appears when all of these are done.

The bytes of a shard depend on the images and the settings only. So a run that was stopped goes on shard by shard.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from featcodec import bitstream
from featcodec.bitstream import STREAM_SUFFIXES, VVC, SideInfo, Standard
from featcodec.errors import BitstreamError, InputError
from featcodec.pipeline.coding import BatchEdge, Encoded, ImageJob, output_path, read_image_job
from featcodec.system.addresses import Address, find_objects, states_below
from featcodec.system.elsewhere import state_of
from featcodec.system.files import ExistsError, atomic_writer
from featcodec.system.paths import Source, files_below
from featcodec.system.shards import (
    SHARD_SUFFIX,
    Member,
    is_shard,
    member_name,
    members_of,
    scan,
    write_index,
    write_shard,
)

_DIGITS = 6
_IN_MEMORY = 4 << 20
"""Bytes of a shard that wait in memory for the rest of it; more wait in a temporary file."""

Encode = Callable[[Sequence[Source]], Generator[Encoded, None, None]]
"""Encodes images without writing files; see `encode_files`."""


@dataclass(frozen=True)
class Shard:
    """A shard of a run.

    Attributes:
        path: the tar file.
        sources: its images, in the order of their streams in the shard.
        standard: that of its streams.
    """

    path: Path
    sources: Sequence[Source]
    standard: Standard = VVC

    def stream_of(self, source: Source) -> Path:
        """The path of an image's stream in the shard."""
        return output_path(source, None, self.standard)

    def output_of(self, source: Source) -> Path:
        """How the stream of an image is called in messages: behind the shard."""
        return self.path / member_name(self.stream_of(source))


def plan_shards(sources: Sequence[Source], folder: Path, count: int, standard: Standard = VVC) -> list[Shard]:
    """Divide images into shards: parts of about equal length, in the order that their streams have in one folder.

    Args:
        sources: the images.
        folder: where the shards go.
        count: how many shards. There are not more than images.
        standard: that of the streams.
    """
    ordered = sorted(sources, key=lambda source: output_path(source, None))
    count = min(count, len(ordered))
    digits = max(_DIGITS, len(str(count - 1)))
    ends = [number * len(ordered) // count for number in range(count + 1)]
    return [
        Shard(folder / f"{number:0{digits}d}{SHARD_SUFFIX}", ordered[start:end], standard)
        for number, (start, end) in enumerate(pairwise(ends))
    ]


def encode_into_shards(
    codec: BatchEdge,
    shards: Sequence[Shard],
    qp: int,
    encode: Encode,
    *,
    overwrite: bool = False,
    ignore_exif: bool = False,
) -> Generator[Encoded, None, None]:
    """Encode images into shards. Yields one outcome per image, as soon as its shard is written.

    A shard that exists is left as it is, if it was made from these images with these settings. An image that fails is
    not in its shard. A shard without any stream is not written.

    Args:
        codec: makes the streams.
        shards: from `plan_shards`.
        qp: quantization parameter, 0..63.
        encode: encodes images, in any order.
        overwrite: make shards again that exist.
        ignore_exif: take the pixels of images as they are stored; see `read_image`.

    Raises:
        ExistsError: a shard exists and is another one, or the folder holds a shard that is not of this run.
        OutputError: a shard cannot be written.
    """
    folder = shards[0].path.parent
    _refuse_other_shards(folder, {shard.path for shard in shards})
    is_there = states_below(folder)
    waiting: list[Shard] = []
    for shard in shards:
        if overwrite or is_there(shard.path) is None:
            waiting.append(shard)
        else:
            yield from _existing(codec, shard, qp, ignore_exif=ignore_exif)
    open_shards: dict[Source, _OpenShard] = {}
    for shard in waiting:
        open_shards.update(dict.fromkeys(shard.sources, _OpenShard(shard)))
    outcomes = encode([source for shard in waiting for source in shard.sources])
    try:
        for outcome in outcomes:
            shard_of = open_shards.pop(outcome.source)
            shard_of.add(outcome)
            if shard_of.is_complete:
                shard_of.write(overwrite=overwrite)
                yield from shard_of.outcomes
    finally:
        outcomes.close()
        for each in open_shards.values():
            each.close()


@dataclass
class _OpenShard:
    """A shard that waits for its streams."""

    shard: Shard
    outcomes: list[Encoded] = field(default_factory=list)
    _places: dict[Source, tuple[int, int]] = field(default_factory=dict)
    _streams: IO[bytes] | None = None

    @property
    def is_complete(self) -> bool:
        return len(self.outcomes) == len(self.shard.sources)

    def add(self, outcome: Encoded) -> None:
        if outcome.data is not None:
            if self._streams is None:
                self._streams = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  (`close` closes it)
            self._places[outcome.source] = self._streams.tell(), len(outcome.data)
            self._streams.write(outcome.data)
        self.outcomes.append(replace(outcome, output=self.shard.output_of(outcome.source), data=None))

    def write(self, *, overwrite: bool) -> None:
        if self._streams is not None:
            try:
                with atomic_writer(self.shard.path, overwrite=overwrite) as sink:
                    entries = write_shard(sink, self._members(self._streams))
            finally:
                self.close()
            write_index(self.shard.path, entries)

    def close(self) -> None:
        if self._streams is not None:
            self._streams.close()
            self._streams = None

    def _members(self, streams: IO[bytes]) -> Iterator[tuple[str, bytes]]:
        for source in self.shard.sources:
            if source in self._places:
                start, size = self._places[source]
                streams.seek(start)
                yield member_name(self.shard.stream_of(source)), streams.read(size)


def _refuse_other_shards(folder: Path, ours: set[Path]) -> None:
    """Whoever reads the folder would read them, too."""
    suffixes = frozenset({SHARD_SUFFIX})
    found: list[Path] = []
    if isinstance(folder, Address):
        found += (address for address, _ in find_objects(str(folder), suffixes))
    elif folder.is_dir():
        found += filter(is_shard, files_below(folder))
    if others := sorted(set(found) - ours):
        raise ExistsError(f"{others[0]}: exists and is not one of these {len(ours)} shards; choose another `output`")


def _existing(codec: BatchEdge, shard: Shard, qp: int, *, ignore_exif: bool) -> Iterator[Encoded]:
    """The outcomes for a shard that is there already.

    Every stream is read, and its settings compared. The pixels are compared for one image, and for those that have
    changed since the shard was made.
    """
    remedy = "use `overwrite` or another `output`"
    other = f"{shard.path}: exists, but was made from other images or with other weights or settings; {remedy}"
    try:
        write_index(shard.path, scan(shard.path))
        streams = {relative: member for member, relative in members_of(shard.path, STREAM_SUFFIXES)}
    except InputError as error:
        raise ExistsError(f"{shard.path}: exists and is not a whole shard ({error}); {remedy}") from None
    if not streams.keys() <= {shard.stream_of(source) for source in shard.sources}:
        raise ExistsError(other)
    made, settings = state_of(shard.path), set[tuple[Any, ...]]()
    for source in shard.sources:
        member = streams.get(shard.stream_of(source))
        if member is None:
            missing = f"{source.path}: is not in {shard.path}; it could not be encoded when this was made, or it is new"
            yield Encoded(source, shard.output_of(source), error=f"{missing}; remove the shard, or use `overwrite`")
            continue
        side_info, size = _read(member, shard)
        image = state_of(source.path)
        has_changed = image is None or made is None or image.time >= made.time
        if (not settings or has_changed) and not _is_of(codec, side_info, source, qp, ignore_exif=ignore_exif):
            raise ExistsError(other)
        settings.add((side_info.fingerprint, side_info.qp, side_info.split, side_info.bits))
        if len(settings) > 1:
            raise ExistsError(other)
        pixels = side_info.original_width * side_info.original_height
        yield Encoded(source, shard.output_of(source), size, pixels, skipped=True)


def _read(member: Member, shard: Shard) -> tuple[SideInfo, int]:
    try:
        data = bitstream.read_file(member)
        return bitstream.unpack(data)[0], len(data)
    except BitstreamError as error:
        raise ExistsError(f"{shard.path}: exists and is damaged ({error}); use `overwrite`") from None


def _is_of(codec: BatchEdge, side_info: SideInfo, source: Source, qp: int, *, ignore_exif: bool) -> bool:
    output = output_path(source, None)
    job = read_image_job(source, output, codec.fitting, ignore_exif=ignore_exif)
    return isinstance(job, ImageJob) and codec.matches(side_info, job.image, qp)
