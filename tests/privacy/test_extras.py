"""Libraries of the extra `audit`: what is missing is said in one line."""

from __future__ import annotations

import pytest

from featcodec.errors import FeatcodecError
from featcodec.privacy.extras import import_extra


def test_the_first_module_comes_back() -> None:
    assert import_extra("x", "json", "csv").__name__ == "json"


def test_a_missing_package_is_named_with_the_extra() -> None:
    with pytest.raises(FeatcodecError, match=r"^faces: needs the package nowhere; install featcodec\[audit\], or"):
        import_extra("faces", "json", "nowhere.inside")
