"""What `featcodec audit --points` does: the means as rows of a sweep's CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from featcodec.cli.console import complain, note_all

if TYPE_CHECKING:
    from featcodec.cli.audit_setup import Setup
    from featcodec.evaluation.points import PointFile
    from featcodec.privacy.worst_case import Means
    from featcodec.system.paths import Source


@dataclass(frozen=True, eq=False)
class AuditTable:
    """The file of --points, and the data set that its new rows name.

    Attributes:
        file: the file.
        digest: 16 hex digits that name the data set.
        images: the number of images.
    """

    file: PointFile
    digest: str
    images: int

    @classmethod
    def open(
        cls,
        path: Path,
        annotations: Path | None,
        sources: Sequence[Source],
        *,
        ignore_exif: bool,
    ) -> AuditTable:
        """Find out, before the work, whether rows can be appended.

        Raises:
            InputError: the file has other columns, or the annotations do not fit the images.
            OutputError: the file cannot be written.
            UsageError: the sources are bitstreams.
        """
        from featcodec.evaluation.audit_points import digest_of_images
        from featcodec.evaluation.dataset import open_dataset
        from featcodec.evaluation.points import PointFile
        from featcodec.images.annotations import read_annotations
        from featcodec.privacy.attack_pictures import is_stream

        if any(map(is_stream, sources)):
            raise click.UsageError("--points needs images: a bitstream does not say with which options it was coded")
        file = PointFile(path)
        file.prepare()
        note_all(file.take_notes())
        if annotations is None:
            return cls(file, digest_of_images(sources), len(sources))
        truth = read_annotations(annotations, complain)
        dataset = open_dataset(sources, truth, ignore_exif=ignore_exif, note=complain)
        return cls(file, dataset.digest, len(sources))

    def append(self, setup: Setup, means: Means, qp: int | None) -> None:
        """Append one row per side and attack."""
        from featcodec.evaluation.audit_points import add_audit_row, audit_row

        for side in setup.sides:
            label = "" if side.codec.model.bottleneck is None else side.label
            for attack in (*side.attacks, *side.direct):
                key = side.name, attack
                row = audit_row(side.codec, label, qp, attack, setup.weights.get(key, ""), means[key])
                add_audit_row(self.file, {**row, "dataset": self.digest, "images": str(self.images)})
