"""Attacks on many images: RecNet makes reconstructions from their bitstreams or from their tensors.

A bitstream is decoded up to the decoded tensor. An image goes through front-end and AE without clipping, quantization
and VVC. This is how the paper measures privacy (section IV-A). Threads work as in decoding: each thread does whole
steps and uses one CPU thread of torch.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featcodec import bitstream
from featcodec.bitstream import SideInfo
from featcodec.errors import FeatcodecError, one_line
from featcodec.images.letterbox import MAX_IMAGE_SIZE, Letterbox, Letterboxed, letterbox_of
from featcodec.images.reading import reading
from featcodec.images.side_by_side import Panel, save_png, side_by_side
from featcodec.pipeline.common import batched_outcomes, file_size, network_batch, one_bad_apart
from featcodec.privacy.attack import Attack, Picture
from featcodec.privacy.attack_pictures import (
    check_outputs,
    is_stream,
    letterboxed_original,
    picture_path,
    side_by_side_path,
    to_pixels,
)
from featcodec.privacy.image_quality import ImageQuality, image_quality
from featcodec.privacy.plates import PlateAudit, ReadPlate
from featcodec.system.paths import Source


@dataclass(frozen=True)
class Attacked:
    """The outcome of one bitstream or image.

    Attributes:
        source: the bitstream or image file.
        output: the reconstruction, a PNG.
        quality: how close the reconstruction is to the original, or None without an original.
        latent_quality: how close the reconstruction of the latent attack is, or None without this attack.
        side_by_side: original and reconstructions in one PNG, or None without an original.
        qp: QP of the bitstream, or "raw"; empty for an image.
        plates: what is read from the number plates that are readable on the original, or None if plates are not read.
        error: one line that says what went wrong, or None.
    """

    source: Source
    output: Path
    quality: ImageQuality | None = None
    latent_quality: ImageQuality | None = None
    side_by_side: Path | None = None
    qp: str = ""
    plates: tuple[ReadPlate, ...] | None = None
    error: str | None = None


@dataclass(frozen=True, eq=False)
class _Job:
    """A file on its way through the networks. `original` has the same letterbox as the target.

    A bitstream is decoded as late as possible, because it is smaller than its frame.
    """

    source: Source
    target: tuple[SideInfo, bytes] | Letterboxed
    letterbox: Letterbox
    original: Letterboxed | None

    @property
    def kind(self) -> tuple[tuple[int, int, bool, bool], int, int]:
        """What must be equal in a batch, the bytes and the letterboxed pixels."""
        width, height = self.letterbox.width, self.letterbox.height
        images = [image for image in (self.target, self.original) if isinstance(image, Letterboxed)]
        held = sum(image.pixels.nbytes for image in images)
        held += 0 if isinstance(self.target, Letterboxed) else len(self.target[1])
        return (width, height, isinstance(self.target, Letterboxed), self.original is None), held, width * height


def check_pictures(
    sources: Sequence[Source], folder: Path, originals: Mapping[Path, Path] | None = None, *, overwrite: bool
) -> None:
    """Check, before any computation, that `attack_files` destroys no file. The arguments are the same as there.

    Raises:
        OutputError: the folder is a file; a picture exists already (unless it may be overwritten); or a picture would
            replace a source, an original or another picture.
    """
    originals = originals or {}
    outputs = [picture_path(source, folder) for source in sources]
    outputs += [side_by_side_path(source, folder) for source in sources if source.path in originals]
    protected = (*(source.path for source in sources), *originals.values())
    check_outputs(outputs, folder, protected, overwrite=overwrite)


def attack_files(  # noqa: PLR0913  (most are keywords that are seldom given)
    attack: Attack,
    sources: Sequence[Source],
    folder: Path,
    *,
    originals: Mapping[Path, Path] | None = None,
    latent: Attack | None = None,
    plates: PlateAudit | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    ignore_exif: bool = False,
) -> Generator[Attacked, None, None]:
    """Reconstruct pictures and write them. Yields one outcome per file, in the order of the sources.

    The pictures have the size of the letterboxed image without its border. They are measured at this size, against the
    original scaled to the same size. Call `check_pictures` first, so that no time is lost on pictures that exist.

    Args:
        attack: the codec and the RecNet trained on it.
        sources: bitstream files and images. For an image the uncompressed tensor is attacked.
        folder: where the pictures go.
        originals: original images for the measurement, by path of the source. An image may be its own original.
        latent: a second attack for comparison, on the uncompressed tensors of the originals. Its codec is usually the
            same without bottleneck.
        plates: reads the number plates on originals and reconstructions.
        workers: number of threads; None means one per core.
        ignore_exif: take the pixels of images and originals as they are stored; see `read_image`.
        overwrite: replace pictures that exist. Without it, such a file counts as a failure.
    """
    inversion = _Run(attack, latent, folder, originals or {}, plates, overwrite, ignore_exif)
    return batched_outcomes(
        sources,
        partial(_read, inversion),
        lambda job: job.kind,
        partial(_invert, inversion),
        inversion.failure,
        size=inversion.size,
        batch=network_batch(attack.codec.device_type),
        workers=workers,
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """The data that all steps of a run use."""

    attack: Attack
    latent: Attack | None
    folder: Path
    originals: Mapping[Path, Path]
    plates: PlateAudit | None
    overwrite: bool
    ignore_exif: bool

    def size(self, source: Source) -> int:
        """Return the most bytes of a job."""
        target = file_size(source) if is_stream(source) else 3 * self.attack.codec.image_size**2
        return target + (3 * MAX_IMAGE_SIZE**2 if source.path in self.originals and is_stream(source) else 0)

    def failure(self, source: Source, error: Exception | str) -> Attacked:
        return Attacked(source, picture_path(source, self.folder), error=one_line(error, source.path))


def _read(inversion: _Run, source: Source) -> _Job:
    codec = inversion.attack.codec
    target: tuple[SideInfo, bytes] | Letterboxed
    if is_stream(source):
        data = bitstream.read_file(source.path)
        target = codec.check_stream(data), data
        letterbox = letterbox_of(target[0])
    else:
        with reading(source.path, ignore_exif=inversion.ignore_exif) as pixels:
            target = image = codec.letterbox(pixels)
        del pixels
        letterbox = image.letterbox
    original: Letterboxed | None = None
    path = inversion.originals.get(source.path)
    if path is not None:
        # An image that is its own original does not need to be read again.
        if isinstance(target, Letterboxed) and path == source.path:
            original = target
        else:
            original = letterboxed_original(path, letterbox, ignore_exif=inversion.ignore_exif)
    return _Job(source, target, letterbox, original)


def _invert(inversion: _Run, group: Sequence[_Job]) -> list[Attacked]:
    def run(jobs: Sequence[_Job]) -> list[tuple[Picture, Picture | None]]:
        # Each of these lists holds all jobs or none, because all jobs are of one kind.
        images = [job.target for job in jobs if isinstance(job.target, Letterboxed)]
        streams = [
            inversion.attack.codec.decode_frame(job.target[1])
            for job in jobs
            if not isinstance(job.target, Letterboxed)
        ]
        originals = [job.original for job in jobs if job.original is not None]
        pictures = inversion.attack.on_images(images) if images else inversion.attack.on_streams(streams)
        if inversion.latent is None or not originals:
            return [(picture, None) for picture in pictures]
        return list(zip(pictures, inversion.latent.on_images(originals), strict=True))

    outcomes = []
    pixels = max(job.letterbox.width * job.letterbox.height for job in group)
    for job, result in one_bad_apart(run, group, pixels):
        if isinstance(result, str):
            outcome = inversion.failure(job.source, result)
        else:
            try:
                outcome = _write(inversion, job, *result)
            except (FeatcodecError, MemoryError) as error:
                outcome = inversion.failure(job.source, error)
        outcomes.append(outcome)
    return outcomes


def _write(inversion: _Run, job: _Job, picture: Picture, latent: Picture | None) -> Attacked:
    output = picture_path(job.source, inversion.folder)
    save_png(output, to_pixels(picture), overwrite=inversion.overwrite)
    if job.original is None:
        return Attacked(job.source, output, qp=_qp(job.target))
    pixels = job.letterbox.crop(job.original.pixels)
    original = pixels.astype(np.float32) / 255
    quality = image_quality(original, picture)
    panels = [Panel(pixels, ("original",))]
    latent_quality = None
    if latent is not None and inversion.latent is not None:
        latent_quality = image_quality(original, latent)
        panels.append(_panel(latent, inversion.latent, None, latent_quality))
    panels.append(_panel(picture, inversion.attack, job.target, quality))
    comparison = side_by_side_path(job.source, inversion.folder)
    save_png(comparison, side_by_side(panels), overwrite=inversion.overwrite)
    pictures = {"original": pixels, "latent": None if latent is None else to_pixels(latent)}
    plates = _read_plates(inversion, job, {**pictures, "reconstruction": to_pixels(picture)})
    return Attacked(job.source, output, quality, latent_quality, comparison, _qp(job.target), plates)


def _read_plates(
    inversion: _Run, job: _Job, pictures: Mapping[str, npt.NDArray[np.uint8] | None]
) -> tuple[ReadPlate, ...] | None:
    if inversion.plates is None:
        return None
    present = {name: picture for name, picture in pictures.items() if picture is not None}
    size = job.letterbox.original_width, job.letterbox.original_height
    return inversion.plates.read(job.source.relative, size, present)


def _qp(target: tuple[SideInfo, bytes] | Letterboxed) -> str:
    if isinstance(target, Letterboxed):
        return ""
    return "raw" if target[0].is_raw else str(target[0].qp)


def _panel(
    picture: Picture, attack: Attack, target: tuple[SideInfo, bytes] | Letterboxed | None, quality: ImageQuality
) -> Panel:
    space = attack.codec.model.kind
    what = f"{space} features"
    if isinstance(target, tuple):
        side_info = target[0]
        what = f"{space} stream, " + ("no VVC" if side_info.is_raw else f"QP {side_info.qp}")
    measured = f"PSNR {quality.psnr:.2f} dB, edge-PSNR {quality.edge_psnr:.2f} dB"
    return Panel(to_pixels(picture), (what, measured))
