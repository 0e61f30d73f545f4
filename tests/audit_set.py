"""What an audit needs, tiny: a bottleneck, and RecNets for it and for latent coding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from featcodec import FeatureCodec
from featcodec.networks.bottleneck import Bottleneck, BottleneckConfig, save_bottleneck
from featcodec.privacy.recnet import RecNet, RecNetConfig, save_recnet

SIZE = 96
FEATURES, HIDDEN, CHANNELS = 16, 10, 6


@dataclass(frozen=True)
class AuditSet:
    """Checkpoints for `tiny_yolov5`: its path, the bottleneck, and one RecNet per side."""

    detector: Path
    bottleneck: Path
    latent: Path
    attack: Path

    def codec(self) -> FeatureCodec:
        return FeatureCodec.load(self.detector, bottleneck=self.bottleneck, image_size=SIZE)

    @property
    def options(self) -> tuple[object, ...]:
        """The options of the command that name the networks."""
        return ("--detector", self.detector, "--bottleneck", self.bottleneck, "--image-size", SIZE)


def make_audit_set(folder: Path, detector: Path) -> AuditSet:
    """Write the checkpoints into a folder."""
    torch.manual_seed(0)
    latent = FeatureCodec.load(detector, image_size=SIZE)
    made = AuditSet(detector, *(folder / f"{name}.safetensors" for name in ("small", "latent-recnet", "small-recnet")))
    fingerprint = latent.model.detector.fingerprint.hex()
    config = BottleneckConfig(FEATURES, HIDDEN, CHANNELS, -3.0, 3.0, latent.model.split, fingerprint, {})
    save_bottleneck(made.bottleneck, Bottleneck(config))
    for path, codec in ((made.latent, latent), (made.attack, made.codec())):
        save_recnet(path, random_recnet(codec))
    return made


def random_recnet(codec: FeatureCodec) -> RecNet:
    """A RecNet for the codec, with outputs that fill [0, 1]; as it is made, they would nearly vanish."""
    hidden, channels = (0, 0) if codec.model.bottleneck is None else (HIDDEN, CHANNELS)
    name = codec.model.fingerprint.hex()
    recnet = RecNet(RecNetConfig(FEATURES, hidden, channels, (2, 1), model_fingerprint=name, training={}))
    for part in recnet.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.fill_(3)
    return recnet.requires_grad_(False)
