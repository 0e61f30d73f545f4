"""Parts and plain attributes of a module record, checked. A pickle can put anything under any name.

Each function raises WeightsError if the attribute is missing or is something else.
Messages show only short plain values: the text of nested lists that share their parts has no bound.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from featcodec.detectors.pickles import Made
from featcodec.detectors.unpickle import ModuleRecord
from featcodec.errors import WeightsError

_REMEDY = "download it again"
_MOST_SHOWN = 8


def child(record: ModuleRecord, name: str) -> ModuleRecord:
    """A part of a module."""
    if name not in record.children:
        raise WeightsError(f"{record.kind} lacks its part {name!r}; {_REMEDY}")
    return record.children[name]


def whole(record: ModuleRecord, name: str) -> int:
    """A whole number. A bool is not one."""
    value = _attribute(record, name)
    if type(value) is not int:
        raise _error(record, name, value, "a whole number")
    return value


def real(record: ModuleRecord, name: str) -> float:
    """A finite number."""
    value = _attribute(record, name)
    if not _is_real(value):
        raise _error(record, name, value, "a finite number")
    return float(value)


def flag(record: ModuleRecord, name: str) -> bool:
    """True or False."""
    value = _attribute(record, name)
    if not isinstance(value, bool):
        raise _error(record, name, value, "True or False")
    return value


def pair(record: ModuleRecord, name: str) -> int:
    """The number of a pair of equal whole numbers, one for each direction."""
    value = _attribute(record, name)
    if not isinstance(value, (tuple, list)) or len(value) != 2 or any(type(number) is not int for number in value):
        raise _error(record, name, value, "a pair of whole numbers")
    if value[0] != value[1]:
        raise WeightsError(f"its {name} differs in the two directions; no YOLOv5 has this")
    return int(value[0])


def numbers(record: ModuleRecord, name: str, count: int) -> list[float]:
    """As many finite numbers as `count`, out of a list or a tensor of one dimension."""
    value = _attribute(record, name)
    found = value.tolist() if isinstance(value, Tensor) else value
    if not isinstance(found, (tuple, list)) or len(found) != count or not all(map(_is_real, found)):
        raise _error(record, name, value, f"{count} finite numbers")
    return [float(number) for number in found]


def shown(value: Any) -> str:
    """A short text for a message: plain values and short tuples of numbers as they are, others by their type."""
    if value is None or _is_short(value):
        return repr(value)
    if isinstance(value, int):
        return "a huge number"
    if isinstance(value, tuple) and len(value) <= _MOST_SHOWN and all(map(_is_short, value)):
        return repr(value)
    if isinstance(value, str):
        return repr(value[:40])
    return "an object" if isinstance(value, Made) else f"a {type(value).__name__}"


def _is_short(value: Any) -> bool:
    return isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 1 << 64)


def _attribute(record: ModuleRecord, name: str) -> Any:
    if name not in record.attributes:
        raise WeightsError(f"{record.kind} lacks its attribute {name!r}; {_REMEDY}")
    return record.attributes[name]


def _is_real(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1 << 64 and math.isfinite(value)


def _error(record: ModuleRecord, name: str, value: Any, expected: str) -> WeightsError:
    return WeightsError(f"{record.kind} has {shown(value)} as its {name}, not {expected}; {_REMEDY}")
