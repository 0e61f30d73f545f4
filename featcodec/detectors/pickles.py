"""Reads a pickle as data. No class and no function that the pickle names is looked up, and none is called.

`pickle._Unpickler` is Python's own unpickler, written in Python. Here it may use only some operations, and what would
make objects makes `Made` instead. Keys of dicts are plain values, so no key takes long to hash. Lists and dicts only
grow by what the pickle holds, so memory is in proportion to its length.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

MAX_PICKLE_BYTES = 2 << 20  # yolov5n's has 83 KB, that of a stopped run of the largest model about 1 MB
STORAGE = "storage"

_OPERATIONS = (
    *("PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "BINPERSID"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "EMPTY_DICT"),
    *("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
)
# What checkpoints call to make an object. Everything else that a pickle wants to call is refused.
# A file that names os.system is not a detector, although nothing of it would run here.
_CALLED_PACKAGES = tuple(
    f"{package}."
    for package in (
        *("datetime", "numpy", "pathlib", "torch._utils", "torch.nn"),
        *("models", "ultralytics", "utils", "yolov5"),
    )
)
_CALLED = frozenset(
    (
        *("_codecs.encode", "argparse.Namespace", "builtins.bytearray", "builtins.complex", "builtins.frozenset"),
        *("builtins.range", "builtins.set", "builtins.slice", "builtins.xrange", "collections.Counter"),
        *("collections.deque", "decimal.Decimal", "functools.partial"),
        *("torch.Size", "torch.device", "torch.Tensor", "torch._tensor._rebuild_from_type_v2"),
        *("torch.serialization._get_layout", "types.SimpleNamespace"),
    )
)
_DICTS = ("collections.OrderedDict", "collections.defaultdict")
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_LONGEST_KEY = 8
_LARGEST_KEY = 1 << 60  # larger numbers can be made so that all of them have one hash


@dataclass(frozen=True)
class Named:
    """A class or a function that the pickle names, e.g. "torch.nn.modules.conv.Conv2d"."""

    name: str


@dataclass(eq=False)
class Made:
    """An object that the pickle describes.

    Attributes:
        kind: the name of its class, or of the function that would make it; `STORAGE` for a storage of numbers.
        arguments: what the class or function would be called with.
        state: the object's attributes, usually a dict; None if the pickle gives none.
    """

    kind: str
    arguments: Any = ()
    state: Any = None


class ForbiddenCallError(pickle.UnpicklingError):
    """The pickle calls a function that no checkpoint needs; `str` of the error is its name."""


def read_pickle(data: bytes) -> Any:
    """The content of a pickle: dicts, lists, tuples, text, bytes and numbers; `Named` and `Made` for everything else.

    Raises:
        ForbiddenCallError: it calls a function that no checkpoint needs.
        Exception: any other, if it is damaged or uses operations that no checkpoint needs.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise pickle.UnpicklingError(f"a pickle of over {MAX_PICKLE_BYTES >> 20} MiB")
    try:
        return _Machine(io.BytesIO(data), encoding="latin1").load()
    except KeyError:
        raise pickle.UnpicklingError("an operation that no checkpoint needs") from None


class _Machine(pickle._Unpickler):
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Named:
        return Named(f"{_OLD_MODULES.get(module, module)}.{name}")

    def persistent_load(self, pid: Any) -> Made:
        return Made(STORAGE, pid)

    def _call(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if not isinstance(function, Named):
            raise pickle.UnpicklingError("calls what is not a function")
        if function.name in _DICTS:
            if isinstance(arguments, tuple) and all(isinstance(argument, Named) for argument in arguments):
                self.stack[-1] = {}
                return
            raise pickle.UnpicklingError("a dict that is made of something else")
        if not _is_harmless(function.name, arguments):
            raise ForbiddenCallError(function.name)
        self.stack[-1] = Made(function.name, arguments)

    def _new(self) -> None:
        arguments = self.stack.pop()
        kind = self.stack[-1]
        if not isinstance(kind, Named):
            raise pickle.UnpicklingError("an object without a class")
        self.stack[-1] = Made(kind.name, arguments)

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Made) and target.state is None and target.kind != STORAGE:
            target.state = state
        elif not isinstance(target, dict):  # an OrderedDict may have attributes, which nobody needs
            raise pickle.UnpicklingError("attributes of what has none")

    def _append(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _append_all(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)
        elif not isinstance(self.stack[-1], Made):  # the items of a class derived from list are not used
            raise pickle.UnpicklingError("items of what is not a list")

    def _empty_set(self) -> None:
        self.stack.append(Made("builtins.set"))

    def _add_all(self) -> None:
        self.pop_mark()
        if not isinstance(self.stack[-1], Made):
            raise pickle.UnpicklingError("items of what is not a set")

    def _frozen_set(self) -> None:
        items = self.pop_mark()
        self.stack.append(Made("builtins.frozenset", tuple(items)))

    def _set(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _set_all(self) -> None:
        self._update(self.pop_mark())

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Made):  # the items of a class derived from dict are not used
            return
        if not isinstance(target, dict):
            raise pickle.UnpicklingError("items of what is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            _check_key(key)
            target[key] = value

    def pop_mark(self) -> list[Any]:
        items: list[Any] = super().pop_mark()  # type: ignore[misc]
        return items


def _operations() -> dict[int, Any]:
    own = {
        "REDUCE": _Machine._call,
        "NEWOBJ": _Machine._new,
        "BUILD": _Machine._build,
        "EMPTY_SET": _Machine._empty_set,
        "ADDITEMS": _Machine._add_all,
        "FROZENSET": _Machine._frozen_set,
        "APPEND": _Machine._append,
        "APPENDS": _Machine._append_all,
        "SETITEM": _Machine._set,
        "SETITEMS": _Machine._set_all,
    }
    codes = {name: getattr(pickle, name)[0] for name in (*_OPERATIONS, *own)}
    return {code: own.get(name) or pickle._Unpickler.dispatch[code] for name, code in codes.items()}


_Machine.dispatch = _operations()


def _is_harmless(function: str, arguments: Any) -> bool:
    if function == "builtins.getattr":  # fuse() leaves it: the method with which a fused layer runs
        return isinstance(arguments, tuple) and len(arguments) == 2 and str(arguments[1]).startswith("forward")
    return function in _CALLED or function.startswith(_CALLED_PACKAGES)


def _check_key(key: Any) -> None:
    parts = key if isinstance(key, tuple) and len(key) <= _LONGEST_KEY else (key,)
    for part in parts:
        if isinstance(part, int) and not -_LARGEST_KEY < part < _LARGEST_KEY:
            raise pickle.UnpicklingError("a huge number as a key")
        if not (part is None or isinstance(part, (str, bytes, int, float, Named, Made))):
            raise pickle.UnpicklingError(f"a {type(part).__name__} as a key")
