"""The encoder parameters that a user may choose: options of VVenC and x265 that shape a picture and nothing else.

The lists name what is allowed. VVenC has about 250 options and gets new ones. Some change the QP, the number of
pictures, the sample format or the threads. Some write files. So a list of what is forbidden would never be complete.
The names and the values are those of vvencFFapp and of x265's command line. VVenC does not care about upper and lower
case, and neither does featcodec.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from featcodec.errors import InputError

_FLAG = range(2)
_SIDES = (4, 8, 16, 32, 64, 128)

Allowed = Mapping[str, Sequence[int]]
"""The values that each option may have."""

VVENC_ALLOWED: Allowed = {
    # Blocks.
    "CTUSize": (32, 64, 128),
    "MinQTLumaISlice": _SIDES[:-1],
    "MinQTISlice": _SIDES[:-1],
    "MinQTChromaISliceInChromaSamples": _SIDES[:-1],
    "MaxMTTDepthI": range(9),
    "MaxMTTDepthISliceL": range(9),
    "MaxMTTDepthISliceC": range(9),
    "MaxBTLumaISlice": _SIDES,
    "MaxBTChromaISlice": _SIDES,
    "MaxTTLumaISlice": _SIDES,
    "MaxTTChromaISlice": _SIDES,
    "Log2MaxTbSize": (5, 6),
    "Log2MinCodingBlockSize": range(2, 8),
    "DualITree": _FLAG,
    # Prediction.
    "ISP": range(4),
    "MIP": _FLAG,
    "MRL": _FLAG,
    "LMChroma": _FLAG,
    "IBC": range(3),
    # Transforms and quantization.
    "LFNST": _FLAG,
    "MTS": _FLAG,
    "MTSImplicit": _FLAG,
    "TransformSkip": range(3),
    "TransformSkipLog2MaxSize": range(2, 6),
    "ChromaTS": _FLAG,
    "BDPCM": range(3),
    "JointCbCr": _FLAG,
    "RDOQ": range(3),
    "RDOQTS": _FLAG,
    "SelectiveRDOQ": range(3),
    "DepQuant": _FLAG,
    "SignHideFlag": _FLAG,
    "QuantThrVal": range(33),
    # Loop filters.
    "LoopFilterDisable": _FLAG,
    "LoopFilterOffsetInPPS": _FLAG,
    "LoopFilterBetaOffset_div2": range(-12, 13),
    "LoopFilterTcOffset_div2": range(-12, 13),
    "SAO": range(3),
    "ALF": _FLAG,
    "CCALF": _FLAG,
    "UseNonLinearAlfLuma": _FLAG,
    "UseNonLinearAlfChroma": _FLAG,
    "MaxNumAlfAlternativesChroma": range(1, 9),
    "EDO": range(3),
    "EncDbOpt": range(3),
    # How far the encoder searches.
    "ForceSCC": range(4),
    "FastIntraTools": range(3),
    "FastMIP": range(4),
    "FastUDIUseMPMEnabled": _FLAG,
    "IntraEstDecBit": range(1, 4),
    "NumIntraModesFullRD": (-1, 1, 2, 3),
    "MTSIntraMaxCand": range(5),
    "IBCFastMethod": range(7),
    "FastQtBtEnc": _FLAG,
    "ContentBasedFastQtbt": _FLAG,
    "QtbttExtraFast": range(8),
    "FastTTSplit": range(8),
    "FastLocalDualTreeMode": range(3),
    "LCTUFast": _FLAG,
    "AMaxBT": _FLAG,
    "HadamardME": _FLAG,
    "FastHAD": _FLAG,
}
"""VVenC refuses some of them in some combinations. With other values, for example 128 for MinQTLumaISlice, it makes
streams that do not decode."""

X265_ALLOWED: Allowed = {
    # Blocks.
    "ctu": (16, 32, 64),
    "min-cu-size": (8, 16, 32),
    "max-tu-size": (4, 8, 16, 32),
    "tu-intra-depth": range(1, 5),
    "limit-tu": range(5),
    # Prediction.
    "strong-intra-smoothing": _FLAG,
    "fast-intra": _FLAG,
    # Transforms and quantization.
    "tskip": _FLAG,
    "tskip-fast": _FLAG,
    "rdoq-level": range(3),
    "signhide": _FLAG,
    "nr-intra": range(2001),
    # Loop filters. `deblock` 0 would mean a filter with the offset 0.
    "no-deblock": _FLAG,
    "sao": _FLAG,
    # How far the encoder searches.
    "rd": range(1, 7),
    "rdpenalty": range(3),
    "splitrd-skip": _FLAG,
}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_VALUE = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,3}")


def checked(parameters: Mapping[str, str], allowed: Allowed = VVENC_ALLOWED) -> dict[str, str]:
    """The parameters with their names as the encoder spells them.

    Args:
        parameters: values by name, in any case.
        allowed: what the encoder may be given.

    Raises:
        InputError: a parameter is not a plain name and value, is not allowed, has a value that is not allowed, or is
            there twice with different values.
    """
    spelled: dict[str, str] = {}
    for name, value in parameters.items():
        known = _checked_name(name, value, allowed)
        if spelled.setdefault(known, value) != value:
            raise InputError(f"encoder parameter {known} is there twice: {spelled[known]} and {value}; give it once")
    return spelled


def _checked_name(name: str, value: str, allowed: Allowed) -> str:
    if not isinstance(value, str):
        raise InputError(f"encoder parameter {name}={value!r}: the value is not a string; put it in quotes")
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise InputError(
            f"encoder parameter {name}={value} is not of the form NAME=VALUE; use letters, digits and _.+-"
        )
    by_lower_case = {each.lower(): each for each in allowed}
    known = by_lower_case.get(name.lower())
    if known is None:
        near = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
        meant = f" (did you mean {by_lower_case[near[0]]}?)" if near else ""
        raise InputError(
            f"encoder parameter {name} is not allowed, because it does more than shape a picture, or does not exist"
            f"{meant}; leave it out, set the QP by `qp`, or use one of {', '.join(allowed)}"
        )
    if not _NUMBER.fullmatch(value) or int(value) not in allowed[known]:
        raise InputError(
            f"encoder parameter {known}={value}: the value is not allowed; use {_in_words(allowed[known])}"
        )
    return known


def _in_words(values: Sequence[int]) -> str:
    if isinstance(values, range):
        return f"a whole number from {values[0]} to {values[-1]}"
    return f"one of {', '.join(map(str, values))}"
