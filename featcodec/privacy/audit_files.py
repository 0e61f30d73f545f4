"""Runs audits: reads and codes the images, attacks every side, scores and writes the pictures.

Threads work as in `attack_files`: each does whole steps with one CPU thread of torch.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featcodec import bitstream
from featcodec.bitstream import SideInfo
from featcodec.codec import FeatureCodec
from featcodec.errors import BitstreamError, FeatcodecError, one_line
from featcodec.images.letterbox import MAX_IMAGE_SIZE, Letterboxed, letterbox_of
from featcodec.images.reading import reading
from featcodec.images.side_by_side import Panel, panel_rows, save_png
from featcodec.networks.features import Features, levels_of
from featcodec.pipeline.common import batched_outcomes, file_size, network_batch, one_bad_apart
from featcodec.privacy.attack import Picture
from featcodec.privacy.attack_pictures import is_stream, letterboxed_original, side_by_side_path, to_pixels
from featcodec.privacy.audit import RAW, UNCODED, Audit, Audited, Reconstruction
from featcodec.privacy.image_quality import one_colour
from featcodec.privacy.readers import Original, Pixels, Score, summed
from featcodec.system.paths import Source


def audit_files(
    audit: Audit, sources: Sequence[Source], originals: Mapping[Path, Path], *, workers: int | None = None
) -> Generator[Audited, None, None]:
    """Attack files on every side. Yields one outcome per file, in the order of the sources.

    A bitstream is attacked as it is on the first side. The other sides code its original at its QP.

    Args:
        audit: the sides, the readers, the QP, and the folder. Call its `check` first.
        sources: images, or bitstreams of the first side.
        originals: the original image of each source, by path of the source. An image may be its own original.
        workers: number of threads; None means one per core.
    """
    run = _Run(audit, originals)
    return batched_outcomes(
        sources,
        run.read,
        lambda job: job.kind,
        run.work,
        run.failure,
        size=run.size,
        # One image each on a CPU: an iterative attack takes long, and all threads should end together.
        batch=1 if audit.codec.model.device.type == "cpu" else network_batch(audit.codec.device_type),
        workers=workers,
    )


@dataclass(frozen=True, eq=False)
class _Job:
    """A file on its way through the attacks."""

    source: Source
    original: Letterboxed
    stream: bytes | None
    qp: str

    @property
    def kind(self) -> tuple[tuple[int, int, str], int, int]:
        """What must be equal in a batch, the bytes and the letterboxed pixels."""
        width, height = self.original.letterbox.width, self.original.letterbox.height
        held = self.original.pixels.nbytes + len(self.stream or b"")
        return (width, height, self.qp), held, width * height


@dataclass(frozen=True, eq=False)
class _Found:
    """What the attacks make of one image, by side and attack: pictures, or scores without a picture."""

    pictures: dict[tuple[str, str], Picture] = field(default_factory=dict)
    scores: dict[tuple[str, str], Mapping[str, Score]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Run:
    """The steps of a run."""

    audit: Audit
    originals: Mapping[Path, Path]

    def size(self, source: Source) -> int:
        """Return the most bytes of a job."""
        return 3 * MAX_IMAGE_SIZE**2 + file_size(source) if is_stream(source) else 3 * self.audit.codec.image_size**2

    def failure(self, source: Source, error: Exception | str) -> Audited:
        return Audited(source, self.originals[source.path], error=one_line(error, source.path))

    def read(self, source: Source) -> _Job:
        path, codec, ignore_exif = self.originals[source.path], self.audit.codec, self.audit.ignore_exif
        if is_stream(source):
            data = bitstream.read_file(source.path)
            side_info = codec.check_stream(data)
            if side_info.split != codec.model.split:  # the weights can be equal although the split differs
                raise BitstreamError(
                    f"has split {side_info.split}, but split {codec.model.split} is attacked; encode with that split"
                )
            original = letterboxed_original(path, letterbox_of(side_info), ignore_exif=ignore_exif)
            return _Job(source, original, data, _qp_of(side_info))
        with reading(path, ignore_exif=ignore_exif) as pixels:
            original = codec.letterbox(pixels)
        return _Job(source, original, None, UNCODED if self.audit.qp is None else str(self.audit.qp))

    def work(self, group: Sequence[_Job]) -> list[Audited]:
        outcomes = []
        pixels = max(job.kind[2] for job in group)
        for job, result in one_bad_apart(self._attack, group, pixels):
            if isinstance(result, str):
                outcomes.append(self.failure(job.source, result))
                continue
            try:
                outcomes.append(self._finish(job, result))
            except (FeatcodecError, MemoryError) as error:
                outcomes.append(self.failure(job.source, error))
        return outcomes

    def _attack(self, jobs: Sequence[_Job]) -> list[_Found]:
        letterboxes = [job.original.letterbox for job in jobs]
        qps = [0 if job.qp in (UNCODED, RAW) else int(job.qp) for job in jobs]
        found = [_Found() for _ in jobs]
        for side in self.audit.sides:
            tensors = _tensors_of(side.codec, jobs, own=side is self.audit.sides[0])
            for name, attack in side.attacks.items():
                for one, picture in zip(found, attack.on_tensors(tensors, letterboxes, qps), strict=True):
                    one.pictures[side.name, name] = picture
            for name, reader in side.direct.items():
                # A direct reader is for one tensor.
                for one, job, tensor in zip(found, jobs, levels_of(tensors)[0], strict=True):
                    one.scores[side.name, name] = reader.score(job.source.relative, job.original.letterbox, tensor)
        return found

    def _finish(self, job: _Job, found: _Found) -> Audited:
        """Write the pictures of one image and score them."""
        letterbox = job.original.letterbox
        truth = letterbox.crop(job.original.pixels)
        size = letterbox.original_width, letterbox.original_height
        original = Original(job.source.relative, size, truth)
        pixels = {key: to_pixels(picture) for key, picture in found.pictures.items()}
        scores = self._scores(original, pixels)
        # A share says something of the original itself. A score of whole pictures has a floor instead.
        shares = [reader for reader in self.audit.readers if all(one.is_share for one in reader.measures)]
        others = [reader for reader in self.audit.readers if reader not in shares]
        on_original = [reader.scores(original, {"": truth})[""] for reader in shares]
        floor = to_pixels(one_colour(truth.astype(np.float32) / 255))
        on_one_colour = [reader.scores(original, {"": floor})[""] for reader in others]
        outputs = {key: self.audit.attack_path(job.source, *key) for key in pixels}
        for key, picture in pixels.items():
            save_png(outputs[key], picture, overwrite=self.audit.overwrite)
        comparison = side_by_side_path(job.source, self.audit.folder)
        save_png(comparison, self._comparison(job, truth, pixels, scores), overwrite=self.audit.overwrite)
        made = [Reconstruction(*key, outputs[key], scores[key]) for key in pixels]
        made += [Reconstruction(*key, None, read) for key, read in found.scores.items()]
        path = self.originals[job.source.path]
        return Audited(job.source, path, job.qp, comparison, tuple(made), summed(on_original), summed(on_one_colour))

    def _scores(
        self, original: Original, pictures: Mapping[tuple[str, str], Pixels]
    ) -> dict[tuple[str, str], dict[str, Score]]:
        by_name = {"-".join(key): picture for key, picture in pictures.items()}
        scores: dict[tuple[str, str], dict[str, Score]] = {key: {} for key in pictures}
        for reader in self.audit.readers:
            found = reader.scores(original, by_name)
            for key, mine in scores.items():
                mine.update(found["-".join(key)])
        return scores

    def _comparison(
        self,
        job: _Job,
        truth: Pixels,
        pictures: Mapping[tuple[str, str], Pixels],
        scores: Mapping[tuple[str, str], Mapping[str, Score]],
    ) -> Pixels:
        """One row of panels per side, each with the original first."""
        coded = {UNCODED: "uncompressed", RAW: "no VVC"}.get(job.qp, f"QP {job.qp}")
        rows = []
        for side in reversed(self.audit.sides):  # latent coding first, because the others are compared with it
            row = [Panel(truth, ("original",))]
            for attack in side.attacks:
                key = side.name, attack
                row.append(Panel(pictures[key], (f"{side.label}, {coded}: {attack}", *in_words(scores[key]))))
            rows.append(row)
        return panel_rows(rows)


def in_words(scores: Mapping[str, Score]) -> list[str]:
    """Return the lines below a picture: PSNR and edge-PSNR, then SSIM if it was measured."""
    parts = [
        f"{title} {scores[name].mean:.2f} dB"
        for name, title in (("psnr", "PSNR"), ("edge_psnr", "edge-PSNR"))
        if name in scores
    ]
    return [", ".join(parts), *([f"SSIM {scores['ssim'].mean:.3f}"] if "ssim" in scores else [])]


def _qp_of(side_info: SideInfo) -> str:
    return RAW if side_info.is_raw else str(side_info.qp)


def _tensors_of(codec: FeatureCodec, jobs: Sequence[_Job], *, own: bool) -> Features:
    """The tensors that an attacker of this side has. `own` says whether bitstreams are of this side."""
    images = [job.original for job in jobs]
    qp = jobs[0].qp
    if own and all(job.stream is not None for job in jobs):
        return codec.decoded_tensors([codec.decode_frame(job.stream or b"") for job in jobs])
    if qp in (UNCODED, RAW):
        return codec.tensors_of(images)
    side_infos, frames = zip(*codec.front_end(images, int(qp)), strict=True)
    streams = codec.video_codec.encode(list(frames), int(qp))
    packed = [bitstream.pack(*pair) for pair in zip(side_infos, streams, strict=True)]
    return codec.decoded_tensors([codec.decode_frame(data) for data in packed])
