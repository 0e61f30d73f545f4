"""SplitModel: the networks on both sides of the wire. They are a split detector and, if there is one, a bottleneck.

    edge:   pictures --detector.front--> features --AE--> tensor
    cloud:  tensor --AD--> features --detector.back--> predictions

The *tensor* is what crosses the wire. Without a bottleneck ("latent" coding), AE and AD are left out, and the tensor is
the feature tensor itself. Behind a late layer, several feature tensors cross; a bottleneck makes one tensor of them.
`FeatureCodec`, the training stages and the attacks all take these networks from here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from featcodec.detectors import SplitDetector, load_detector
from featcodec.detectors.split import Predictions
from featcodec.errors import WeightsError
from featcodec.fingerprints import joined_fingerprint
from featcodec.networks.bottleneck import Bottleneck, choose_bottleneck
from featcodec.networks.catalogue import AUTO
from featcodec.networks.features import Features, levels_of
from featcodec.networks.fusion import Level
from featcodec.networks.int8 import computes_in_int8, in_int8
from featcodec.packing.bands import TensorScale
from featcodec.packing.quantize import LATENT_CLIP, UniformQuantizer


@dataclass(frozen=True, eq=False, repr=False)
class SplitModel:
    """A detector that is cut behind one fixed layer, with or without a bottleneck.

    Attributes:
        detector: the detector; its split is also the model's split.
        bottleneck: AE and AD, trained behind that layer of that detector, or None.
        int8_decoder: the same AD with convolutions in int8, which then takes its place; on the CPU.
        fingerprint: 8 bytes that name the weights of both (the model fingerprint). It is computed at construction,
            before any rounding to half precision. If the bottleneck is trained further, make a new SplitModel.
        edge_fingerprint: 8 bytes that name detector and AE (the edge fingerprint), computed likewise. What an attacker
            gets depends on these alone. Without a bottleneck, it is the detector's fingerprint.

    Raises:
        WeightsError: the bottleneck was trained behind another layer.
    """

    detector: SplitDetector
    bottleneck: Bottleneck | None = None
    int8_decoder: nn.Module | None = field(init=False, default=None)
    fingerprint: bytes = field(init=False)
    edge_fingerprint: bytes = field(init=False)

    def __post_init__(self) -> None:
        if self.bottleneck is not None and self.bottleneck.config.split != self.detector.split:
            raise WeightsError(
                f"the bottleneck was trained behind layer {self.bottleneck.config.split}, the detector is cut behind "
                f"layer {self.detector.split}; use one split for both"
            )
        if self.bottleneck is not None:
            config = self.bottleneck.config
            made_for = config.levels or (Level(config.feature_channels, 0),)
            found = self.detector.levels
            if made_for != found:
                raise WeightsError(
                    f"the bottleneck was trained for levels of (channels, scale) {[*map(tuple, made_for)]}, but the "
                    f"detector has {[*map(tuple, found)]}; use the detector it was trained behind"
                )
        learned, edge = None, None
        if self.bottleneck is not None:
            learned, edge = self.bottleneck.fingerprint(), self.bottleneck.edge_fingerprint()
        object.__setattr__(self, "fingerprint", joined_fingerprint(self.detector.fingerprint, learned))
        object.__setattr__(self, "edge_fingerprint", joined_fingerprint(self.detector.fingerprint, edge))

    @classmethod
    def load(
        cls,
        detector: str | Path = "yolov5n",
        bottleneck: str | Path | None = AUTO,
        *,
        split: int | None = None,
        device: str = "auto",
        half: bool | None = None,
        precision: str | None = None,
        fingerprint: bytes | None = None,
        nms: bool = True,
    ) -> SplitModel:
        """Load a detector and a bottleneck by name.

        Args:
            detector: a name (`featcodec models`), a `.pt` file, or a `.safetensors` file of `featcodec train detector`.
            bottleneck: a `.safetensors` checkpoint, the name of a shipped bottleneck, or None or "none" for latent
                coding. "auto" takes the bottleneck that `fingerprint` names. If it names none, "auto" takes the
                bottleneck that ships for this detector and split, if any.
            split: last layer of the front-end; None means the bottleneck's own split, or without a bottleneck 4, or the
                first split that the detector has.
            device: auto, cpu, cuda, cuda:N or mps.
            half, precision: as for `load_detector`.
            fingerprint: 8 bytes that name the wanted model (`SplitModel.fingerprint`), if they are known.
            nms: as for `load_detector`.

        Raises:
            WeightsError: weights are missing, refused or damaged, or detector and bottleneck do not fit together.
            InputError: the split, the device or the precision does not exist.
        """
        network = load_detector(detector, split=split, device=device, half=half, precision=precision, nms=nms)
        learned = choose_bottleneck(bottleneck, network.fingerprint, split, fingerprint)
        if learned is None:
            return cls(network)
        model = cls(network.at(learned.config.split), learned)
        # After the fingerprint is computed, because half precision would change it.
        learned.to(network.device, network.dtype)
        # As the detector's. Not AE: it is no faster, and its sums would round in another way.
        learned.decoder.to(memory_format=torch.channels_last)
        if computes_in_int8(precision, network.device, network.dtype):
            object.__setattr__(model, "int8_decoder", in_int8(learned.decoder))
        return model

    @property
    def split(self) -> int:
        """The last layer of the front-end."""
        return self.detector.split

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return self.detector.device

    @property
    def kind(self) -> str:
        """What the tensor is: "bottleneck" (AE's output) or "latent" (the feature tensor itself)."""
        return "latent" if self.bottleneck is None else "bottleneck"

    @property
    def feature_channels(self) -> int:
        """Channels of the detector's feature tensor; of several, those of the finest."""
        return self.detector.levels[0].channels

    @property
    def channels(self) -> int:
        """Channels of the tensor; of several, those of the finest."""
        return self.feature_channels if self.bottleneck is None else self.bottleneck.config.channels

    @property
    def quantizer(self) -> UniformQuantizer:
        """The 8-bit quantizer of the tensor's clip range: the bottleneck's own range, or the range of latent coding."""
        return UniformQuantizer(*LATENT_CLIP) if self.bottleneck is None else self.bottleneck.config.quantizer()

    @property
    def further(self) -> tuple[TensorScale, ...]:
        """The coarser tensors, if several cross the wire."""
        return tuple(TensorScale(channels, 1 << scale) for channels, scale in self.levels[1:])

    @property
    def levels(self) -> tuple[Level, ...]:
        """Channels and scale of each tensor that crosses the wire, the finest first; one with a bottleneck."""
        return self.detector.levels if self.bottleneck is None else (Level(self.bottleneck.config.channels, 0),)

    @property
    def pixels_per_sample(self) -> int:
        """Pixels of the letterboxed image that a sample of the finest tensor covers, per side."""
        fusion_scale = 0 if self.bottleneck is None else self.bottleneck.config.fusion_scale
        return self.detector.pixels_per_sample << fusion_scale

    def tensor_shapes(self, width: int, height: int) -> tuple[tuple[int, int, int], ...]:
        """(channels, height, width) of each tensor that crosses the wire, for a letterboxed image.

        Args:
            width, height: pixels, multiples of the detector's stride.
        """
        features = self.detector.feature_shapes(width, height)
        if self.bottleneck is None:
            return features
        _, rows, columns = features[0]
        config = self.bottleneck.config
        return ((config.channels, rows >> config.fusion_scale, columns >> config.fusion_scale),)

    def to(self, device: torch.device) -> SplitModel:
        """Move the weights to another device, in place; returns the model."""
        self.detector.to(device)
        if self.bottleneck is not None:
            self.bottleneck.to(device)
        if device.type != "cpu":
            object.__setattr__(self, "int8_decoder", None)
        return self

    def at(self, split: int) -> SplitModel:
        """The same detector, cut behind another layer. Works only without a bottleneck. Weights are shared, not copied.

        Raises:
            WeightsError: there is a bottleneck; a bottleneck fits only its own split.
            InputError: the detector cannot be cut there.
        """
        return self if split == self.split else SplitModel(self.detector.at(split), self.bottleneck)

    def encode(self, pictures: Tensor) -> Features:
        """The edge: front-end and AE.

        Args:
            pictures: (B, 3, H, W) RGB in [0, 1], H and W multiples of the detector's stride.

        Returns:
            (B, channels, H / 2**k, W / 2**k) on the model's device, in its precision; 8 pixels per sample at split 4.
            Without a bottleneck, behind a split where several tensors cross, a tuple of them.
        """
        return self.reduce(self.detector.front(pictures))

    def decode(self, tensors: Features, qp: Tensor | None = None, conf: float | None = None) -> Tensor:
        """The cloud: AD and back-end.

        Args:
            tensors: what `encode` returns, possibly damaged by coding.
            qp: (B,) floating, the QP of each tensor, for an AD that knows it. None, or 0, means a tensor before coding.
            conf: boxes without a score above it may be left out; B must be 1.

        Returns:
            (B, 4 + classes + extra, boxes), as `SplitDetector.back`.
        """
        return self.detector.back(self.expand(tensors, qp), conf)

    def predict(self, tensors: Features, qp: Tensor | None = None, conf: float | None = None) -> Predictions:
        """The cloud, with all that the detector answers besides boxes; arguments as in `decode`."""
        return self.detector.predict(self.expand(tensors, qp), conf)

    def reduce(self, features: Features) -> Features:
        """AE alone: what the front-end returns -> (B, channels, h, w). Without a bottleneck, returns the input."""
        return features if self.bottleneck is None else self.bottleneck.encode(features)

    def expand(self, tensors: Features, qp: Tensor | None = None) -> Features:
        """AD alone: (B, channels, h, w) -> what the back-end takes. Without a bottleneck, returns the input.

        Args:
            tensors, qp: as for `decode`.
        """
        if self.bottleneck is None:
            return tensors
        (tensor,) = levels_of(tensors)
        return self.bottleneck.decode(tensor, qp, self.int8_decoder)

    @property
    def precision(self) -> str:
        """In what the networks compute: float32, bfloat16, float16, or int8 if AD does."""
        return "int8" if self.int8_decoder is not None else str(self.detector.dtype).removeprefix("torch.")

    def __repr__(self) -> str:
        learned = "none" if self.bottleneck is None else f"{self.channels} channels"
        return (
            f"SplitModel({len(self.detector.names)} classes, split={self.split}, bottleneck={learned}, "
            f"fingerprint={self.fingerprint.hex()}, device={self.device})"
        )
