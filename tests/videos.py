"""Small videos for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt


def make_video(
    path: Path, pictures: Sequence[npt.NDArray[np.uint8]] | int = 10, rate: int = 20, codec: str = "libx264"
) -> Path:
    """A video of pictures, (height, width, 3) each; or of so many gray ones of 64x48 pixels that get brighter."""
    if isinstance(pictures, int):
        pictures = [np.full((48, 64, 3), 10 * (number % 25), np.uint8) for number in range(pictures)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path
