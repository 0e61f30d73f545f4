"""Names of what a codec is made of; the digests themselves are proven in networks/test_checkpoints.py."""

from __future__ import annotations

from featcodec.fingerprints import name_of


class Part:
    def fingerprint(self) -> bytes:
        return bytes(range(8))


def test_a_part_is_named_by_16_hex_digits_and_none_by_nothing() -> None:
    assert name_of(Part()) == "0001020304050607"
    assert name_of(None) == ""
