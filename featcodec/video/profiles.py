"""Named sets of VVenC options: how many bits a frame takes against how long it takes to encode.

A profile is a preset and some tools, one set for latent frames and one for those of a bottleneck, which are smoother
and want others. They were found by benchmarks/vvc_profiles.py on COCO *train* images and are judged by what the
detector still sees, not by PSNR, which ranks some tools the other way round (docs/experiments.md, VVC profiles).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from featcodec.errors import InputError
from featcodec.video.settings import EncoderSettings

DEFAULT_PROFILE = "fast"


@dataclass(frozen=True)
class Profile:
    """What a name of --profile stands for.

    Attributes:
        summary: one line for people.
        latent: settings for frames of the features themselves.
        bottleneck: settings for frames of what a bottleneck makes of them.
    """

    summary: str
    latent: EncoderSettings = field(default_factory=EncoderSettings)
    bottleneck: EncoderSettings = field(default_factory=EncoderSettings)

    def settings(self, *, bottleneck: bool) -> EncoderSettings:
        """The settings for a codec with or without a bottleneck."""
        return self.bottleneck if bottleneck else self.latent


# Gains: BD-rate at equal error of the back-end's answers against preset faster, latent and bottleneck, in percent, with
# standard errors of 2 or so. docs/experiments.md has the tables, and what did not pay.
_NO_LOOP_FILTERS = {
    # They smooth, over the borders of tiles as well; -2.8 and -1.5 (+- 0.4), and it saves time.
    "LoopFilterDisable": "1",
    "SAO": "0",
}
_QUICK_BLOCKS = {
    **_NO_LOOP_FILTERS,
    # Leaving 4x4 blocks out loses 3 and saves a third of the time, which pays for what replaces them:
    "MinQTLumaISlice": "8",
    # intra sub-partitions, of which 3 tries fewer than 1. All together -7.2 on the latent frames searched on and -3.0
    # on others, but by AP50 no gain was found; so `fast` does without.
    "ISP": "3",
}

PROFILES: Mapping[str, Profile] = {
    # The paper's lowdelay_faster: preset faster with the adaptive loop filter, which costs half its time again or more.
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
    # Multiple transforms: all together -9.8 on latent frames. On the smoother ones of a bottleneck it takes all
    # sub-partitions as well: -4.1.
    "balanced": Profile(
        "fewer bits for up to twice the time",
        EncoderSettings("faster", tools={**_QUICK_BLOCKS, "MTS": "1"}),
        EncoderSettings("faster", tools={**_QUICK_BLOCKS, "ISP": "1", "MTS": "1"}),
    ),
    # EDO estimates the deblocking filter and is refused without one.
    "dense": Profile(
        "the fewest bits, for more than ten times the time",
        EncoderSettings("medium", tools={**_NO_LOOP_FILTERS, "EDO": "0"}),
        EncoderSettings("medium", tools={**_NO_LOOP_FILTERS, "EDO": "0"}),
    ),
}


def choose_profile(
    name: str | None = None, preset: str | None = None, parameters: Mapping[str, str] | None = None
) -> Profile:
    """The profile that a profile's or a preset's name and further parameters make.

    Args:
        name: of `PROFILES`; None means `DEFAULT_PROFILE`, unless there is a preset.
        preset: a preset of VVenC by itself, without the tools of any profile.
        parameters: further VVenC options, applied last.

    Raises:
        InputError: profile and preset are both given, either is unknown, or a parameter is refused.
    """
    if name is not None and preset is not None:
        raise InputError(f"profile {name} and preset {preset}: a profile has its own preset; give one of the two")
    profile = find_profile(DEFAULT_PROFILE if name is None else name)
    if preset is not None:
        profile = Profile(f"preset {preset}", EncoderSettings(preset), EncoderSettings(preset))
    given = dict(parameters or {})
    latent, bottleneck = (replace(each, parameters=given) for each in (profile.latent, profile.bottleneck))
    return replace(profile, latent=latent, bottleneck=bottleneck)


def find_profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        InputError: there is none.
    """
    if name not in PROFILES:
        raise InputError(f"unknown profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def describe(preset: str, parameters: str, *, bottleneck: bool) -> str:
    """Settings for people: the profile that they are, else the preset and the parameters; nothing for preset faster.

    Args:
        preset, parameters: as in the rows of a sweep, parameters joined by colons.
        bottleneck: whether a bottleneck's frames are coded.
    """
    for name, profile in PROFILES.items():
        settings = profile.settings(bottleneck=bottleneck)
        if (settings.preset, settings.chosen_text) == (preset, parameters):
            return f"profile {name}"
    named = f"preset {preset}" if preset not in ("", "faster") else ""
    return "  ".join(filter(None, (named, parameters)))


def summaries() -> str:
    """All profiles in one line, for help texts."""
    return "; ".join(f"{name}, {profile.summary}" for name, profile in PROFILES.items())
