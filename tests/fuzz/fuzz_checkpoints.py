"""Damaged and forged checkpoints: `.pt` files of YOLOv5 in both forms, and every `.safetensors` file that ships.

A `.pt` file is damaged as a file, inside its pickle (bytes or whole opcodes, in an archive whose checksums are right),
or in its tensors. A `.safetensors` file is damaged as a file, in its header, or in the config that rides in the header.
"""

from __future__ import annotations

import io
import json
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from make_checkpoints import make_yolov5, make_yolov5u, save_yolov5, save_yolov5u
from mutate import damage_bytes, damage_tree, hostile_value
from targets import READ, REFUSED, refused_or

from featcodec.detectors import load_detector
from featcodec.networks.bottleneck import load_bottleneck
from featcodec.networks.catalogue import SHIPPED_FOLDER
from featcodec.networks.layouts import load_layout
from featcodec.networks.restoration import load_restoration
from featcodec.privacy.direct_reader import load_direct_reader
from featcodec.privacy.plate_reader import load_plate_reader
from featcodec.privacy.recnet import load_recnet

_LOADERS: dict[str, Callable[[Path], Any]] = {
    "scenes-street.safetensors": load_bottleneck,
    "yolov5n-latent-layout.safetensors": load_layout,
    "scenes-street-restoration.safetensors": load_restoration,
    "scenes-latent-recnet.safetensors": load_recnet,
    "plate-reader.safetensors": load_plate_reader,
    "scenes-street-direct-reader.safetensors": load_direct_reader,
}


class Checkpoints:
    """See `targets.Target`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        original, new = folder / "original.pt", folder / "new.pt"
        save_yolov5(original, make_yolov5())
        save_yolov5u(new, make_yolov5u())
        self._archives = [_members(path.read_bytes()) for path in (original, new)]
        self._opcodes = [_opcodes(members[_pickle_name(members)]) for members in self._archives]
        self._pickled = [path.read_bytes() for path in (original, new)]
        self._stored = {name: (SHIPPED_FOLDER / name).read_bytes() for name in _LOADERS}
        self._detector = (SHIPPED_FOLDER / "scenes-detector.safetensors").read_bytes()

    def run(self, rng: random.Random) -> str:
        """See `targets.Target.run`."""
        what = rng.random()
        if what < 0.1:  # to read a pickle and build its network takes ten times as long as the others
            data, load, name = self._damaged_archive(rng), _load_detector, "case.pt"
        elif what < 0.12:
            data, load, name = _damage_safetensors(rng, self._detector), _load_detector, "case.safetensors"
        else:
            kind = rng.choice(sorted(self._stored))
            data, load, name = _damage_safetensors(rng, self._stored[kind]), _LOADERS[kind], "case.safetensors"
        path = self._folder / name
        path.write_bytes(data)
        return REFUSED if refused_or(lambda: load(path)) is None else READ

    def _damaged_archive(self, rng: random.Random) -> bytes:
        which = rng.randrange(len(self._archives))
        if rng.random() < 0.15:
            return damage_bytes(rng, self._pickled[which], self._pickled[1 - which])
        members = dict(self._archives[which])
        name = _pickle_name(members)
        what = rng.random()
        if what < 0.35:
            members[name] = damage_bytes(rng, members[name], self._archives[1 - which].get(name, b""))
        elif what < 0.85:
            members[name] = _damage_opcodes(rng, self._opcodes[which])
        else:
            other = rng.choice(sorted(members))
            members[other] = damage_bytes(rng, members[other]) if rng.random() < 0.7 else b""
        return _archive(members)


def _load_detector(path: Path) -> Any:
    return load_detector(path, device="cpu")


def _pickle_name(members: dict[str, bytes]) -> str:
    return next(name for name in members if name.endswith("data.pkl"))


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def _opcodes(pickled: bytes) -> list[bytes]:
    places = [place for _, _, place in pickletools.genops(pickled) if place is not None]
    return [pickled[start:end] for start, end in zip(places, [*places[1:], len(pickled)], strict=True)]


def _damage_opcodes(rng: random.Random, opcodes: list[bytes]) -> bytes:
    """A pickle with one to three opcodes changed, repeated, moved or removed. All others stay whole."""
    codes = list(opcodes)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(1, len(codes))
        what = rng.random()
        if what < 0.4:
            codes[place] = rng.choice(_HOSTILE_OPCODES)
        elif what < 0.55:
            codes[place] = codes[rng.randrange(1, len(codes))]
        elif what < 0.65:
            codes.insert(place, codes[rng.randrange(1, len(codes))])
        elif what < 0.75:
            codes.insert(place, rng.choice(_HOSTILE_OPCODES))
        elif what < 0.85:
            codes.insert(rng.randrange(1, len(codes)), codes.pop(place))
        elif what < 0.95:
            codes[place] = codes[place][:1] + rng.randbytes(len(codes[place]) - 1)
        else:
            del codes[place]
    return b"".join(codes)


_HOSTILE_OPCODES = (
    *(b"N", b"\x88", b"\x89", b"K\x00", b"K\x01", b"K\xff", b"J\xff\xff\xff\xff", b"J\xff\xff\xff\x7f", b"M\xff\xff"),
    *(
        b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
        b"\x8a\x14" + b"\x7f" * 20,
        b"G\x7f\xf8" + b"\0" * 6,
        b"G\x7f\xf0" + b"\0" * 6,
    ),
    *(b"G" + struct.pack(">d", 1e300), b"X\x00\x00\x00\x00", b"X\x03\x00\x00\x00\xed\xa0\x80", b"X\xff\xff\xff\x7f"),
    *(
        b"}",
        b"]",
        b")",
        b"(",
        b"2",
        b"0",
        b"1",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
        b"R",
        b"b",
        b"s",
        b"u",
        b"a",
        b"e",
        b"Q",
        b".",
    ),
    *(
        b"h\x00",
        b"h\x01",
        b"h\xff",
        b"j\xff\xff\xff\x7f",
        b"q\x00",
        b"r\xff\xff\xff\x7f",
        b"cos\nsystem\n",
        b"c__builtin__\neval\n",
    ),
    *(
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
        b"ctorch.nn.modules.conv\nConv2d\n",
        b"\x81",
        b"\x80\x04",
    ),
)


def _damage_safetensors(rng: random.Random, data: bytes) -> bytes:
    """A `.safetensors` file damaged as bytes, in the header's JSON, or in the config inside it."""
    what = rng.random()
    if what < 0.25:
        return damage_bytes(rng, data)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    if what < 0.65:
        metadata = header["__metadata__"]
        key = next(iter(metadata))
        metadata[key] = json.dumps(damage_tree(rng, json.loads(metadata[key])))
    elif what < 0.75:
        tensor = header[rng.choice([name for name in header if name != "__metadata__"])]
        tensor["dtype"] = rng.choice(_DTYPES)
    else:
        header = damage_tree(rng, header)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    length = len(text) if rng.random() < 0.97 else rng.choice((0, 1, len(text) - 1, 2**32, 2**63, 2**64 - 1))
    body = data[8 + struct.unpack("<Q", data[:8])[0] :]
    return struct.pack("<Q", length) + text + (body if rng.random() < 0.95 else damage_bytes(rng, body[:4096]))


_DTYPES = (
    *("BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "F16", "BF16", "F32", "F64", "C64"),
    *("F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "X", "", hostile_value(random.Random(0))),
)
