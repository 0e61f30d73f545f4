"""Checkpoints that are made to exhaust memory or time, or to break whoever opens them. Each maker writes one file."""

from __future__ import annotations

import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from make_checkpoints import Concat, Conv, Detect, make_yolov5, save_yolov5, write_archive
from torch import nn

Maker = Callable[[Path], Path]


class Described:
    """A tensor as the pickle describes it, true or not."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def view(count: int, offset: Any, size: Any, stride: Any, dtype: torch.dtype = torch.float16) -> Described:
    """A tensor with these claims over a storage of `count` numbers."""
    untyped = torch.zeros(count, dtype=dtype).untyped_storage()
    storage = torch.storage.TypedStorage(wrap_storage=untyped, dtype=dtype, _internal=True)
    return Described(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())


def weight(value: Any) -> Maker:
    """A checkpoint whose first weight, of (4, 3, 6, 6) float16 numbers, is something else."""

    def make(path: Path) -> Path:
        model = make_yolov5()
        model.model[0].conv._parameters["weight"] = value() if callable(value) else value
        return save_yolov5(path, model)

    return make


def attribute(part: str, name: str, value: Any) -> Maker:
    """A checkpoint in which an attribute is something else."""

    def make(path: Path) -> Path:
        model = make_yolov5()
        (model.get_submodule(part) if part else model).__dict__[name] = value() if callable(value) else value
        return save_yolov5(path, model)

    return make


def raw(pickled: bytes) -> Maker:
    return lambda path: write_archive(path, pickled)


def shared_list(depth: int = 30) -> list[Any]:
    """Few lists that would be 8**depth numbers if they were written out."""
    value: list[Any] = [1.0] * 8
    for _ in range(depth):
        value = [value] * 8
    return value


def growing_concats(path: Path) -> Path:
    """Channels that grow as 8**n, and no more weights than before."""
    model = make_yolov5()
    layers = list(model.model)[:5] + [Concat() for _ in range(7)] + [Detect(3, [8, 8, 8])]
    for index, layer in enumerate(layers[5:], 5):
        layer.i, layer.f = index, [-1] * 8
    layers[-1].f = [11, 11, 11]
    model.model = nn.Sequential(*layers)
    return save_yolov5(path, model.half())


def wide_start(path: Path) -> Path:
    """A first layer with 20000 channels, each as large as the picture: 20 GB for a picture of 512x512."""
    model = make_yolov5()
    wide = Conv(3, 20_000, 1)
    wide.i, wide.f = 0, -1
    model.model[0] = wide.half()
    return save_yolov5(path, model)


def views_of_one_storage(path: Path) -> Path:
    """1000 buffers with 1 MB each, out of one storage."""
    model = make_yolov5()
    numbers = torch.zeros(1 << 19, dtype=torch.float16)
    for index in range(1000):
        model.model[0]._buffers[f"b{index}"] = numbers.view(1 << 10, 1 << 9).t()
    return save_yolov5(path, model)


def shared_attributes(path: Path) -> Path:
    """4000 modules that share one dict of 100000 attributes."""
    model = make_yolov5()
    part = nn.SiLU()
    part.__dict__.update({f"a{index}": None for index in range(50_000)})
    model.model[11] = nn.Sequential(*(part for _ in range(4000)))
    return save_yolov5(path, model)


def packed(kind: int, data: bytes) -> Maker:
    def make(path: Path) -> Path:
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr("archive/data.pkl", data)
            archive.writestr("archive/version", "3\n")
        return path

    return make


def overlapping(path: Path) -> Path:
    """A thousand records that are all the same megabyte."""
    write_archive(path, b"\x80\x02}.", **{"0": bytes(1 << 20)})
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    entry = data[start:].index(b"archive/data/0") + start - 46
    end = data.index(b"PK\x05\x06")
    one = data[entry : entry + 46 + len("archive/data/0")]
    many = b"".join(one[:46] + f"archive/d{index:05}".encode() for index in range(1000))
    directory = data[start:end] + many
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 1004, 1004, len(directory))
    path.write_bytes(data[:start] + directory + tail)
    return path


def many_records(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(60_000):
            archive.writestr(f"a/{index}", b"")
    return path


def twice(path: Path) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        for _ in range(2):
            archive.writestr("archive/data.pkl", b"\x80\x02}.")
    return path


def endless_directory(path: Path) -> Path:
    """A checkpoint whose list of records claims a terabyte."""
    save_yolov5(path, make_yolov5())
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, data.rindex(b"PK\x06\x06") + 40, 1 << 40)
    path.write_bytes(data)
    return path


def quietly(make: Callable[[], Any]) -> Callable[[], Any]:
    """torch calls some kinds of tensors deprecated, or warns that they are new."""

    def run() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()

    return run


class Subclass(torch.Tensor):
    pass


def cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["again"] = value
    return value


def nested_tuples(depth: int, key: bool) -> bytes:
    """A tuple of two equal tuples of two equal tuples..., as a value or as the key of a dict, which would be hashed."""
    pairs = b"".join(b"q" + bytes([level]) + b"h" + bytes([level]) + b"\x86" for level in range(depth))
    return b"\x80\x02}" + (b")" + pairs + b"K\x01s" if key else b"K\x01)" + pairs + b"s") + b"."


def encoded_again() -> bytes:
    """bytes out of one long text, 100000 times."""
    text = b"X" + struct.pack("<I", 1 << 19) + b"a" * (1 << 19)
    return b"\x80\x02c_codecs\nencode\nq\x01" + text + b"q\x02" + b"h\x01h\x02\x85R" * 100_000 + b"."


def colliding_keys() -> bytes:
    """40000 whole numbers with the same hash, as keys."""
    numbers = (index * ((1 << 61) - 1) for index in range(40_000))
    return b"\x80\x02}(" + b"".join(b"\x8a\x0a" + number.to_bytes(10, "little") + b"N" for number in numbers) + b"u."


def named(model_name: str) -> bytes:
    return b"\x80\x02}X\x05\x00\x00\x00modelc" + model_name.encode() + b"\n)\x81}bs."


LONG = 1 << 2000

GREEDY: dict[str, Maker] = {
    "concats that grow": growing_concats,
    "wide start": wide_start,
    "expanded stride": attribute("model.24", "stride", lambda: torch.tensor(8.0).expand(1 << 30)),
    "expanded square stride": attribute("model.24", "stride", lambda: torch.tensor(8.0).expand(1 << 15, 1 << 15)),
    "stride of shared lists": attribute("model.24", "stride", shared_list),
    "conv stride of shared lists": attribute("model.3.conv", "stride", shared_list),
    "padding of shared lists": attribute("model.3.conv", "padding", lambda: [shared_list()] * 2),
    "dilation of shared lists": attribute("model.3.conv", "dilation", lambda: [shared_list()] * 2),
    "groups of shared lists": attribute("model.3.conv", "groups", shared_list),
    "sources of shared lists": attribute("model.12", "f", shared_list),
    "classes of shared lists": attribute("model.24", "nc", shared_list),
    "names of shared lists": attribute("", "names", lambda: [shared_list()] * 3),
    "eps of shared lists": attribute("model.3.bn", "eps", shared_list),
    "kernel of shared lists": attribute("model.9.m", "kernel_size", shared_list),
    "mode of shared lists": attribute("model.11", "mode", shared_list),
    "expanded weight": weight(lambda: torch.zeros(1).expand(1 << 20, 1 << 12, 6, 6)),
    "views of one storage": views_of_one_storage,
    "shared attributes": shared_attributes,
    "compressed pickle": packed(zipfile.ZIP_DEFLATED, b"\x80\x02" + b"]" * (50 << 20) + b"."),
    "long pickle": packed(zipfile.ZIP_STORED, b"\x80\x02" + b"]" * (5 << 20) + b"."),
    "lists": packed(zipfile.ZIP_STORED, b"\x80\x02" + b"]" * ((2 << 20) - 9) + b"."),
    "dicts": packed(zipfile.ZIP_STORED, b"\x80\x02" + b"}" * ((2 << 20) - 9) + b"."),
    "marks": packed(zipfile.ZIP_STORED, b"\x80\x02" + b"(" * ((2 << 20) - 9) + b"."),
    "nested": packed(zipfile.ZIP_STORED, b"\x80\x02)" + b"\x85" * ((2 << 20) - 9) + b"."),
    "key of nested tuples": raw(nested_tuples(200, key=True)),
    "text that is encoded again and again": raw(encoded_again()),
    "overlapping records": overlapping,
    "many records": many_records,
    "directory of gigabytes": endless_directory,
    "bytearray that claims gigabytes": raw(b"\x80\x05\x96" + struct.pack("<Q", 8 << 30) + b"."),
    "text that claims gigabytes": raw(b"\x80\x04\x8d" + struct.pack("<Q", 8 << 30) + b"."),
    "frame that claims gigabytes": raw(b"\x80\x04\x95" + struct.pack("<Q", 8 << 30) + b"."),
    "memo that claims gigabytes": raw(b"\x80\x02]r\xff\xff\xff\x7f."),
    "colliding keys": raw(colliding_keys()),
}
"""Files that would take gigabytes or minutes."""

BROKEN: dict[str, Maker] = {
    "meta weight": weight(lambda: torch.empty(4, 3, 6, 6, device="meta")),
    "complex weight": weight(lambda: torch.zeros(4, 3, 6, 6, dtype=torch.complex64)),
    "complex half weight": weight(quietly(lambda: torch.zeros(4, 3, 6, 6, dtype=torch.complex32))),
    "whole-number weight": weight(lambda: torch.zeros(4, 3, 6, 6, dtype=torch.int64)),
    "8-bit weight": weight(lambda: torch.zeros(4, 3, 6, 6, dtype=torch.int8)),
    "unsigned weight": weight(lambda: torch.zeros(4, 3, 6, 6, dtype=torch.uint16)),
    "bool weight": weight(lambda: torch.zeros(4, 3, 6, 6, dtype=torch.bool)),
    "float8 weight": weight(lambda: torch.zeros(4, 3, 6, 6, dtype=torch.float8_e4m3fn)),
    "quantized weight": weight(
        quietly(lambda: torch.quantize_per_tensor(torch.zeros(4, 3, 6, 6), 0.1, 0, torch.qint8))
    ),
    "sparse weight": weight(lambda: torch.zeros(4, 3, 6, 6).to_sparse()),
    "compressed sparse weight": weight(quietly(lambda: torch.zeros(4, 3).to_sparse_csr())),
    "nested weight": weight(quietly(lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]))),
    "subclass": weight(lambda: torch.zeros(4, 3, 6, 6).as_subclass(Subclass)),
    "conjugated weight": weight(lambda: torch.zeros(4, 3, 6, 6, dtype=torch.complex64).conj()),
    "negative view": weight(lambda: torch._neg_view(torch.zeros(4, 3, 6, 6))),
    "NaN weight": weight(lambda: torch.full((4, 3, 6, 6), float("nan"))),
    "infinite weight": weight(lambda: torch.full((4, 3, 6, 6), float("inf"))),
    "weight is text": weight("heavy"),
    "weight is a list": weight(lambda: [0.0] * 432),
    "weight is a storage": weight(lambda: torch.zeros(432).untyped_storage()),
    "negative stride": weight(lambda: view(432, 431, (4, 3, 6, 6), (-108, -36, -6, -1))),
    "negative offset": weight(lambda: view(432, -1, (4, 3, 6, 6), (108, 36, 6, 1))),
    "huge offset": weight(lambda: view(432, 1 << 62, (4, 3, 6, 6), (108, 36, 6, 1))),
    "offset beyond all numbers": weight(lambda: view(432, LONG, (4, 3, 6, 6), (108, 36, 6, 1))),
    "offset by one": weight(lambda: view(432, 1, (4, 3, 6, 6), (108, 36, 6, 1))),
    "huge stride": weight(lambda: view(432, 0, (4, 3, 6, 6), (1 << 62, 36, 6, 1))),
    "huge shape": weight(lambda: view(432, 0, (1 << 62, 1 << 62, 6, 6), (0, 0, 0, 0))),
    "shape beyond all numbers": weight(lambda: view(432, 0, (LONG, 3, 6, 6), (0, 0, 0, 0))),
    "shape of floats": weight(lambda: view(432, 0, (4.0, 3.0, 6.0, 6.0), (108, 36, 6, 1))),
    "shape of bools": weight(lambda: view(432, 0, (True, True, True, True), (1, 1, 1, 1))),
    "shape is a number": weight(lambda: view(432, 0, 432, 1)),
    "shape is None": weight(lambda: view(432, 0, None, None)),
    "more sizes than strides": weight(lambda: view(432, 0, (4, 3, 6, 6), (1,))),
    "1000 dimensions": weight(lambda: view(432, 0, (1,) * 1000, (1,) * 1000)),
    "empty dimension": weight(lambda: view(432, 0, (0, 3, 6, 6), (108, 36, 6, 1))),
    "empty huge dimension": weight(lambda: view(432, 0, (0, 1 << 39, 6, 6), (0, 0, 0, 0))),
    "no dimension": weight(lambda: view(432, 0, (), ())),
    "few arguments": weight(lambda: Described(torch._utils._rebuild_tensor_v2, 1, 2)),
    "no storage": weight(lambda: Described(torch._utils._rebuild_tensor_v2, 1, 0, (4, 3, 6, 6), (1,) * 4, False, {})),
    "parameter of nothing": weight(lambda: Described(torch._utils._rebuild_parameter)),
    "parameter of itself": weight(lambda: Described(torch._utils._rebuild_parameter, cyclic(), False, {})),
    "huge stride of a convolution": attribute("model.3.conv", "stride", (LONG, LONG)),
    "huge padding": attribute("model.3.conv", "padding", (LONG, LONG)),
    "huge classes": attribute("model.24", "nc", LONG),
    "huge source": attribute("model.12", "f", [LONG, -1]),
    "huge eps": attribute("model.3.bn", "eps", LONG),
    "NaN eps": attribute("model.3.bn", "eps", float("nan")),
    "infinite slope": attribute("model.3.bn", "eps", float("inf")),
    "strides with a huge number": attribute("model.24", "stride", [8, 16, LONG]),
    "strides of another size": attribute("model.24", "stride", lambda: torch.tensor([4.0, 8.0, 16.0])),
    "complex strides": attribute("model.24", "stride", lambda: torch.zeros(3, dtype=torch.complex64)),
    "cyclic names": attribute("", "names", cyclic),
    "names with a lone surrogate": attribute("", "names", ["a", "b", "\ud800"]),
    "names are bytes": attribute("", "names", [b"a", b"b", b"c"]),
    "names are a class": attribute("", "names", nn.SiLU),
    "parts by number": attribute("", "_modules", {0: None}),
    "cyclic parts": attribute("", "_modules", cyclic),
    "parts are a list": attribute("model.3", "_modules", []),
    "parts are None": attribute("model.3", "_parameters", None),
    "padding that shrinks": attribute("model.3.conv", "padding", (0, 0)),
    "two names": twice,
    "class reference": raw(b"\x80\x02}X\x05\x00\x00\x00modelcmodels.yolo\nModel\ns."),
    "no attributes": raw(named("models.yolo\nModel")),
    "attributes of text": raw(b"\x80\x02}X\x05\x00\x00\x00modelcmodels.yolo\nModel\n)\x81X\x01\x00\x00\x00abs."),
    "attributes of a storage": raw(b"\x80\x02(X\x07\x00\x00\x00storagetQ}b."),
    "items of a number": raw(b"\x80\x02K\x01K\x02a."),
    "call of text": raw(b"\x80\x02X\x01\x00\x00\x00a)R."),
    "object of text": raw(b"\x80\x02X\x01\x00\x00\x00a)\x81."),
    "odd items": raw(b"\x80\x02}(K\x01u."),
    "dict out of a list": raw(b"\x80\x02ccollections\nOrderedDict\n]\x85R."),
    "text that is not UTF-8": raw(b"\x80\x02X\x02\x00\x00\x00\xff\xff."),
    "other operation": raw(b"\x80\x02(i__main__\nx\n."),
    "name that is not text": raw(b"\x80\x04K\x01K\x02\x93."),
    "unknown memo": raw(b"\x80\x02h\x05."),
    "no mark": raw(b"\x80\x02u."),
    "nothing on the stack": raw(b"\x80\x02R."),
}
"""Files with something in them that no checkpoint has."""
