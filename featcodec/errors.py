"""The errors that featcodec raises on bad input, missing weights, failed codecs and full disks.

Every message is one line that names the file, the cause and the remedy. The library raises, the command line
alone turns an error into an exit code (`featcodec.cli`).
"""


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
