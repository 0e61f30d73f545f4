"""Frigate's detector protocol over ZeroMQ: pictures in, 20 boxes out.

Frigate (https://github.com/blakeblackshear/frigate) sends the pictures of its detector of type `zmq` to another
program. This module is that program's side, written from the protocol in Frigate's
`frigate/detectors/plugins/zmq_ipc.py` at commit e3fa70189324e5eb3b1dba756c153f6696f457de (2026-07-23), which also takes
the shorter protocol of Frigate 0.16 (commit 240f9981218f262f0dd21363130f666fdc667aa7):

* Frigate asks with a REQ socket, and gets one reply per request.
* A picture is two parts: JSON with `shape` and `dtype`, and the samples in C order. The reply is two parts, too: JSON
  with shape [20, 6] and dtype float32, and 20 rows of class, score, y1, x1, y2, x2, best first; coordinates are shares
  of the picture's sides, and rows that are not used are zeros.
* Before that, newer versions ask `{"model_request": true, "model_name": NAME}` whether the model is there, and would
  send it as `{"model_data": true, ...}` and its bytes if it were not. The model here is the one that this program was
  started with. So it is always there, and model data is never kept.
* What cannot be answered is answered with zeros, as Frigate itself does on errors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from featcodec.edge.cameras import Pixels
from featcodec.edge.labels import number_of
from featcodec.edge.messages import OK, Answer
from featcodec.errors import InputError, reason_of

ROWS = 20
MAX_PART = 64 << 20
"""Bytes of the longest part of a message: a float picture of 2364x2364 pixels."""
_MAX_HEADER = 4096
_MAX_SIDE = 4096
_MOST_NOTES = 20
_DTYPES = {"uint8": np.uint8, "float32": np.float32}
_REPLY_HEADER = json.dumps({"shape": [ROWS, 6], "dtype": "float32"}).encode()

Rows: TypeAlias = npt.NDArray[np.float32]
Detect: TypeAlias = Callable[[Pixels], "Answer | None"]


@dataclass
class Counts:
    """What became of the requests.

    Attributes:
        pictures: with samples that can be read.
        answered: of these, with detections of the server.
        empty: of these, with zeros: no answer in time, or refused.
        malformed: requests that are not of the protocol.
    """

    pictures: int = 0
    answered: int = 0
    empty: int = 0
    malformed: int = 0


class Responder:
    """Makes the reply to each request.

    Args:
        detect: the detections of a (height, width, 3) uint8 RGB picture; None if there are none in time.
        labels: of `labels.read_label_map`.
        is_bgr: whether Frigate sends blue first (`input_pixel_format: bgr`).
        note: called with a line about what is wrong with a request; each line once, at most 20.
    """

    def __init__(
        self, detect: Detect, labels: Mapping[str, int], note: Callable[[str], None], *, is_bgr: bool = False
    ) -> None:
        self.counts = Counts()
        self._detect = detect
        self._labels = labels
        self._is_bgr = is_bgr
        self._note = note
        self._noted: set[str] = set()

    def reply(self, parts: Sequence[bytes]) -> list[bytes]:
        """The parts of the reply to the parts of a request. Never raises on what a request holds.

        Raises:
            FeatcodecError: of `detect`, when nothing can ever be detected.
        """
        try:
            header = _header_of(parts)
            if header.get("model_request") is True:
                return [json.dumps({"model_available": True, "model_loaded": True}).encode()]
            if header.get("model_data") is True:
                return [json.dumps({"model_saved": True, "model_loaded": True}).encode()]
            pixels = picture_of(header, parts, is_bgr=self._is_bgr)
        except InputError as error:
            self.counts.malformed += 1
            if str(error) not in self._noted and len(self._noted) < _MOST_NOTES:
                self._noted.add(str(error))
                self._note(f"a request was answered with zeros: {error}")
            return as_reply(np.zeros((ROWS, 6), np.float32))
        self.counts.pictures += 1
        answer = self._detect(pixels)
        if answer is None or answer.status != OK:
            self.counts.empty += 1
            return as_reply(np.zeros((ROWS, 6), np.float32))
        self.counts.answered += 1
        return as_reply(rows_of(answer, self._labels))


def as_reply(rows: Rows) -> list[bytes]:
    """The parts of a reply."""
    return [_REPLY_HEADER, rows.astype("<f4").tobytes()]


def rows_of(answer: Answer, labels: Mapping[str, int]) -> Rows:
    """The best 20 detections as Frigate takes them.

    Args:
        answer: of a server; nothing in it is trusted.
        labels: of `labels.read_label_map`. Classes that the map lacks are left out.

    Returns:
        (20, 6) float32: class, score, y1, x1, y2, x2; coordinates in [0, 1]; best first, zeros at the end.
    """
    rows = np.zeros((ROWS, 6), np.float32)
    best = sorted(answer.detections, key=lambda found: -float(found["score"]))
    known = ((number_of(found["category_name"], labels), found) for found in best if 0 < found["score"] <= 1)
    width, height = (min(max(int(side), 1), 1 << 16) for side in (answer.width, answer.height))
    taken = [(number, found) for number, found in known if number is not None][:ROWS]
    for row, (number, found) in zip(rows, taken, strict=False):
        left, top, wide, high = map(float, found["bbox"])
        corners = (top / height, left / width, (top + high) / height, (left + wide) / width)
        row[:] = (number, found["score"], *(min(max(each, 0.0), 1.0) for each in corners))
    return rows


def picture_of(header: Mapping[str, Any], parts: Sequence[bytes], *, is_bgr: bool) -> Pixels:
    """The picture of a request.

    Args:
        header: its first part. `shape` is that of one picture in any of Frigate's orders: NHWC, NCHW, HWNC or HWCN.
        parts: all of its parts.
        is_bgr: whether blue comes first.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        InputError: it is not a picture.
    """
    shape, kind = header.get("shape"), header.get("dtype")
    if not isinstance(shape, list) or not all(type(side) is int and 0 < side <= _MAX_SIDE for side in shape):
        raise InputError("its shape is not a list of sides of 1 to 4096")
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise InputError("its dtype is not uint8 or float32; set input_dtype of Frigate's model to int")
    if len(parts) != 2 or len(parts[1]) != math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize:
        raise InputError("its samples are more or fewer than its shape says")
    samples = np.frombuffer(parts[1], _DTYPES[kind]).reshape(shape)
    picture = _to_8_bits(_height_width_colour(samples))
    return np.ascontiguousarray(picture[:, :, ::-1] if is_bgr else picture)


def _height_width_colour(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    shape = samples.shape
    if len(shape) != 4 or 1 not in shape or 3 not in shape:
        raise InputError("its shape is not that of one picture with three colours")
    for one, colour, order in ((0, 3, (1, 2, 3)), (0, 1, (2, 3, 1)), (2, 3, (0, 1, 3)), (3, 2, (0, 1, 2))):
        if shape[one] == 1 and shape[colour] == 3:
            turned: npt.NDArray[Any] = samples.transpose(one, *order)[0]
            return turned
    raise InputError("its shape is not that of one picture with three colours")


def _to_8_bits(samples: npt.NDArray[Any]) -> Pixels:
    """Floats are in [0, 1] (`input_dtype: float`) or in [0, 255] (`float_denorm`): at most 1 means the former."""
    if samples.dtype == np.uint8:
        pixels: Pixels = samples
        return pixels
    floats = np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    scale = 255.0 if floats.max(initial=0.0) <= 1 else 1.0
    return np.asarray(np.clip(np.rint(floats * scale), 0, 255), np.uint8)


def _header_of(parts: Sequence[bytes]) -> dict[str, Any]:
    if not parts or len(parts[0]) > _MAX_HEADER:
        raise InputError("it has no header, or a very long one")
    try:
        header = json.loads(parts[0])
    except (ValueError, RecursionError) as error:
        raise InputError(f"its header is not JSON ({reason_of(error)})") from None
    if not isinstance(header, dict):
        raise InputError("its header is not a JSON object")
    return header
