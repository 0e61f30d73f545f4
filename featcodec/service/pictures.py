"""`POST /v1/picture`: both halves run in the server, to show what a codec does to one picture."""

from __future__ import annotations

import asyncio
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from PIL import Image

from featcodec.errors import InputError, reason_of
from featcodec.images.reading import as_rgb
from featcodec.service.answers import detections_json
from featcodec.service.fair_queue import Client
from featcodec.service.refusals import RefusedError, refusal_of
from featcodec.service.service import Service

_FORMATS = ("JPEG", "PNG", "WEBP")
_AT_ONCE = 1
_WAITING = 4


class Pictures:
    """Encodes pictures, one at a time, and reconstructs them.

    Args:
        service: decodes them.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._work = ThreadPoolExecutor(_AT_ONCE)
        self._count = 0

    def stop(self) -> None:
        """End the thread."""
        self._work.shutdown(wait=True, cancel_futures=True)

    async def run(self, body: bytes, qp: int, client: Client) -> str:
        """The JSON of what becomes of a picture.

        Args:
            body: a JPEG, PNG or WebP file.
            qp: quantization parameter.
            client: who sends it.

        Raises:
            RefusedError: it is not a picture, is too large, or too many wait.
        """
        if self._count >= _AT_ONCE + _WAITING:
            raise RefusedError(429, "pictures_full", f"{_WAITING} pictures wait already; try again later")
        self._count += 1
        try:
            return await self._run(body, qp, client)
        finally:
            self._count -= 1

    async def _run(self, body: bytes, qp: int, client: Client) -> str:
        loop = asyncio.get_running_loop()
        try:
            stream, encode_ms = await loop.run_in_executor(self._work, self._encode, body, qp)
        except Exception as error:
            raise refusal_of(error) from None
        outcome = await self._service.decode(stream, client)
        jpeg = await self._service.interceptor.reconstruct(outcome.side_info, outcome.frame, self._work)
        self._service.metrics.pictures.inc()
        return json.dumps(
            {
                "width": outcome.detections.width,
                "height": outcome.detections.height,
                "detections": detections_json(outcome.detections),
                "qp": qp,
                "bytes": len(stream),
                "picture_bytes": len(body),
                "ms": {"encode": round(encode_ms, 1), "decode": round(outcome.decode_ms, 1)},
                "attacker": self._service.interceptor.name,
                "reconstruction": None if jpeg is None else f"data:image/jpeg;base64,{jpeg}",
            },
            allow_nan=False,
        )

    def _encode(self, body: bytes, qp: int) -> tuple[bytes, float]:
        pixels = read_picture(body, self._service.settings.max_pixels)
        started = time.perf_counter()
        stream = self._service.codec.encode(pixels, qp)
        return stream, 1000 * (time.perf_counter() - started)


def read_picture(body: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    """The pixels of a picture file from anybody.

    Args:
        body: a JPEG, PNG or WebP file.
        max_pixels: the most pixels.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        RefusedError: it has too many pixels.
        InputError: it is not such a file, or damaged.
    """
    try:
        with Image.open(io.BytesIO(body), formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise RefusedError(
                    413, "too_many_pixels", f"{image.width}x{image.height} pixels are too many; make it smaller"
                )
            return as_rgb(image)
    except (RefusedError, InputError):
        raise
    except Image.DecompressionBombError:
        raise RefusedError(413, "too_many_pixels", "the picture has too many pixels; make it smaller") from None
    except Exception as error:  # a hostile file can make a decoder raise any exception
        said = reason_of(error).split("<_io")[0].strip()
        raise InputError(f"not a readable picture ({said}); send a JPEG, PNG or WebP file") from None
