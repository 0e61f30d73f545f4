"""The attack: a codec, and the network that turns its tensors back into pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcodec.bitstream import SideInfo
from featcodec.codec import FeatureCodec
from featcodec.detectors.split import DEFAULT_SPLIT
from featcodec.errors import BitstreamError, InputError, WeightsError
from featcodec.images.letterbox import Letterbox, Letterboxed, letterbox_of
from featcodec.packing.frames import Frame
from featcodec.privacy.attackers import AttackerNet, attacks, load_attacker, shipped_attacker
from featcodec.privacy.recnet import RecNetConfig
from featcodec.system.devices import one_by_one

Picture = npt.NDArray[np.float32]
"""(height, width, 3) RGB in [0, 1]: the reconstruction of one image, without the border of the letterbox."""


@dataclass(frozen=True, eq=False)
class Attack:
    """A codec, and a RecNet (the paper's or the strong one) that turns its tensors back into pictures.

    The RecNet computes in float32 even if the codec does not, because an attacker has time.

    Attributes:
        codec: the codec whose tensors are attacked.
        recnet: the network that was trained on this codec; in eval mode, on the device of the detector.

    Raises:
        WeightsError: the RecNet was trained on another model, or the codec uses another split.
    """

    codec: FeatureCodec
    recnet: AttackerNet

    def __post_init__(self) -> None:
        model, config = self.codec.model, self.recnet.config
        if not attacks(self.recnet, model):
            trained_on, attacked = config.edge_fingerprint, model.edge_fingerprint.hex()
            if isinstance(config, RecNetConfig) and not trained_on:
                trained_on, attacked = config.model_fingerprint, model.fingerprint.hex()
            raise WeightsError(
                f"the RecNet is for model {trained_on}, but the attacked model is {attacked} ({model.kind}); give the "
                "`detector` and `bottleneck` of the RecNet, or another RecNet"
            )
        if model.split != DEFAULT_SPLIT:
            raise WeightsError(
                f"inverts split {DEFAULT_SPLIT}, but the model has split {model.split}; give another `bottleneck`"
            )
        if config.input_channels != model.channels:
            raise WeightsError(
                f"takes {config.input_channels} channels, not the model's {model.channels}; train it again"
            )

    @classmethod
    def load(cls, codec: FeatureCodec, path: Path | None) -> Attack:
        """Read a RecNet checkpoint. If `path` is None, use the RecNet that comes with the package for this model.

        Raises:
            WeightsError: the RecNet is missing, damaged, or trained on another model.
        """
        if path is None:
            return cls(codec, shipped_attacker(codec.model).to(codec.model.device))
        recnet = load_attacker(path)
        try:
            return cls(codec, recnet.to(codec.model.device))
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from None

    def on_images(self, batch: Sequence[Letterboxed]) -> list[Picture]:
        """Return reconstructions from the uncompressed tensors of images of one letterboxed shape."""
        return self.on_tensors(self.codec.tensors_of(batch), [image.letterbox for image in batch])

    def on_streams(self, batch: Sequence[tuple[SideInfo, Frame]]) -> list[Picture]:
        """Return reconstructions from results of `decode_frame`. All have one letterboxed size.

        Raises:
            BitstreamError: a stream has another split. Weights and shape can be equal although the split differs.
        """
        for side_info, _ in batch:
            if side_info.split != self.codec.model.split:
                raise BitstreamError(
                    f"has split {side_info.split}, but RecNet inverts split {DEFAULT_SPLIT}; encode with that split"
                )
        side_infos = [side_info for side_info, _ in batch]
        qps = [0 if side_info.is_raw else side_info.qp for side_info in side_infos]
        return self.on_tensors(self.codec.decoded_tensors(batch), [letterbox_of(each) for each in side_infos], qps)

    def on_tensors(
        self, tensors: Tensor, letterboxes: Sequence[Letterbox], qps: Sequence[int] | None = None
    ) -> list[Picture]:
        """Return reconstructions from tensors of the codec.

        Args:
            tensors: (B, C, H, W), decoded or uncompressed.
            letterboxes: the letterboxes of the B images.
            qps: the QP of each tensor; None, or 0, means a tensor before coding.

        Raises:
            InputError: a reconstruction is not finite.
        """
        with torch.inference_mode():
            images = self.letterboxed(tensors, qps).permute(0, 2, 3, 1).cpu().numpy()
        if not np.isfinite(images).all():
            raise InputError("RecNet makes a picture that is not finite; train RecNet again")
        return [letterbox.crop(image) for image, letterbox in zip(images, letterboxes, strict=True)]

    def letterboxed(self, tensors: Tensor, qps: Sequence[int] | None = None) -> Tensor:
        """Return reconstructions with the border of the letterbox: (B, 3, 8 H, 8 W) in [0, 1].

        Args:
            tensors, qps: as for `on_tensors`.
        """
        known = () if qps is None else (torch.tensor(qps, dtype=torch.float32, device=tensors.device),)
        return one_by_one(self.recnet, tensors.float(), *known).clamp(0, 1)
