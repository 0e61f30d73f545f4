"""SplitModel: the networks around the wire, a detector cut in two and a bottleneck or none.

    edge:   pictures --detector.front--> features --AE--> tensor
    cloud:  tensor --AD--> features --detector.back--> predictions

What crosses the wire is the *tensor*. Without a bottleneck ("latent" coding) AE and AD are left out, and the tensor is
the feature tensor itself. Everybody who needs these networks takes them from here: `FeatureCodec`, the stages of
training, and the attacks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from featcodec.detectors import SplitDetector, load_detector
from featcodec.detectors.split import DEFAULT_SPLIT
from featcodec.errors import WeightsError
from featcodec.fingerprints import joined_fingerprint
from featcodec.networks.bottleneck import Bottleneck, choose_bottleneck
from featcodec.networks.catalogue import AUTO
from featcodec.packing.quantize import LATENT_CLIP, UniformQuantizer

_PROBE_SIDE = 64


@dataclass(frozen=True, eq=False, repr=False)
class SplitModel:
    """A detector cut behind one fixed layer, and a bottleneck or none.

    Attributes:
        detector: the detector; its split is the model's.
        bottleneck: AE and AD, trained behind that layer of that detector, or None.
        fingerprint: 8 bytes that name the weights of both; of the weights at construction, before any rounding to half
            precision. A bottleneck that is trained on needs a new SplitModel.

    Raises:
        WeightsError: the bottleneck was trained behind another layer.
    """

    detector: SplitDetector
    bottleneck: Bottleneck | None = None
    fingerprint: bytes = field(init=False)

    def __post_init__(self) -> None:
        if self.bottleneck is not None and self.bottleneck.config.split != self.detector.split:
            raise WeightsError(
                f"the bottleneck was trained behind layer {self.bottleneck.config.split}, the detector is cut behind "
                f"layer {self.detector.split}; use one split for both"
            )
        learned = None if self.bottleneck is None else self.bottleneck.fingerprint()
        object.__setattr__(self, "fingerprint", joined_fingerprint(self.detector.fingerprint, learned))

    @classmethod
    def load(
        cls,
        detector: str | Path = "yolov5n",
        bottleneck: str | Path | None = AUTO,
        *,
        split: int | None = None,
        device: str = "auto",
        half: bool | None = None,
        fingerprint: bytes | None = None,
    ) -> SplitModel:
        """Load detector and bottleneck by name.

        Args:
            detector: a name (`featcodec models`), a `.pt` file, or a `.safetensors` file of `featcodec train detector`.
            bottleneck: a `.safetensors` checkpoint, the name of a shipped one, None or "none" for direct coding, or
                "auto": the one that `fingerprint` names, else the one that ships for this detector and split, if any.
            split: last layer of the front-end, 0..4; None means the bottleneck's own, or 4.
            device: auto, cpu, cuda, cuda:N or mps.
            half: compute in float16; None means on CUDA only.
            fingerprint: 8 bytes that name the model that is wanted (`SplitModel.fingerprint`), if it is known.

        Raises:
            WeightsError: weights are missing, refused or damaged, or the two do not fit together.
            InputError: the split or the device does not exist.
        """
        network = load_detector(detector, split=DEFAULT_SPLIT if split is None else split, device=device, half=half)
        learned = choose_bottleneck(bottleneck, network.fingerprint, split, fingerprint)
        if learned is None:
            return cls(network)
        model = cls(network.at(learned.config.split), learned)
        # Only now: half precision would change the fingerprint.
        learned.to(network.device, network.dtype)
        return model

    @property
    def split(self) -> int:
        """The last layer of the front-end, 0..4."""
        return self.detector.split

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.detector.device

    @property
    def kind(self) -> str:
        """What crosses the wire: "bottleneck" (what AE makes) or "latent" (the features themselves)."""
        return "latent" if self.bottleneck is None else "bottleneck"

    @property
    def feature_channels(self) -> int:
        """Channels of the detector's feature tensor."""
        return self.detector.feature_shape(_PROBE_SIDE, _PROBE_SIDE)[0]

    @property
    def channels(self) -> int:
        """Channels of the tensor that crosses the wire."""
        return self.feature_channels if self.bottleneck is None else self.bottleneck.config.channels

    @property
    def quantizer(self) -> UniformQuantizer:
        """The 8-bit quantizer of the tensor's clip range: the bottleneck's own, or that of direct coding."""
        return UniformQuantizer(*LATENT_CLIP) if self.bottleneck is None else self.bottleneck.config.quantizer()

    def tensor_shape(self, width: int, height: int) -> tuple[int, int, int]:
        """(channels, height, width) of the tensor for a letterboxed image.

        Args:
            width, height: pixels, multiples of 32.
        """
        return self.channels, *self.detector.feature_shape(width, height)[1:]

    def to(self, device: torch.device) -> SplitModel:
        """Move the weights to another device, in place; returns the model."""
        self.detector.to(device)
        if self.bottleneck is not None:
            self.bottleneck.to(device)
        return self

    def at(self, split: int) -> SplitModel:
        """The same detector cut behind another layer; only without a bottleneck. Weights are shared, not copied.

        Raises:
            WeightsError: there is a bottleneck, which belongs to its own split.
            InputError: the split does not exist.
        """
        return self if split == self.split else SplitModel(self.detector.at(split), self.bottleneck)

    def encode(self, pictures: Tensor) -> Tensor:
        """The edge: front-end and AE.

        Args:
            pictures: (B, 3, H, W) RGB in [0, 1], H and W multiples of 32.

        Returns:
            (B, channels, H / 2**k, W / 2**k) on the model's device, in its precision; 8 pixels per sample at split 4.
        """
        return self.reduce(self.detector.front(pictures))

    def decode(self, tensors: Tensor) -> Tensor:
        """The cloud: AD and back-end.

        Args:
            tensors: (B, channels, h, w), what `encode` gives, possibly damaged by coding.

        Returns:
            (B, 4 + classes, boxes): centre x, y, width, height in letterboxed pixels, then class scores in [0, 1].
        """
        return self.detector.back(self.expand(tensors))

    def reduce(self, features: Tensor) -> Tensor:
        """AE alone: (B, feature_channels, h, w) -> (B, channels, h, w); without a bottleneck the same features."""
        return features if self.bottleneck is None else self.bottleneck.encode(features)

    def expand(self, tensors: Tensor) -> Tensor:
        """AD alone: (B, channels, h, w) -> (B, feature_channels, h, w); without a bottleneck the same tensors."""
        return tensors if self.bottleneck is None else self.bottleneck.decode(tensors)

    def __repr__(self) -> str:
        learned = "none" if self.bottleneck is None else f"{self.channels} channels"
        return (
            f"SplitModel({len(self.detector.names)} classes, split={self.split}, bottleneck={learned}, "
            f"fingerprint={self.fingerprint.hex()}, device={self.device})"
        )
