"""Libraries that only an audit needs: `pip install featcodec[audit]`. They are imported when they are used."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from featcodec.errors import FeatcodecError

EXTRA = "audit"


def import_extra(name: str, *modules: str) -> ModuleType:
    """Import what a reader needs.

    Args:
        name: the reader, for the message.
        modules: names of modules; all must be there.

    Returns:
        the first module.

    Raises:
        FeatcodecError: one is not installed; the message names the extra.
    """
    found = []
    for module in modules:
        try:
            with warnings.catch_warnings():
                # Old packages use modules that Python will remove. A user can do nothing about it.
                warnings.simplefilter("ignore")
                found.append(importlib.import_module(module))
        except ImportError as error:
            missing = error.name or module
            raise FeatcodecError(
                f"{name}: needs the package {missing.split('.')[0]}; install featcodec[{EXTRA}], or leave {name} out"
            ) from None
    return found[0]
