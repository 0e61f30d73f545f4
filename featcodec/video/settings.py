"""Encoder settings that the video codecs take, and the options of VVenC and x265 that featcodec always sets."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from featcodec.errors import InputError
from featcodec.video.parameters import VVENC_ALLOWED, X265_ALLOWED, Allowed, checked

PRESETS = ("faster", "fast", "medium", "slow", "slower")

# The order of BIM and MCTF matters to VVenC.
STILL_PICTURES: Mapping[str, str] = {
    "IntraPeriod": "1",
    "GOPSize": "1",
    # Every picture decodes alone and is marked so.
    "DecodingRefreshType": "idr_no_radl",
    # Both use a picture's neighbours in time, even in all-intra coding. Then a picture would depend on its batch.
    "BIM": "0",
    "MCTF": "0",
    # With the default -3, QP 39 would mean QP 36.
    "IntraQPOffset": "0",
    # With frame-parallel coding, batches of 7 to 10 pictures come out empty with exit code 0.
    "MaxParallelFrames": "0",
    # Optional, and costs 6 bytes per picture.
    "AccessUnitDelimiter": "0",
    # Timing in the sequence parameter set costs 11 bytes and has no use for a single picture.
    "HrdParametersPresent": "0",
    # The filter's parameters cost 20 to 60 bytes per picture outside the slice, and its search costs time. On frames of
    # feature tensors it brings no gain (ARCHITECTURE.md has the figures).
    "ALF": "0",
}

GRAY: Mapping[str, str] = {
    # 4:0:0. In 4:2:0, flat chroma costs 5 to 7 bytes in the sequence parameter set, and about half a byte per coding
    # tree unit of 64x64 samples. libvvenc ignores the chroma planes that it is given.
    "ChromaFormatIDC": "400",
}

NEAR_LOSSLESS_QP = 3
NEAR_LOSSLESS: Mapping[str, str] = {
    # Rate-distortion optimized quantization drops some coefficients. Because of that, about one sample in some million
    # is wrong by 2; the quantization step itself allows only 1.
    "RDOQ": "0",
    # Dependent quantization needs RDOQ. It is on in every preset except the fastest.
    "DepQuant": "0",
}


@dataclass(frozen=True)
class Encoder:
    """A video encoder, by what it can be told.

    Attributes:
        name: its name, for people.
        presets: its own speed presets, the fastest first.
        allowed: the options that a user may choose.
        always: the options that featcodec always sets: every picture is coded alone, with the given QP.
        near_lossless: the options instead of a profile's tools at QPs up to `NEAR_LOSSLESS_QP`.
    """

    name: str
    presets: tuple[str, ...]
    allowed: Allowed
    always: Mapping[str, str]
    near_lossless: Mapping[str, str]


VVENC = Encoder("VVenC", PRESETS, VVENC_ALLOWED, STILL_PICTURES, NEAR_LOSSLESS)

X265 = Encoder(
    "x265",
    ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"),
    X265_ALLOWED,
    {
        # Every picture is an IDR picture with its own parameter sets, and with nothing else beside it.
        "keyint": "1",
        "repeat-headers": "1",
        "annexb": "1",
        "info": "0",
        "aud": "0",
        "hrd": "0",
        "vui-timing-info": "0",
        # The QP is that of every block. With the default ratio of 1.4, QP 38 would mean QP 35.
        "ipratio": "1",
        "aq-mode": "0",
        "cutree": "0",
        "psy-rd": "0",
        "psy-rdoq": "0",
        # Nothing looks at other pictures, and one thread codes: pipelines give each thread a picture of its own. With
        # wavefronts the bytes would depend on the number of threads.
        "bframes": "0",
        "rc-lookahead": "0",
        "scenecut": "0",
        "frame-threads": "1",
        "pools": "none",
        "wpp": "0",
        "log-level": "none",
    },
    {"rdoq-level": "0"},
)


@dataclass(frozen=True)
class EncoderSettings:
    """All settings of an encoder except the QP.

    Attributes:
        preset: the encoder's speed preset, one of `Encoder.presets`.
        parameters: further options by their names in vvencFFapp or x265, e.g. {"TransformSkip": "1"}; they are applied
            last. Only options in `Encoder.allowed` are taken: they shape the picture and change neither its QP nor its
            format. They are stored as the encoder spells them.
        tools: options of a profile (`featcodec.video.profiles`), applied before `parameters`. At QPs up to
            `NEAR_LOSSLESS_QP`, they are not applied.
        encoder: `VVENC` or `X265`.

    Raises:
        InputError: the preset is unknown, or a parameter or its value is not allowed.
    """

    preset: str = "faster"
    parameters: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    encoder: Encoder = VVENC

    def __post_init__(self) -> None:
        if self.preset not in self.encoder.presets:
            names = ", ".join(self.encoder.presets)
            raise InputError(f"unknown preset {self.preset!r} of {self.encoder.name}; choose one of {names}")
        for name in ("parameters", "tools"):
            object.__setattr__(self, name, checked(getattr(self, name), self.encoder.allowed))

    @property
    def chosen(self) -> dict[str, str]:
        """The options that were chosen besides the preset: tools and parameters. A parameter overrides a tool."""
        return {**self.tools, **self.parameters}

    @property
    def chosen_text(self) -> str:
        """`chosen` as NAME=VALUE pairs, joined by colons."""
        return ":".join(f"{name}={value}" for name, value in self.chosen.items())

    def options(self, qp: int) -> dict[str, str]:
        """All options for a QP, in the order in which they must be applied."""
        # Tools were chosen for coarse QPs. At QP 0, tools that change the quantization would make samples wrong by 2.
        by_qp = self.encoder.near_lossless if qp <= NEAR_LOSSLESS_QP else self.tools
        return {**self.encoder.always, **by_qp, **self.parameters}

    def tag(self, codec: str) -> int:
        """16 bits that name the video codec and the settings."""
        text = ":".join(
            [
                *(codec, self.preset),
                *(f"{name}={value}" for name, value in self.options(NEAR_LOSSLESS_QP + 1).items()),
                # At fine QPs the tools are not applied, only the parameters.
                *(["tools"] if self.tools else []),
            ]
        )
        return zlib.crc32(text.encode()) & 0xFFFF


def parse_parameters(texts: tuple[str, ...] | list[str]) -> dict[str, str]:
    """Encoder parameters from NAME=VALUE texts. A text may hold several, joined by colons.

    Raises:
        InputError: a part has no equals sign, or a parameter has two values.
    """
    parameters: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(":") if part):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"encoder parameter {part!r} is not of the form NAME=VALUE")
        if parameters.setdefault(name, value) != value:
            raise InputError(f"encoder parameter {name} is there twice: {parameters[name]} and {value}; give it once")
    return parameters
