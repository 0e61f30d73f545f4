"""Frigate's protocol: pictures in every order and dtype, rows in pixels' shares, zeros for all that is wrong."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from featcodec.edge.cameras import Pixels
from featcodec.edge.frigate import Responder, picture_of, rows_of
from featcodec.edge.labels import read_label_map
from featcodec.edge.messages import Answer
from featcodec.errors import InputError

LABELS = read_label_map("coco-80")
CAR = {"category_id": 2, "category_name": "car", "bbox": [10, 20, 30, 15], "score": 0.75}


def request(samples: np.ndarray, **more: Any) -> list[bytes]:
    """A request as Frigate's plugin makes it: `_build_header`, and the samples in C order."""
    header = {"shape": list(samples.shape), "dtype": str(samples.dtype.name), "model_type": "yologeneric", **more}
    return [json.dumps(header).encode("utf-8"), samples.tobytes(order="C")]


def rows(reply: list[bytes]) -> np.ndarray:
    """The reply as Frigate's plugin reads it: `_decode_response`."""
    assert len(reply) == 2
    header = json.loads(reply[0].decode("utf-8"))
    found = np.frombuffer(reply[1], dtype=np.dtype(header["dtype"])).reshape(tuple(header["shape"]))
    assert (found.shape, found.dtype) == ((20, 6), np.float32)
    return found


class Detector:
    """Sees a car in every picture, and keeps the picture."""

    def __init__(self, detections: list[dict[str, Any]] | None = None, status: int = 200) -> None:
        self.seen: list[Pixels] = []
        self.detections = [CAR] if detections is None else detections
        self.status = status

    def __call__(self, pixels: Pixels) -> Answer | None:
        self.seen.append(pixels)
        height, width = pixels.shape[:2]
        return Answer(0, 0, self.status, detections=self.detections, width=width, height=height)


def responder(detector: Any = None, **settings: Any) -> Responder:
    return Responder(detector or Detector(), LABELS, lambda line: None, **settings)


def test_a_picture_becomes_rows() -> None:
    detector = Detector()
    found = rows(responder(detector).reply(request(np.zeros((1, 40, 80, 3), np.uint8))))
    # class, score, y1, x1, y2, x2 as shares of 80x40 pixels
    assert found[0].tolist() == pytest.approx([2, 0.75, 0.5, 0.125, 0.875, 0.5])
    assert not found[1:].any()
    assert detector.seen[0].shape == (40, 80, 3)


@given(arrays.arrays(np.uint8, st.tuples(st.just(1), st.integers(4, 9), st.integers(4, 9), st.just(3))))
def test_every_order_and_dtype_of_frigate_gives_the_same_picture(samples: np.ndarray) -> None:
    samples = samples.copy()
    samples[0, 0, 0, 0] = 255  # so that floats up to 255 cannot be taken for floats up to 1
    for order in ((0, 1, 2, 3), (0, 3, 1, 2), (1, 2, 0, 3), (1, 2, 3, 0)):  # frigate/object_detection/util.py
        turned = np.transpose(samples, order)
        floats = turned.astype(np.float32)
        for each in (turned, floats, floats / 255):
            header = json.loads(request(each)[0])
            assert (picture_of(header, request(each), is_bgr=False) == samples[0]).all()
            assert (picture_of(header, request(each), is_bgr=True) == samples[0, :, :, ::-1]).all()


def test_the_best_twenty_known_classes_are_taken() -> None:
    many = [{**CAR, "score": (1 + number) / 100} for number in range(50)]
    unknown = [{**CAR, "category_name": "dragon", "score": 0.99}]
    found = rows_of(Answer(0, 0, 200, detections=many + unknown, width=80, height=40), LABELS)
    assert found[:, 1].tolist() == pytest.approx([(50 - number) / 100 for number in range(20)])
    assert set(found[:, 0].tolist()) == {2.0}


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(1 << 60), 1 << 60)


