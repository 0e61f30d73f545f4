"""The anchor-free heads of ultralytics' detectors: boxes, and with them masks or keypoints.

ultralytics' own forward keeps the grid of the last image on the module, so two threads with images of different shapes
would overwrite each other's grid. These heads have its layers, and keep nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from ultralytics.nn.modules.head import Detect, Pose, Pose26, Segment, Segment26, v10Detect
from ultralytics.utils.tal import dist2bbox, make_anchors

from featcodec.detectors.configuration import Configuration
from featcodec.detectors.task import Task
from featcodec.errors import WeightsError


class AnchorFree(Detect):
    """What all these heads share. A subclass adds the layers of one of ultralytics' heads.

    Args:
        arguments: those of ultralytics' head.
        legacy: whether the class branch is that of YOLOv8 and before.

    Attributes:
        kind: the name of ultralytics' head.
    """

    kind = "Detect"

    def __init__(self, *arguments: Any, legacy: bool, **options: Any) -> None:
        self.legacy = legacy  # ultralytics' constructor reads it
        super().__init__(*arguments, **options)
        self.stride: Tensor

    @property
    def has_two_branches(self) -> bool:
        """Whether a second, one-to-one branch can answer without NMS (YOLOv10, YOLO26)."""
        return getattr(self, "one2one_cv2", None) is not None

    @property
    def task(self) -> Task:
        """What the predictions hold.

        They need NMS unless `end2end` is set: the one-to-many branch answers, as in ultralytics 8.4.190.
        """
        masks, keypoints = getattr(self, "nm", 0), getattr(self, "kpt_shape", None)
        return Task(self.nc, masks, None if keypoints is None else tuple(keypoints), needs_nms=not self.end2end)

    def raw(self, features: list[Tensor]) -> dict[str, Any]:
        """Raw outputs of the branch that answers.

        Returns:
            "boxes" (B, 4 * reg_max, cells), "scores" (B, classes, cells) logits and "feats" (the input); with masks
            also "mask_coefficient" (B, coefficients, cells) and "proto" (B, coefficients, H, W); with keypoints also
            "kpts" (B, numbers, cells).
        """
        branch = self.one2one if self.end2end else self.one2many
        outputs: dict[str, Any] = self.forward_head(features, **branch)
        return outputs

    def both_raw(self, features: list[Tensor]) -> dict[str, Any]:
        """What a head with two branches learns from: `raw` of both, as "one2many" and "one2one".

        The second branch does not reach the layers before the head, as in ultralytics.
        """
        detached = [feature.detach() for feature in features]
        return {
            "one2many": self.forward_head(features, **self.one2many),
            "one2one": self.forward_head(detached, **self.one2one),
        }

    def decode(self, raw: dict[str, Any], conf: float | None = None) -> Tensor:
        """(B, 4 + classes + extra, boxes): centre x, y, width, height in letterboxed pixels; class scores; the extra.

        The extra are mask coefficients, or keypoints in letterboxed pixels.

        Args:
            raw: from `raw`.
            conf: leave out boxes without a score above it; B must be 1.
        """
        anchors, strides = (values.transpose(0, 1) for values in make_anchors(raw["feats"], self.stride, 0.5))
        distances, scores = raw["boxes"], raw["scores"]
        extra = self._extra_of(raw)
        if conf is not None:
            kept = (scores[0].amax(0).sigmoid() > conf).nonzero()[:, 0]
            if len(kept) == 0:  # a convolution refuses an empty input
                rows = 4 + scores.shape[1] + (0 if extra is None else extra.shape[1])
                return cast("Tensor", scores.new_zeros((1, rows, 0)))
            anchors, strides, distances, scores = (
                values[..., kept] for values in (anchors, strides, distances, scores)
            )
            extra = None if extra is None else extra[..., kept]
        boxes = dist2bbox(self.dfl(distances), anchors.unsqueeze(0), xywh=True, dim=1) * strides
        further = [] if extra is None else [self._decode_extra(extra, anchors, strides)]
        return torch.cat((boxes, scores.sigmoid(), *further), 1)

    def prototypes(self, raw: dict[str, Any]) -> Tensor | None:
        """(B, coefficients, H, W), of which masks are made, or None for a head without masks."""
        return raw.get("proto")

    def forward(self, x: list[Tensor]) -> Tensor:
        """Run `raw`, then `decode`."""
        return self.decode(self.raw(x))

    def _extra_of(self, raw: dict[str, Any]) -> Tensor | None:
        return raw.get("mask_coefficient", raw.get("kpts"))

    def _decode_extra(self, extra: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
        return extra


class _V10(AnchorFree, v10Detect):
    kind = "v10Detect"


class _WithMasks(AnchorFree):
    def raw(self, features: list[Tensor]) -> dict[str, Any]:
        outputs = super().raw(features)
        proto = self.proto(features if isinstance(self, Segment26) else features[0])
        # In training, YOLO26's also answers with a picture of the classes.
        return {**outputs, "proto": proto[0] if isinstance(proto, tuple) else proto}


class _Segment(_WithMasks, Segment):
    kind = "Segment"


class _Segment26(_WithMasks, Segment26):
    kind = "Segment26"


class _WithKeypoints(AnchorFree):
    factor, shift = 2.0, -0.5

    def _decode_extra(self, extra: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
        """Keypoints relative to their cell -> letterboxed pixels, and their visibility in [0, 1]."""
        points, numbers = self.kpt_shape
        values = extra.view(extra.shape[0], points, numbers, -1)
        places = (values[:, :, :2] * self.factor + (anchors + self.shift)) * strides
        return torch.cat((places, values[:, :, 2:].sigmoid()), 2).flatten(1, 2)


class _Pose(_WithKeypoints, Pose):
    kind = "Pose"


class _Pose26(_WithKeypoints, Pose26):
    kind = "Pose26"
    factor, shift = 1.0, 0.0


def build_head(configuration: Configuration, channels: list[int]) -> AnchorFree:
    """The head of a configuration, with random weights; its strides must still be set.

    Args:
        configuration: what to build.
        channels: channels of each level.

    Raises:
        WeightsError: the configuration lacks what its head needs.
    """
    arguments = [value for value in configuration.rows[-1].arguments[1:] if isinstance(value, int)]
    shape = (configuration.reg_max, configuration.end2end, channels)
    builders: dict[str, Callable[[], AnchorFree]] = {
        "Detect": lambda: AnchorFree(configuration.classes, *shape, legacy=configuration.legacy),
        "v10Detect": lambda: _V10(configuration.classes, channels, legacy=configuration.legacy),
        "Segment": lambda: _Segment(
            configuration.classes, *_masks(configuration, arguments), *shape, legacy=configuration.legacy
        ),
        "Segment26": lambda: _Segment26(
            configuration.classes, *_masks(configuration, arguments), *shape, legacy=configuration.legacy
        ),
        "Pose": lambda: _Pose(configuration.classes, configuration.keypoints, *shape, legacy=configuration.legacy),
        "Pose26": lambda: _Pose26(configuration.classes, configuration.keypoints, *shape, legacy=configuration.legacy),
    }
    return builders[configuration.head]()


def _masks(configuration: Configuration, arguments: list[int]) -> tuple[int, int]:
    """Mask coefficients, and channels of the prototypes (ultralytics' parse_model scales these)."""
    if len(arguments) != 2:
        raise WeightsError(f"a {configuration.head} head with {len(arguments)} numbers, not 2; download it again")
    coefficients, channels = arguments
    return coefficients, int(-(-min(channels, configuration.max_channels) * configuration.width // 8) * 8)


def initialize_head(head: AnchorFree) -> None:
    """Biases that say that objects are rare, as ultralytics begins (`Detect.bias_init`); strides must be set."""
    with torch.no_grad():
        head.bias_init()
