"""The errors that featcodec raises on bad input, missing weights, failed video codecs and full disks.

* FeatcodecError
  * InputError (also a ValueError)
  * BitstreamError
  * WeightsError
  * EncoderError
    * ProgramError (in `featcodec.video.process`)
  * OutputError
  * TrainingError

Every message is one line that names the file, the cause and the remedy. The library raises these errors. Only the
command line (`featcodec.cli`) turns an error into an exit code.
"""

_REASON_LENGTH = 200


class FeatcodecError(Exception):
    """Base of every error that featcodec raises on purpose."""


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
