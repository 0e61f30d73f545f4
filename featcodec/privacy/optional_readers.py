"""The readers that need the extra `audit`: those that can run here, and why the others cannot."""

from __future__ import annotations

from collections.abc import Callable

from featcodec.errors import FeatcodecError
from featcodec.privacy.face_reader import FaceReader
from featcodec.privacy.ocr_reader import OcrReader
from featcodec.privacy.perceptual import PerceptualReader
from featcodec.privacy.private_details import PrivateDetails
from featcodec.privacy.readers import Reader


def optional_readers(details: PrivateDetails | None) -> tuple[list[Reader], list[str]]:
    """Make the readers whose libraries and weights are at hand. Nothing is downloaded.

    Args:
        details: the private details on the originals; without them, rapidocr has no plates to read.

    Returns:
        the readers; and for each one that is left out, one line that says what it needs.
    """
    makers: list[Callable[[], Reader]] = [FaceReader, PerceptualReader]
    if details is not None:
        makers.insert(0, lambda: OcrReader(details))
    readers, missing = [], []
    for make in makers:
        try:
            readers.append(make())
        except FeatcodecError as error:
            missing.append(str(error))
    return readers, missing
