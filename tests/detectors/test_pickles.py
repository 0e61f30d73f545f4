"""Pickles as data: what a pickle names is neither looked up nor called, and what it shares stays shared."""

from __future__ import annotations

import datetime
import fractions
import os
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featcodec.detectors.pickles import ForbiddenCallError, Made, Named, read_pickle

PLAIN: list[Any] = [
    *(None, True, False, 0, -1, 255, 65_535, 1 << 31, -(1 << 100), 0.5, "", "text ä €", b"", b"bytes"),
    *((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1, [2, [3]]], {}, {"a": {1: None, None: 2, 0.5: 3}}),
]


class Thing:
    def __init__(self) -> None:
        self.inner = {"a": [1, 2]}


class Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_come_back(protocol: int) -> None:
    values = [value for value in PLAIN if protocol > 2 or not isinstance(value, bytes)]
    assert read_pickle(pickle.dumps(values, protocol)) == values


def test_ordered_and_default_dicts_are_dicts() -> None:
    assert read_pickle(pickle.dumps([OrderedDict(a=1), defaultdict(list, b=2)], 2)) == [{"a": 1}, {"b": 2}]


def test_objects_are_described() -> None:
    thing = read_pickle(pickle.dumps(Thing(), 2))
    assert isinstance(thing, Made)
    assert thing.kind.endswith(".Thing")
    assert thing.state == {"inner": {"a": [1, 2]}}
    assert read_pickle(pickle.dumps(os.system, 2)) == Named(f"{os.system.__module__}.system")


def test_shared_parts_stay_shared() -> None:
    part: list[Any] = []
    part.append(part)
    value = read_pickle(pickle.dumps([part, part], 2))
    assert value[0] is value[1] is value[0][0]


@pytest.mark.parametrize(
    "value",
    [
        *(Path("x"), datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc), np.float64(1), np.arange(3)),
        *({1, 2}, frozenset((1,)), 1j, slice(1), torch.device("cpu"), torch.Size((1, 2)), torch.float16),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_stands_beside_networks_is_read(value: Any) -> None:
    for protocol in (2, 4):
        if protocol == 2 or not isinstance(value, (set, frozenset)):  # sets have operations of their own since 4
            assert read_pickle(pickle.dumps({"beside": value, "other": 1}, protocol))["other"] == 1


@pytest.mark.parametrize(
    "function", [os.system, eval, getattr, fractions.Fraction, torch.hub.load], ids=lambda f: f.__name__
)
def test_other_calls_are_refused(function: Any) -> None:
    with pytest.raises(ForbiddenCallError, match=function.__name__):
        read_pickle(pickle.dumps(Calls(function, "x"), 2))


def test_getattr_of_what_fuse_leaves_is_no_danger() -> None:
    made = read_pickle(pickle.dumps(Calls(getattr, "x", "forward_fuse"), 2))
    assert (made.kind, made.arguments) == ("builtins.getattr", ("x", "forward_fuse"))
    with pytest.raises(ForbiddenCallError):
        read_pickle(pickle.dumps(Calls(getattr, "x", "system"), 2))


@pytest.mark.parametrize("key", [((1,),), (1,) * 9, (1 << 60,), 1 << 60, -(1 << 60)], ids=str)
def test_keys_that_could_take_long_to_hash_are_refused(key: Any) -> None:
    with pytest.raises(pickle.UnpicklingError, match="as a key"):
        read_pickle(pickle.dumps({key: 1}, 2))


def test_a_long_pickle_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match="over 2 MiB"):
        read_pickle(pickle.dumps("a" * (2 << 20), 2))
