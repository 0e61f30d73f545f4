"""The QPs that a stream may have; the fields themselves are in test_bitstream.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcodec.bitstream import MAX_QP, RAW_QP, check_qp
from featcodec.errors import BitstreamError, InputError


@given(
    st.integers(-300, 300), st.sampled_from([int, np.int64, np.int16]), st.sampled_from([InputError, BitstreamError])
)
def test_qps_are_those_of_vvc(qp: int, kind: type, error: type[InputError] | type[BitstreamError]) -> None:
    if 0 <= qp <= 63:
        check_qp(kind(qp), error)
    else:
        with pytest.raises(error, match=f"^QP {qp} is not a whole number from 0 to 63$"):
            check_qp(kind(qp), error)


@pytest.mark.parametrize("qp", [36.0, 36.5, np.float32(36), float("nan"), "36", None, [36], RAW_QP, MAX_QP + 1])
def test_what_is_not_a_whole_number_is_refused(qp: Any) -> None:
    with pytest.raises(InputError, match="is not a whole number"):
        check_qp(qp)
