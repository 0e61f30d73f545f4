"""Reading of number plates, on reconstructions and in the tensor itself.

Only plates that a person can read on the original count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from torch import Tensor

from featcodec.errors import InputError
from featcodec.images.letterbox import Letterbox
from featcodec.privacy.direct_reader import DirectReader, cut_windows, on_grid
from featcodec.privacy.measures import PLATE_CHARACTERS
from featcodec.privacy.plate_reader import PlateReader, cut_plates, load_plate_reader, shipped_plate_reader
from featcodec.privacy.plate_text import score_of_characters
from featcodec.privacy.private_details import PrivateDetails, read_private_details
from featcodec.privacy.readers import Measure, Original, Pixels, Score


@dataclass(frozen=True)
class ReadPlate:
    """One plate.

    Attributes:
        text: the true text.
        found: the text that the reader reads, by name of the picture: "original", "latent", "reconstruction".
    """

    text: str
    found: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class PlateAudit:
    """A plate reader, and the plates that it should read: a `Reader` of reconstructions.

    Attributes:
        reader: the reader, in eval mode.
        details: the private details on the originals.
    """

    reader: PlateReader
    details: PrivateDetails

    @classmethod
    def load(cls, private: Path, reader: Path | None, images: Sequence[PurePath]) -> PlateAudit:
        """Read a file of private details and a reader. If `reader` is None, use the reader that comes with the package.

        Args:
            private: the file of private details.
            reader: the checkpoint of the reader.
            images: the path of each image within the run; see `PrivateDetails`.

        Raises:
            InputError: the details are unreadable, they list none of the images, or a name in them does not say which
                image is meant.
            WeightsError: the reader is missing or damaged.
        """
        details = read_private_details(private)
        details.check(images)
        if not any(map(details.lists, images)):
            raise InputError(f"{private}: lists none of the originals; give the private.json of these images")
        return cls(shipped_plate_reader() if reader is None else load_plate_reader(reader), details)

    def read(
        self, image: PurePath, size: tuple[int, int], pictures: Mapping[str, Pixels]
    ) -> tuple[ReadPlate, ...] | None:
        """Read the readable plates of one image on several pictures of it.

        Args:
            image: the path of the image within the run; see `PrivateDetails`.
            size: (width, height) of the original.
            pictures: copies of the original at any scale, (H, W, 3) uint8 RGB, by name.

        Returns:
            one entry per plate, or None if the details do not list the image.
        """
        if not self.details.lists(image):
            return None
        plates = self.details.plates(image)
        boxes = [plate.box for plate in plates]
        texts = {name: self.reader.read(cut_plates(picture, boxes, size)) for name, picture in pictures.items()}
        return tuple(
            ReadPlate(plate.text, {name: found[number] for name, found in texts.items()})
            for number, plate in enumerate(plates)
        )

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The share of characters that are read, each at its place."""
        return (PLATE_CHARACTERS,)

    def scores(self, original: Original, pictures: Mapping[str, Pixels]) -> dict[str, dict[str, Score]]:
        """Count the characters on readable plates and those that are read on each picture; see `Reader.scores`."""
        plates = self.read(original.image, original.size, pictures) or ()
        return {
            name: {PLATE_CHARACTERS.name: score_of_characters((plate.text, plate.found[name]) for plate in plates)}
            for name in pictures
        }


@dataclass(frozen=True, eq=False)
class DirectPlates:
    """A direct reader, and the plates that it should read in tensors.

    Attributes:
        reader: the reader of the edge that made the tensors, in eval mode.
        details: the private details on the originals.
    """

    reader: DirectReader
    details: PrivateDetails

    def read(self, image: PurePath, letterbox: Letterbox, tensor: Tensor) -> tuple[ReadPlate, ...]:
        """Read the readable plates of one image in its tensor.

        Args:
            image: the path of the image within the run; see `PrivateDetails`.
            letterbox: how the image lies in the detector's input.
            tensor: (C, h, w), decoded or uncompressed.

        Returns:
            one entry per plate, with the text that was read under "tensor".
        """
        plates = self.details.plates(image)
        tensor = on_grid(tensor, self.reader.config.pixels_per_sample)
        across, down = tensor.shape[2] / letterbox.width, tensor.shape[1] / letterbox.height
        boxes = []
        for plate in plates:
            left, top, right, bottom = letterbox.place(plate.box)
            boxes.append((left * across, top * down, right * across, bottom * down))
        texts = self.reader.read(*cut_windows(tensor, boxes))
        return tuple(ReadPlate(plate.text, {"tensor": text}) for plate, text in zip(plates, texts, strict=True))

    def score(self, image: PurePath, letterbox: Letterbox, tensor: Tensor) -> dict[str, Score]:
        """Count the characters that are read in one tensor, under the name of `PLATE_CHARACTERS`; see `read`."""
        plates = self.read(image, letterbox, tensor)
        return {PLATE_CHARACTERS.name: score_of_characters((plate.text, plate.found["tensor"]) for plate in plates)}
