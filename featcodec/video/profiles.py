"""Profiles: named sets of options of VVenC and x265. They trade the bits of a frame against the time to encode it.

A profile is a preset and some tools. It has one set for the frames of latent coding and one for the frames of a
bottleneck, which are smoother and need other tools. The profiles were found by benchmarks/vvc_profiles.py on COCO
*train* images. They are judged by what the detector still sees, not by PSNR. PSNR ranks some tools in the opposite
order (docs/experiments.md, VVC profiles).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from featcodec.errors import InputError
from featcodec.video.settings import VVENC, X265, Encoder, EncoderSettings

DEFAULT_PROFILE = "fast"


@dataclass(frozen=True)
class Profile:
    """The encoder settings behind a name of --profile.

    Attributes:
        summary: one line for people.
        latent: settings for the frames of latent coding.
        bottleneck: settings for the frames of a bottleneck.
    """

    summary: str
    latent: EncoderSettings = field(default_factory=EncoderSettings)
    bottleneck: EncoderSettings = field(default_factory=EncoderSettings)

    def settings(self, *, bottleneck: bool) -> EncoderSettings:
        """The settings with or without a bottleneck."""
        return self.bottleneck if bottleneck else self.latent


# The numbers below are gains: the BD-rate against preset faster at equal error of the back-end's answers, in percent.
# If there are two, the first is for latent frames and the second for bottleneck frames. Standard errors are about 2.
# docs/experiments.md has the tables, also of the tools that brought no gain.
_NO_LOOP_FILTERS = {
    # Loop filters smooth, also across the borders of tiles. Without them: -2.8 and -1.5 (+- 0.4), and less time.
    "LoopFilterDisable": "1",
    "SAO": "0",
}
_QUICK_BLOCKS = {
    **_NO_LOOP_FILTERS,
    # No 4x4 blocks: this loses 3 and saves a third of the time. That time pays for the tool that replaces them:
    "MinQTLumaISlice": "8",
    # Intra sub-partitions; the value 3 tries fewer of them than the value 1. All these tools together gain -7.2 on the
    # latent frames of the search and -3.0 on other latent frames. AP50 shows no gain, so `fast` does not use them.
    "ISP": "3",
}

PROFILES: Mapping[str, Profile] = {
    # The paper's lowdelay_faster: preset faster with the adaptive loop filter, which adds at least half of the time.
    "faithful": Profile(
        "the paper's settings",
        EncoderSettings("faster", tools={"ALF": "1"}),
        EncoderSettings("faster", tools={"ALF": "1"}),
    ),
    "fast": Profile(
        "about as quick as preset faster",
        EncoderSettings("faster", tools=_NO_LOOP_FILTERS),
        EncoderSettings("faster", tools=_NO_LOOP_FILTERS),
    ),
    # Adds multiple transforms: all tools together gain -9.8 on latent frames. The smoother frames of a bottleneck also
    # need all intra sub-partitions: -4.1.
    "balanced": Profile(
        "fewer bits for up to twice the time",
        EncoderSettings("faster", tools={**_QUICK_BLOCKS, "MTS": "1"}),
        EncoderSettings("faster", tools={**_QUICK_BLOCKS, "ISP": "1", "MTS": "1"}),
    ),
    # EDO estimates the effect of the deblocking filter. VVenC refuses EDO if that filter is off.
    "dense": Profile(
        "the fewest bits, for more than ten times the time",
        EncoderSettings("medium", tools={**_NO_LOOP_FILTERS, "EDO": "0"}),
        EncoderSettings("medium", tools={**_NO_LOOP_FILTERS, "EDO": "0"}),
    ),
}


def _x265(preset: str, tools: Mapping[str, str]) -> EncoderSettings:
    return EncoderSettings(preset, tools=tools, encoder=X265)


# As above, but against VVC's `fast`, by benchmarks/hevc_profiles.py; bottleneck frames are those of `guarded`.
_HEVC_NO_LOOP_FILTERS = {"no-deblock": "1", "sao": "0"}
_HEVC_QUICK_BLOCKS = {
    **_HEVC_NO_LOOP_FILTERS,
    # Blocks of 16x16 alone, with transforms down to 4x4: a third of the time of blocks down to 8x8, for 7 and 4 more.
    "ctu": "16",
    "min-cu-size": "16",
    "tu-intra-depth": "3",
}
# Rate-distortion optimized quantization (RDOQ) gains 12 and 6 for up to twice the time. Its level 1 loses.
_HEVC_RDOQ = {"rdoq-level": "2"}

HEVC_PROFILES: Mapping[str, Profile] = {
    "fast": Profile(
        "an eighth of the time of VVC's fast, without a bottleneck a quarter",
        # Frames of latent coding have more to code than those of a bottleneck, and RDOQ gains more.
        _x265("superfast", {**_HEVC_QUICK_BLOCKS, **_HEVC_RDOQ}),
        _x265("superfast", _HEVC_QUICK_BLOCKS),
    ),
    "balanced": Profile(
        "fewer bits through a bottleneck, for a quarter of the time of VVC's fast",
        _x265("superfast", {**_HEVC_QUICK_BLOCKS, **_HEVC_RDOQ}),
        _x265("superfast", {**_HEVC_QUICK_BLOCKS, **_HEVC_RDOQ}),
    ),
    "dense": Profile(
        "the fewest bits, for half of the time of VVC's fast",
        _x265("superfast", {**_HEVC_NO_LOOP_FILTERS, "ctu": "16", **_HEVC_RDOQ}),
        _x265("superfast", {**_HEVC_NO_LOOP_FILTERS, "ctu": "16", **_HEVC_RDOQ}),
    ),
}
"""Profiles of the video codec `hevc`; the others are for VVC."""


def profiles_for(video_codec: str) -> Mapping[str, Profile]:
    """The profiles of a video codec, by name.

    Args:
        video_codec: one of `featcodec.video.CODECS`.
    """
    return HEVC_PROFILES if video_codec == "hevc" else PROFILES


def encoder_of(video_codec: str) -> Encoder:
    """The video encoder behind a video codec: x265 for `hevc`, else VVenC."""
    return X265 if video_codec == "hevc" else VVENC


def choose_profile(
    name: str | None = None,
    preset: str | None = None,
    parameters: Mapping[str, str] | None = None,
    video_codec: str = "ffmpeg",
) -> Profile:
    """The profile for a profile name or a preset, with further parameters.

    Args:
        name: a name in `profiles_for`; None means `DEFAULT_PROFILE`, unless a preset is given.
        preset: a plain preset of the encoder, without the tools of any profile.
        parameters: further options of the encoder, applied last.
        video_codec: one of `featcodec.video.CODECS`; `none` takes those of VVC, and ignores them.

    Raises:
        InputError: profile and preset are both given, one of them is unknown, or a parameter is refused.
    """
    if name is not None and preset is not None:
        raise InputError(f"profile {name} and preset {preset}: a profile has its own preset; give one of the two")
    profile = find_profile(DEFAULT_PROFILE if name is None else name, video_codec)
    if preset is not None:
        plain = EncoderSettings(preset, encoder=encoder_of(video_codec))
        profile = Profile(f"preset {preset}", plain, plain)
    given = dict(parameters or {})
    latent, bottleneck = (replace(each, parameters=given) for each in (profile.latent, profile.bottleneck))
    return replace(profile, latent=latent, bottleneck=bottleneck)


def find_profile(name: str, video_codec: str = "ffmpeg") -> Profile:
    """The profile of that name.

    Raises:
        InputError: there is no profile of that name for that video codec.
    """
    profiles = profiles_for(video_codec)
    if name not in profiles:
        where = " with `video_codec` hevc" if profiles is HEVC_PROFILES else ""
        raise InputError(f"unknown profile {name!r}{where}; choose one of {', '.join(profiles)}")
    return profiles[name]


def describe(preset: str, parameters: str, *, bottleneck: bool, video_codec: str = "ffmpeg") -> str:
    """Encoder settings as a text for people.

    Settings of a profile become the profile's name. Other settings become the preset and the parameters; the preset
    faster is left out. So preset faster without parameters becomes an empty string.

    Args:
        preset, parameters: as in the rows of a sweep; parameters are joined by colons.
        bottleneck: whether the frames are those of a bottleneck.
        video_codec: one of `featcodec.video.CODECS`; `hevc` is named first.
    """
    codec = "hevc  " if video_codec == "hevc" else ""
    for name, profile in profiles_for(video_codec).items():
        settings = profile.settings(bottleneck=bottleneck)
        if (settings.preset, settings.chosen_text) == (preset, parameters):
            return f"{codec}profile {name}"
    if codec:
        return f"{codec}preset {preset}  {parameters}".rstrip()
    named = f"preset {preset}" if preset not in ("", "faster") else ""
    return "  ".join(filter(None, (named, parameters)))


def summaries() -> str:
    """All profiles of VVC in one line, for help texts."""
    return "; ".join(f"{name}, {profile.summary}" for name, profile in PROFILES.items())
