"""The errors that featcodec raises on bad input, missing weights, failed codecs and full disks.

Every message is one line that names the file, the cause and the remedy. The library raises, the command line
alone turns an error into an exit code (`featcodec.cli`).
"""

_REASON_LENGTH = 200


class FeatcodecError(Exception):
    """Base of every error that featcodec raises on purpose."""


class InputError(FeatcodecError, ValueError):
    """A value out of range, or an image, annotation or detection file that cannot be read as what it should be."""


class BitstreamError(FeatcodecError):
    """Bytes that are not an intact featcodec bitstream, or that claim what no codec of ours makes."""


class WeightsError(FeatcodecError):
    """Weights that are missing, refused, damaged, or not those that a bitstream was made with."""


class EncoderError(FeatcodecError):
    """The VVC encoder or decoder is missing, failed, was killed, or lost pictures."""


class OutputError(FeatcodecError):
    """The output cannot be written (disk full, no permission, exists already)."""


class TrainingError(FeatcodecError):
    """Training that cannot go on: a loss or a weight is not finite."""


def reason_of(error: BaseException, otherwise: str = "") -> str:
    """What an exception says, as a part of a message: its first line, as torch puts a trace of C++ behind it.

    Args:
        error: of any library.
        otherwise: where it says nothing; else the exception's name.

    Returns:
        one line of at most 200 characters.
    """
    lines = str(error).strip().splitlines() or [""]
    return lines[0].strip()[:_REASON_LENGTH] or otherwise or type(error).__name__
