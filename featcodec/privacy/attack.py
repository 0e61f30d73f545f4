"""The attack itself: a codec, and the RecNet that turns its coded tensors back into pictures."""

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
from featcodec.privacy.recnet import RecNet, load_recnet, shipped_recnet

Picture = npt.NDArray[np.float32]
"""(height, width, 3) RGB in [0, 1]: what an attack makes of one image, without the letterbox's border."""


@dataclass(frozen=True, eq=False)
class Attack:
    """A codec and a RecNet that turns its coded tensors back into pictures.

    It computes in float32 also where the codec does not: an attacker is in no hurry.

    Attributes:
        codec: whose tensors are attacked.
        recnet: trained on that codec; in eval mode, on its detector's device.

    Raises:
        WeightsError: the RecNet was trained on another codec, or the codec splits its detector elsewhere.
    """

    codec: FeatureCodec
    recnet: RecNet

    def __post_init__(self) -> None:
        model, config = self.codec.model, self.recnet.config
        if config.model_fingerprint != model.fingerprint.hex():
            raise WeightsError(
                f"a RecNet for the networks {config.model_fingerprint:.16}, but {model.fingerprint.hex()} are attacked "
                f"({model.kind}); give the `detector` and `bottleneck` it was trained on, or another RecNet"
            )
        if model.split != DEFAULT_SPLIT:
            raise WeightsError(
                f"inverts split {DEFAULT_SPLIT}, but the model is cut behind layer {model.split}; give another "
                "`bottleneck`"
            )
        if config.input_channels != model.channels:
            raise WeightsError(
                f"takes {config.input_channels} channels, not the model's {model.channels}; train it again"
            )

    @classmethod
    def load(cls, codec: FeatureCodec, path: Path | None) -> Attack:
        """Read a RecNet checkpoint; None takes the one that ships for this codec.

        Raises:
            WeightsError: missing, damaged, or trained on another codec.
        """
        if path is None:
            return cls(codec, shipped_recnet(codec.model.fingerprint).to(codec.model.device))
        recnet = load_recnet(path)
        try:
            return cls(codec, recnet.to(codec.model.device))
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from None

    def on_images(self, batch: Sequence[Letterboxed]) -> list[Picture]:
        """Reconstructions from uncompressed features of images of one letterboxed shape."""
        return self.on_tensors(self.codec.tensors_of(batch), [image.letterbox for image in batch])

    def on_streams(self, batch: Sequence[tuple[SideInfo, Frame]]) -> list[Picture]:
        """Reconstructions from `decode_frame` results of one letterboxed size.

        Raises:
            BitstreamError: one was split elsewhere, which equal weights and an equal shape do not tell.
        """
        for side_info, _ in batch:
            if side_info.split != self.codec.model.split:
                raise BitstreamError(
                    f"made behind layer {side_info.split}, but a RecNet inverts split {DEFAULT_SPLIT}; encode with that"
                )
        return self.on_tensors(self.codec.decoded_tensors(batch), [letterbox_of(side_info) for side_info, _ in batch])

    def on_tensors(self, tensors: Tensor, letterboxes: Sequence[Letterbox]) -> list[Picture]:
        """Reconstructions from (B, C, H, W) tensors of the codec, coded or not.

        Raises:
            InputError: a reconstruction is not finite.
        """
        with torch.inference_mode():
            images = self.recnet(tensors.float()).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        if not np.isfinite(images).all():
            raise InputError("RecNet makes no finite picture of it; train it again")
        return [letterbox.crop(image) for image, letterbox in zip(images, letterboxes, strict=True)]
