"""The audit: several attacks on the same images, through the bottleneck and through latent coding.

A *side* is one of the two ways of coding that are compared. Every side gets the same images at the same QP and is
attacked by the same kinds of attack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Protocol

from torch import Tensor

from featcodec.codec import FeatureCodec
from featcodec.images.letterbox import Letterbox
from featcodec.networks.features import Features
from featcodec.privacy.attack import Picture
from featcodec.privacy.attack_pictures import (
    check_outputs,
    picture_path,
    side_by_side_path,
)
from featcodec.privacy.readers import Measure, Reader, Score
from featcodec.system.paths import Source

UNCODED, RAW = "", "raw"
"""What stands for the QP of an uncompressed tensor, and of uncompressed samples."""


class PictureAttack(Protocol):
    """Turns tensors of one codec back into pictures. Several threads may use one attack at once."""

    def on_tensors(
        self, tensors: Features, letterboxes: Sequence[Letterbox], qps: Sequence[int] | None = None
    ) -> list[Picture]:
        """Return reconstructions.

        Args:
            tensors: (B, C, H, W), decoded or uncompressed; or a tuple with such a tensor per level.
            letterboxes: those of the B images.
            qps: the QP of each tensor; None, or 0, means a tensor before coding.
        """


class TensorReader(Protocol):
    """Looks for private content in the tensor itself, without a picture. Several threads may use one at once."""

    def score(self, image: PurePath, letterbox: Letterbox, tensor: Tensor) -> Mapping[str, Score]:
        """Judge the tensor of one image.

        Args:
            image: the path of the image within the run; private details are found by it.
            letterbox: how the image lies in the detector's input.
            tensor: (C, h, w), decoded or uncompressed.

        Returns:
            scores by the name of the measure.
        """


@dataclass(frozen=True, eq=False)
class Side:
    """One way of coding, and the attacks on it.

    Attributes:
        codec: the codec; its model kind names the side, "bottleneck" or "latent".
        label: the name of the bottleneck, or "latent".
        attacks: the attacks by kind, in the order in which they are shown.
        direct: what reads the tensor itself, by kind of attack.
    """

    codec: FeatureCodec
    label: str
    attacks: Mapping[str, PictureAttack]
    direct: Mapping[str, TensorReader] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The kind of the model: "bottleneck" or "latent"."""
        return self.codec.model.kind


@dataclass(frozen=True)
class Reconstruction:
    """What one attack on one side made of one image.

    Attributes:
        side: name of the side.
        attack: kind of the attack.
        output: the picture, a PNG, or None if the attack makes no picture.
        scores: the scores by name of the measure.
    """

    side: str
    attack: str
    output: Path | None
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Audited:
    """The outcome of one image.

    Attributes:
        source: the image or bitstream.
        original: the original image.
        qp: the QP of all sides, "raw", or empty for uncompressed tensors.
        side_by_side: original and reconstructions in one PNG.
        reconstructions: one per side and attack; empty after a failure.
        on_original: what the readers make of the original itself, for scores that are shares.
        on_one_colour: the scores of the picture that has the mean colour of the original everywhere, for scores of
            whole pictures.
        error: one line that says what went wrong, or None.
    """

    source: Source
    original: Path
    qp: str = UNCODED
    side_by_side: Path | None = None
    reconstructions: tuple[Reconstruction, ...] = ()
    on_original: Mapping[str, Score] = field(default_factory=dict)
    on_one_colour: Mapping[str, Score] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit does with each image.

    Attributes:
        sides: what is compared; bitstreams are of the first side.
        folder: where the pictures go.
        readers: what scores the pictures.
        qp: images are coded at this QP on every side; None attacks the uncompressed tensors.
        ignore_exif: take the pixels of images as they are stored; see `read_image`.
        overwrite: replace pictures that exist. Without it, such a file counts as a failure.
    """

    sides: Sequence[Side]
    folder: Path
    readers: Sequence[Reader] = field(default=())
    qp: int | None = None
    ignore_exif: bool = False
    overwrite: bool = False

    @property
    def codec(self) -> FeatureCodec:
        """The codec of the first side. The letterbox of all sides is the same."""
        return self.sides[0].codec

    @property
    def measures(self) -> list[Measure]:
        """All measures, in order."""
        return [measure for reader in self.readers for measure in reader.measures]

    def attack_path(self, source: Source, side: str, attack: str) -> Path:
        """Return the path for a reconstruction."""
        return picture_path(source, self.folder / f"{side}-{attack}")

    def check(self, sources: Sequence[Source], originals: Mapping[Path, Path]) -> None:
        """Check, before any computation, that `audit_files` destroys no file. The arguments are the same as there.

        Raises:
            OutputError: as in `check_pictures`.
        """
        outputs = [
            self.attack_path(source, side.name, attack)
            for source in sources
            for side in self.sides
            for attack in side.attacks
        ]
        outputs += [side_by_side_path(source, self.folder) for source in sources]
        protected = (*(source.path for source in sources), *originals.values())
        check_outputs(outputs, self.folder, protected, overwrite=self.overwrite)
