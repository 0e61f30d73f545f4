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
from featcodec.errors import BitstreamError, InputError, WeightsError
from featcodec.images.letterbox import Letterbox, Letterboxed, letterbox_of
from featcodec.networks.features import Features, features_of_levels, levels_of
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
        if model.split != config.split:
            raise WeightsError(
                f"inverts split {config.split}, but the model has split {model.split}; give another `bottleneck`"
            )
        if not attacks(self.recnet, model):
            trained_on, attacked = config.edge_fingerprint, model.edge_fingerprint.hex()
            if isinstance(config, RecNetConfig) and not trained_on:
                trained_on, attacked = config.model_fingerprint, model.fingerprint.hex()
            raise WeightsError(
                f"the RecNet is for model {trained_on}, but the attacked model is {attacked} ({model.kind}); give the "
                "`detector` and `bottleneck` of the RecNet, or another RecNet"
            )
        needed = sum(level.channels for level in model.levels)
        if config.input_channels != needed:
            raise WeightsError(f"takes {config.input_channels} channels, not the model's {needed}; train it again")
        if (config.inputs, config.pixels_per_sample) != (model.levels, model.pixels_per_sample):
            raise WeightsError("takes tensors of other sizes than the model's; train it again")

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
                    f"has split {side_info.split}, but RecNet inverts split {self.recnet.config.split}; encode with "
                    "that split"
                )
        side_infos = [side_info for side_info, _ in batch]
        qps = [0 if side_info.is_raw else side_info.qp for side_info in side_infos]
        return self.on_tensors(self.codec.decoded_tensors(batch), [letterbox_of(each) for each in side_infos], qps)

    def on_tensors(
        self, tensors: Features, letterboxes: Sequence[Letterbox], qps: Sequence[int] | None = None
    ) -> list[Picture]:
        """Return reconstructions from tensors of the codec.

        Args:
            tensors: (B, C, H, W), decoded or uncompressed; or a tuple with such a tensor per level.
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

    def letterboxed(self, tensors: Features, qps: Sequence[int] | None = None) -> Tensor:
        """Return reconstructions with the border of the letterbox: (B, 3, height, width) in [0, 1].

        Args:
            tensors, qps: as for `on_tensors`.
        """
        levels = [level.float() for level in levels_of(tensors)]
        known = () if qps is None else (torch.tensor(qps, dtype=torch.float32, device=levels[0].device),)

        def run(*given: Tensor) -> Tensor:
            picture: Tensor = self.recnet(features_of_levels(given[: len(levels)]), *given[len(levels) :])
            return picture

        return one_by_one(run, *levels, *known).clamp(0, 1)
