"""The errors that featcodec raises on bad input, missing weights, failed video codecs and full disks.

* FeatcodecError
  * InputError (also a ValueError)
  * BitstreamError
  * WeightsError
  * EncoderError
    * ProgramError (in `featcodec.video.process`)
  * OutputError
  * TrainingError
  * ServiceError

Every message is one line that names the file, the cause and the remedy. The library raises these errors. Only the
command line (`featcodec.cli`) turns an error into an exit code.
"""

from __future__ import annotations

import re
from pathlib import Path

_REASON_LENGTH = 200
_MESSAGE_LENGTH = 1500
# Other control characters, and the marks that turn the direction of writing. With them, a name in a hostile file could
# write over the terminal or look like another message.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class FeatcodecError(Exception):
    """Base of every error that featcodec raises on purpose.

    Args:
        message: the text. It may quote names and values from a file that nobody has checked; see `in_one_line`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(in_one_line(message))


class InputError(FeatcodecError, ValueError):
    """A value is out of range, or an image, annotation or detection file cannot be read. Also a ValueError."""


class BitstreamError(FeatcodecError):
    """The bytes are not an intact featcodec bitstream, or they claim something that featcodec never writes."""


class WeightsError(FeatcodecError):
    """The weights are missing, refused or damaged, or the bitstream was made with other weights."""


class EncoderError(FeatcodecError):
    """The VVC encoder or decoder is missing, failed, was killed, or lost pictures."""


class OutputError(FeatcodecError):
    """The output cannot be written (disk full, no permission, exists already)."""


class TrainingError(FeatcodecError):
    """Training cannot go on: a loss or a weight is not finite."""


class ServiceError(FeatcodecError):
    """A server cannot be reached, refused the work, or said something that featcodec's servers never say."""


def in_one_line(message: str) -> str:
    """A message as one line of at most 1500 characters that cannot change how a terminal shows it.

    A line break becomes a space, and another control character an escape such as `\\x1b`. From a longer message, the
    middle is left out, because the cause is at the beginning and the remedy at the end.
    """
    text = " ".join(line for part in message.splitlines() if (line := part.strip()))
    text = _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    if len(text) <= _MESSAGE_LENGTH:
        return text
    half = (_MESSAGE_LENGTH - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def reason_of(error: BaseException, otherwise: str = "") -> str:
    """The first line of an exception's text, as a part of a message. torch puts a C++ trace on the later lines.

    Args:
        error: an exception of any library.
        otherwise: what to return when the exception has no text; the default is the name of its class.

    Returns:
        one line of at most 200 characters.
    """
    lines = str(error).strip().splitlines() or [""]
    return lines[0].strip()[:_REASON_LENGTH] or otherwise or type(error).__name__


def one_line(error: Exception | str, path: Path) -> str:
    """Return a message in one line that names the file."""
    text, name = in_one_line(str(error)) or "out of memory", in_one_line(str(path))  # a MemoryError often has no text
    return text if name in text else f"{name}: {text}"
