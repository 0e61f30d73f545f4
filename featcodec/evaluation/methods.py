"""Methods: the ways to code pictures for a detector that a sweep measures. These are our feature streams, and anchors.

    image --letterbox--> prepare (once) -> encode (a QP or quality) -> bytes -> decode -> back_end -> Detections

A decoder gets only the bytes, with one exception. VVC and JPEG pictures do not say how large the image was before the
letterbox, so the anchors get this size without a cost in bytes. A feature stream carries the size itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcodec import bitstream
from featcodec.bitstream import SideInfo
from featcodec.codec import FeatureCodec
from featcodec.detections import Detections
from featcodec.evaluation.identity import common_identity, short, vvc_identity
from featcodec.evaluation.points import Row
from featcodec.fingerprints import name_of
from featcodec.images.letterbox import Letterbox, Letterboxed
from featcodec.networks.features import Features, features_of_levels, levels_of
from featcodec.packing.frames import Frame

Samples: TypeAlias = npt.NDArray[np.uint8]
Picture: TypeAlias = npt.NDArray[np.float32]
"""(height, width, 3) RGB in [0, 1], without the border of the letterbox."""

METHODS = ("bottleneck", "latent", "input-vvc", "input-jpeg", "uncoded")

S = TypeVar("S")
D = TypeVar("D")


class Attacker(Protocol):
    """An attack that turns decoded frames back into pictures. `featcodec.privacy.attack.Attack` implements it."""

    def on_streams(self, batch: Sequence[tuple[SideInfo, Frame]]) -> list[Picture]:
        """Return reconstructions from results of `FeatureCodec.decode_frame`. All have one letterboxed size."""

    def on_tensors(self, tensors: Features, letterboxes: Sequence[Letterbox]) -> list[Picture]:
        """Return reconstructions from tensors (`FeatureCodec.tensors_of`) of one letterboxed size."""


class Method(Protocol[S, D]):
    """A way to code pictures in which everything is fixed except the rate.

    S is the type of what the encoder keeps beside the samples. D is the type of a decoded picture.
    """

    @property
    def name(self) -> str:
        """One of `METHODS`."""

    @property
    def parameter(self) -> str:
        """The parameter that sets the rate, one of `featcodec.evaluation.points.PARAMETERS`."""

    @property
    def codec(self) -> FeatureCodec:
        """The letterbox and the detector."""

    @property
    def recnet(self) -> str:
        """16 hex digits that name the RecNet, or an empty string without an attack."""

    def identity(self) -> Row:
        """Return the columns that identify the points of this method, without rate and data set."""

    def prepare(self, batch: Sequence[Letterboxed]) -> list[tuple[S, Samples]]:
        """Do all steps before the picture is coded, for images of one letterboxed shape."""

    def encode(self, batch: Sequence[tuple[S, Samples]], value: int | None) -> list[bytes]:
        """Return one file per picture. All samples have one shape. The value is None if the method has no parameter."""

    def slice_bytes(self, data: bytes) -> int:
        """Count the bytes of a file that are coded picture data."""

    def decode(self, data: bytes, original: tuple[int, int]) -> D:
        """Decode a file to a picture. `original` is the (width, height) of the image before the letterbox."""

    def back_end(self, batch: Sequence[D]) -> list[Detections]:
        """Return the detections from decoded pictures of one letterboxed shape."""

    def attack(self, batch: Sequence[D]) -> list[Picture]:
        """Return the reconstructions from decoded pictures, or an empty list without an attack."""


@dataclass(frozen=True, eq=False)
class FeatureMethod:
    """Our own method: feature streams with a bottleneck, or without one (latent coding).

    Attributes:
        codec: the codec; its QP sets the rate.
        label: the name of the bottleneck, for people.
        attacker: the attack on the decoded tensors, or None.
        recnet: see `Method.recnet`.
    """

    codec: FeatureCodec
    label: str = ""
    attacker: Attacker | None = None
    recnet: str = ""
    parameter = "qp"

    @property
    def name(self) -> str:
        """See `Method.name`."""
        return self.codec.model.kind

    def identity(self) -> Row:
        """See `Method.identity`."""
        quantizer = self.codec.packing.quantizer
        return {
            **common_identity(self.codec, self.codec.model.fingerprint),
            **vvc_identity(self.codec),
            "method": self.name,
            "split": str(self.codec.model.detector.split),
            "clip_low": short(quantizer.low),
            "clip_high": short(quantizer.high),
            "bits": str(quantizer.bits),
            "layout": name_of(self.codec.packing.layout),
            "restoration": "" if self.codec.video_codec.name == "none" else name_of(self.codec.restoration),
        }

    def prepare(self, batch: Sequence[Letterboxed]) -> list[tuple[SideInfo, Samples]]:
        """See `Method.prepare`."""
        return self.codec.front_end(batch, qp=0)

    def encode(self, batch: Sequence[tuple[SideInfo, Samples]], value: int | None) -> list[bytes]:
        """See `Method.encode`."""
        streams = self.codec.video_codec.encode([samples for _, samples in batch], value or 0)
        side_infos = [
            side_info if value is None else dataclasses.replace(side_info, qp=value) for side_info, _ in batch
        ]
        return [bitstream.pack(*pair) for pair in zip(side_infos, streams, strict=True)]

    def slice_bytes(self, data: bytes) -> int:
        """See `Method.slice_bytes`."""
        return bitstream.breakdown(data).slice_data

    def decode(self, data: bytes, original: tuple[int, int]) -> tuple[SideInfo, Frame]:
        """See `Method.decode`."""
        return self.codec.decode_frame(data)

    def back_end(self, batch: Sequence[tuple[SideInfo, Frame]]) -> list[Detections]:
        """See `Method.back_end`."""
        return self.codec.back_end(batch)

    def attack(self, batch: Sequence[tuple[SideInfo, Frame]]) -> list[Picture]:
        """See `Method.attack`."""
        return [] if self.attacker is None else self.attacker.on_streams(batch)


@dataclass(frozen=True, eq=False)
class UncodedMethod:
    """No compression (paper, Tables I and II): the tensor is used as it is, without clipping and quantization.

    The "file" of this method is the tensor in float32, so the rate counts the numbers themselves. Without a bottleneck
    the result is the result of the uncoded detector.

    Attributes:
        codec, label, attacker, recnet: the same as in `FeatureMethod`.
    """

    codec: FeatureCodec
    label: str = ""
    attacker: Attacker | None = None
    recnet: str = ""
    parameter = "qp"
    name = "uncoded"

    def identity(self) -> Row:
        """See `Method.identity`."""
        common = common_identity(self.codec, self.codec.model.fingerprint)
        return {
            **common,
            **{"codec": "", "codec_version": "", "method": self.name, "split": str(self.codec.model.detector.split)},
        }

    def prepare(self, batch: Sequence[Letterboxed]) -> list[tuple[None, Samples]]:
        """See `Method.prepare`. The samples are the bytes of the float32 tensor."""
        levels = levels_of(self.codec.tensors_of(batch))
        together = torch.cat([level.float().cpu().flatten(1) for level in levels], 1).numpy()
        # In rows, so that pictures of different heights have samples of different shapes.
        rows = levels[-1].shape[2]
        return [(None, values.view(np.uint8).reshape(rows, -1)) for values in together]

    def encode(self, batch: Sequence[tuple[None, Samples]], value: int | None) -> list[bytes]:
        """See `Method.encode`."""
        return [samples.tobytes() for _, samples in batch]

    def slice_bytes(self, data: bytes) -> int:
        """See `Method.slice_bytes`."""
        return len(data)

    def decode(self, data: bytes, original: tuple[int, int]) -> tuple[Letterbox, tuple[Tensor, ...]]:
        """See `Method.decode`."""
        model = self.codec.model
        letterbox = self.codec.fitting.letterbox(*original)
        shapes = model.tensor_shapes(letterbox.width, letterbox.height)
        values = torch.frombuffer(bytearray(data), dtype=torch.float32).to(model.device, model.detector.dtype)
        parts = torch.split(values, [channels * height * width for channels, height, width in shapes])
        return letterbox, tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))

    def back_end(self, batch: Sequence[tuple[Letterbox, tuple[Tensor, ...]]]) -> list[Detections]:
        """See `Method.back_end`."""
        return self.codec.finish(_stacked([levels for _, levels in batch]), [letterbox for letterbox, _ in batch])

    def attack(self, batch: Sequence[tuple[Letterbox, tuple[Tensor, ...]]]) -> list[Picture]:
        """See `Method.attack`."""
        if self.attacker is None:
            return []
        tensors = _stacked([levels for _, levels in batch])
        return self.attacker.on_tensors(tensors, [letterbox for letterbox, _ in batch])


def _stacked(images: Sequence[tuple[Tensor, ...]]) -> Features:
    """A batch of the tensors of single images."""
    return features_of_levels([torch.stack(level) for level in zip(*images, strict=True)])
