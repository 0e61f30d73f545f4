"""Reading the number plates of an attack's pictures: those that a person can read on the original."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from featcodec.errors import InputError
from featcodec.privacy.plate_reader import Pixels, PlateReader, cut_plates, load_plate_reader, shipped_plate_reader
from featcodec.privacy.private_details import PrivateDetails, read_private_details


@dataclass(frozen=True)
class ReadPlate:
    """One plate.

    Attributes:
        text: what it says.
        found: what is read, by the name of the picture: "original", "latent", "reconstruction".
    """

    text: str
    found: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class PlateAudit:
    """A reader, and where there is something to read.

    Attributes:
        reader: in eval mode.
        details: what is on the originals.
    """

    reader: PlateReader
    details: PrivateDetails

    @classmethod
    def load(cls, private: Path, reader: Path | None, originals: Iterable[Path]) -> PlateAudit:
        """Read a file of private details and a reader; None takes the one that ships.

        Raises:
            InputError: the details are unreadable, or of none of the originals.
            WeightsError: the reader is missing or damaged.
        """
        details = read_private_details(private)
        if not any(details.lists(path) for path in originals):
            raise InputError(f"{private}: lists none of the originals; give the private.json of these images")
        return cls(shipped_plate_reader() if reader is None else load_plate_reader(reader), details)

    def read(
        self, original: Path, size: tuple[int, int], pictures: Mapping[str, Pixels]
    ) -> tuple[ReadPlate, ...] | None:
        """What the reader makes of the readable plates of one image.

        Args:
            original: path of the original image, which the details name.
            size: its (width, height).
            pictures: copies of it in any scale, (H, W, 3) uint8 RGB, by name.

        Returns:
            one entry a plate, or None where the details do not list the image.
        """
        if not self.details.lists(original):
            return None
        plates = self.details.plates(original)
        boxes = [plate.box for plate in plates]
        texts = {name: self.reader.read(cut_plates(picture, boxes, size)) for name, picture in pictures.items()}
        return tuple(
            ReadPlate(plate.text, {name: found[number] for name, found in texts.items()})
            for number, plate in enumerate(plates)
        )
