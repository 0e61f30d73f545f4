"""Encoder settings that both VVC codecs understand, and the options that make VVenC behave."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from featcodec.errors import InputError

PRESETS = ("faster", "fast", "medium", "slow", "slower")

# The order matters to VVenC where BIM and MCTF meet.
STILL_PICTURES: Mapping[str, str] = {
    "IntraPeriod": "1",
    "GOPSize": "1",
    # Every picture stands alone and says so.
    "DecodingRefreshType": "idr_no_radl",
    # Both filter a picture with its neighbours in time, even in all-intra: batches would leak into each other.
    "BIM": "0",
    "MCTF": "0",
    # The default -3 would make QP 39 mean 36.
    "IntraQPOffset": "0",
    # With frame-parallel coding, batches of 7 to 10 pictures come out empty with exit code 0.
    "MaxParallelFrames": "0",
    # Optional, and 6 bytes a picture.
    "AccessUnitDelimiter": "0",
    # Timing in the sequence parameter set, which tells a single picture nothing: 11 bytes.
    "HrdParametersPresent": "0",
    # Its parameters cost a picture 20 to 60 bytes outside the slice, its search costs time, and on feature frames it
    # buys nothing (ARCHITECTURE.md has the figures).
    "ALF": "0",
}

GRAY: Mapping[str, str] = {
    # 4:0:0: what says that chroma is flat costs 5 to 7 bytes in the sequence parameter set and about half a byte a
    # coding tree unit of 64x64 samples. libvvenc leaves the chroma planes that it is given alone; vvencapp would
    # have to skip them in its input file, which is untried.
    "ChromaFormatIDC": "400",
}

NEAR_LOSSLESS_QP = 3
NEAR_LOSSLESS: Mapping[str, str] = {
    # Rate-distortion optimized quantization drops a coefficient here and there, and then, once in some million samples,
    # one is off by 2 where the quantization step itself allows 1.
    "RDOQ": "0",
    # Which needs RDOQ, and is on in every preset but the fastest.
    "DepQuant": "0",
}

# What featcodec sets itself, and what would make header, bitstream and batch contradict each other.
_RESERVED = frozenset(
    name.lower()
    for name in (
        *("QP", "InternalBitDepth", "InputBitDepth", "OutputBitDepth", "MSBExtendedBitDepth", "ChromaFormatIDC"),
        *("TargetBitrate", "MaxBitrate", "bitrate", "maxrate", "PerceptQPA", "qpa", "NumPasses", "Passes", "Pass"),
        *("RCStatsFile", "LookAhead", "IntraPeriod", "RefreshSec", "GOPSize", "DecodingRefreshType", "POC0IDR"),
        *("MCTF", "BIM", "MaxParallelFrames", "Threads", "Tiles", "SEIDecodedPictureHash", "InputFile"),
        *("BitstreamFile", "ReconFile", "SourceWidth", "SourceHeight", "Size", "FrameRate", "FramesToBeEncoded"),
        *("FrameSkip", "LeadFrames", "TrailFrames", "InputChromaFormat", "ConformanceWindowMode", "preset"),
    )
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_VALUE = re.compile(r"[A-Za-z0-9_.+-]{1,64}")


@dataclass(frozen=True)
class EncoderSettings:
    """What an encoder does besides the QP.

    Attributes:
        preset: VVenC's speed preset, one of `PRESETS`.
        parameters: further VVenC options by their names in vvencFFapp, e.g. {"TransformSkip": "1"}; they are applied
            last. Those that would make pictures depend on each other or contradict the header are refused.
        tools: VVenC options of a profile (`featcodec.video.profiles`), applied before `parameters`, and not at all at
            QPs up to `NEAR_LOSSLESS_QP`.

    Raises:
        InputError: an unknown preset, a parameter that is not a plain name and value, or one that is reserved.
    """

    preset: str = "faster"
    parameters: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise InputError(f"unknown preset {self.preset!r}; choose one of {', '.join(PRESETS)}")
        for name, value in self.chosen.items():
            if not isinstance(value, str):
                raise InputError(f"encoder parameter {name}={value!r}: the value is to be a text")
            if name.lower() in _RESERVED:
                raise InputError(f"encoder parameter {name} belongs to featcodec; leave it out (QP: `qp`)")
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise InputError(f"encoder parameter {name}={value} is not NAME=VALUE of letters, digits and _.+-")

    @property
    def chosen(self) -> dict[str, str]:
        """What was chosen besides the preset: the tools, and the parameters that go before them."""
        return {**self.tools, **self.parameters}

    @property
    def chosen_text(self) -> str:
        """`chosen` as NAME=VALUE texts, joined by colons."""
        return ":".join(f"{name}={value}" for name, value in self.chosen.items())

    def options(self, qp: int) -> dict[str, str]:
        """All VVenC options for a QP, in the order in which they are to be applied."""
        # Tools were chosen where bits are scarce, and those that quantize otherwise would miss samples by 2 at QP 0.
        return {**STILL_PICTURES, **(NEAR_LOSSLESS if qp <= NEAR_LOSSLESS_QP else self.tools), **self.parameters}

    def tag(self, codec: str) -> int:
        """16 bits that name codec and settings."""
        text = ":".join(
            [
                *(codec, self.preset),
                *(f"{name}={value}" for name, value in self.options(NEAR_LOSSLESS_QP + 1).items()),
                # At fine QPs only parameters apply.
                *(["tools"] if self.tools else []),
            ]
        )
        return zlib.crc32(text.encode()) & 0xFFFF


def parse_parameters(texts: tuple[str, ...] | list[str]) -> dict[str, str]:
    """Encoder parameters from NAME=VALUE texts; several may be joined by colons.

    Raises:
        InputError: a text has no equals sign.
    """
    parameters = {}
    for part in (part for text in texts for part in text.split(":") if part):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"encoder parameter {part!r} is not of the form NAME=VALUE")
        parameters[name] = value
    return parameters
