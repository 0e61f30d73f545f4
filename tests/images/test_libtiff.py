"""libtiff's own lines do not reach stderr; what is wrong is said by an InputError that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures import texture
from PIL import Image, features

from featcodec.errors import InputError
from featcodec.images.reading import read_image


@pytest.mark.skipif(not features.check("libtiff"), reason="this Pillow has no libtiff")
@pytest.mark.parametrize(("compression", "mode"), [("group4", "1"), ("tiff_adobe_deflate", "RGB"), ("jpeg", "RGB")])
def test_a_damaged_tiff_prints_nothing(
    compression: str, mode: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "picture.tif"
    Image.fromarray(texture(64, 48)).convert(mode).save(path, compression=compression)
    whole = path.read_bytes()
    messages = set()
    for place in range(8, len(whole) - 8, max(1, len(whole) // 60)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_image(path)
        except InputError as error:
            messages.add(str(error))
    assert messages, "no damage was noticed"
    assert all(message.startswith(f"{path}: ") for message in messages)
    assert capfd.readouterr() == ("", "")
