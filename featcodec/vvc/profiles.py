"""Named sets of VVenC options: how many bits a mosaic takes against how long it takes to encode.

A profile is a preset and some tools, one set for latent mosaics and one for those of a bottleneck, which are smoother
and want others. They were found by benchmarks/vvc_profiles.py on COCO *train* images and are judged by what the
detector still sees, not by PSNR, which ranks some tools the other way round (docs/experiments.md, VVC profiles).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from featcodec.errors import InputError
from featcodec.vvc.settings import EncoderSettings

DEFAULT_PROFILE = "fast"


@dataclass(frozen=True)
class Profile:
    """What a name of --profile stands for.

    Attributes:
        summary: one line for people.
        latent: settings for mosaics of the features themselves.
        bottleneck: settings for mosaics of what a bottleneck makes of them.
    """

    summary: str
    latent: EncoderSettings = field(default_factory=EncoderSettings)
    bottleneck: EncoderSettings = field(default_factory=EncoderSettings)

    def settings(self, *, bottleneck: bool) -> EncoderSettings:
        """The settings for a codec with or without a bottleneck."""
        return self.bottleneck if bottleneck else self.latent


_NO_LOOP_FILTERS = {"LoopFilterDisable": "1", "SAO": "0"}

PROFILES: Mapping[str, Profile] = {
    "faithful": Profile(
        "the paper's",
        EncoderSettings("faster", tools={"ALF": "1"}),
        EncoderSettings("faster", tools={"ALF": "1"}),
    ),
    "fast": Profile(
        "as quick as preset faster",
        EncoderSettings("faster", tools={**_NO_LOOP_FILTERS, "MinQTLumaISlice": "8", "ISP": "3"}),
        EncoderSettings("faster", tools={**_NO_LOOP_FILTERS}),
    ),
    "balanced": Profile(
        "fewer bits for twice the time",
        EncoderSettings("faster", tools={**_NO_LOOP_FILTERS, "MinQTLumaISlice": "8", "ISP": "1", "MTS": "1"}),
        EncoderSettings("faster", tools={**_NO_LOOP_FILTERS, "MinQTLumaISlice": "8", "ISP": "1", "MTS": "1"}),
    ),
    "dense": Profile(
        "the fewest bits, for ten times the time",
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


def summaries() -> str:
    """All profiles in one line, for help texts."""
    return "; ".join(f"{name}, {profile.summary}" for name, profile in PROFILES.items())