@given(
    st.lists(st.tuples(st.lists(numbers, min_size=4, max_size=4), numbers), max_size=30),
    st.integers(-(1 << 70), 1 << 70),
    st.integers(-(1 << 70), 1 << 70),
)
def test_rows_are_in_range_whatever_a_server_says(found: list[Any], width: int, height: int) -> None:
    detections = [{"category_name": "car", "bbox": bbox, "score": score} for bbox, score in found]
    made = rows_of(Answer(0, 0, 200, detections=detections, width=width, height=height), LABELS)
    assert made.shape == (20, 6)
    assert np.isfinite(made).all()
    assert made[:, 1:].min() >= 0
    assert made[:, 1:].max() <= 1
    assert (np.diff(made[:, 1]) <= 0).all()


def test_the_model_is_always_there() -> None:
    made = responder()
    (said,) = made.reply([json.dumps({"model_request": True, "model_name": "yolo.onnx"}).encode()])
    assert json.loads(said) == {"model_available": True, "model_loaded": True}
    (said,) = made.reply([json.dumps({"model_data": True, "model_name": "../../etc/passwd"}).encode(), b"x" * 99])
    assert json.loads(said) == {"model_saved": True, "model_loaded": True}


PICTURE = request(np.zeros((1, 8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b""],
        [b"not JSON", b"x"],
        [b"[" * 4000],
        [b"[1]"],
        [b"\xff\xfe"],
        [b" " * 5000],
        PICTURE[:1],
        [*PICTURE, b"more"],
        [PICTURE[0], PICTURE[1][:-1]],
        [PICTURE[0], PICTURE[1] + b"x"],
        [b'{"shape": [1, 8, 8, 3]}', bytes(192)],
        [b'{"shape": [1, 8, 8, 3], "dtype": "object"}', bytes(192)],
        [b'{"shape": [1, 8, 8, 3], "dtype": ["uint8"]}', bytes(192)],
        [b'{"shape": [1, 8, 8], "dtype": "uint8"}', bytes(64)],
        [b'{"shape": [2, 8, 8, 3], "dtype": "uint8"}', bytes(384)],
        [b'{"shape": [1, 8, 8, 4], "dtype": "uint8"}', bytes(256)],
        [b'{"shape": [1, -8, -8, 3], "dtype": "uint8"}', bytes(192)],
        [b'{"shape": [1, true, 64, 3], "dtype": "uint8"}', bytes(192)],
        [b'{"shape": [1, 8.0, 8, 3], "dtype": "uint8"}', bytes(192)],
        [b'{"shape": [1, 4294967296, 4294967296, 3], "dtype": "uint8"}', b""],
        [b'{"shape": [1, 0, 8, 3], "dtype": "uint8"}', b""],
        [b'{"shape": {}, "dtype": "uint8"}', b""],
        [b'{"model_request": "yes"}'],
    ],
)
def test_what_is_malformed_is_answered_with_zeros(parts: list[bytes]) -> None:
    notes: list[str] = []
    made = Responder(Detector(), LABELS, notes.append)
    for _ in range(2):
        assert not rows(made.reply(parts)).any()
    assert (made.counts.malformed, made.counts.pictures, len(notes)) == (2, 0, 1)


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_nothing_raises(parts: list[bytes]) -> None:
    assert not rows(responder().reply(parts)).any()


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=6))
def test_no_field_raises(value: Any) -> None:
    for field in ("shape", "dtype", "model_type"):
        parts = request(np.zeros((1, 2, 2, 3), np.uint8), **{field: value})
        rows(responder().reply(parts))


def test_floats_that_are_no_numbers_are_black() -> None:
    samples = np.full((1, 4, 4, 3), np.nan, np.float32)
    samples[0, 0, 0] = (np.inf, -np.inf, 0.5)
    header = json.loads(request(samples)[0])
    assert picture_of(header, request(samples), is_bgr=False).ravel().tolist() == [0, 0, 128] + [0] * 45


def test_refusals_and_silence_are_zeros() -> None:
    for detector in (lambda pixels: None, Detector(status=429)):
        made = responder(detector)
        assert not rows(made.reply(PICTURE)).any()
        assert (made.counts.pictures, made.counts.empty, made.counts.answered) == (1, 1, 0)


def test_the_picture_must_be_a_whole_one() -> None:
    with pytest.raises(InputError, match="more or fewer"):
        picture_of({"shape": [1, 8, 8, 3], "dtype": "float32"}, [b"", bytes(192)], is_bgr=False)
