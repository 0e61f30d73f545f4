"""Builds a detector from its module record, with ultralytics' own modules.

Every size is read from the stored tensors, so nothing larger than the file is ever built. Parts that do not fit
together are refused (`shapes` compares the layers).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import C3, SPPF, Concat, Conv

from featcodec.detectors.anchor_free import AnchorFree
from featcodec.detectors.attributes import child, flag, numbers, pair, real, shown, whole
from featcodec.detectors.details import restore_details
from featcodec.detectors.head import AnchorDetect
from featcodec.detectors.layers import Layer
from featcodec.detectors.shapes import check_shapes
from featcodec.detectors.unpickle import ModuleRecord
from featcodec.errors import WeightsError, reason_of
from featcodec.networks.checkpoints import all_finite, check_tensors

_MAX_LAYERS = 64
_KINDS = frozenset(("Conv", "C3", "SPPF", "Upsample", "Concat", "Detect"))
_MAX_UPSAMPLINGS = 3
_MAX_CLASSES = 4096
_MAX_SOURCES = 8
_MAX_STRIDE = 64


class _LegacyDetect(AnchorFree):
    """The head of the yolov5u checkpoints. Their fingerprints hold its name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(legacy=True, **options)


def is_yolov5(model: ModuleRecord) -> bool:
    """Whether a network is built here: YOLOv5's own, or one of ultralytics' with the same kinds of layers."""
    record = model.children.get("model")
    kinds = set() if record is None else {each.kind for each in record.children.values()}
    return model.package == "yolov5" or kinds <= _KINDS


def build_layers(model: ModuleRecord) -> list[Layer]:
    """The layers of a detector, with their weights, in eval mode and float32.

    Raises:
        WeightsError: YOLOv5 does not have such layers, or the tensors do not fit together.
    """
    records = child(model, "model").children
    if not 2 <= len(records) <= _MAX_LAYERS:
        raise WeightsError(f"{len(records)} layers are not a YOLOv5 detector; use a detection checkpoint")
    kinds = [record.kind for record in records.values()]
    if kinds.count("Detect") != 1 or kinds[-1] != "Detect":
        raise WeightsError(f"its last layer is {kinds[-1]}, not its only Detect; use a YOLOv5 detection checkpoint")
    if kinds.count("Upsample") > _MAX_UPSAMPLINGS:
        raise WeightsError(
            f"{kinds.count('Upsample')} upsampling layers; no YOLOv5 has more than {_MAX_UPSAMPLINGS}; "
            "use a detection checkpoint"
        )
    layers = []
    for index, record in enumerate(records.values()):
        try:
            # On the meta device, nothing is allocated before the stored shapes are checked.
            with torch.device("meta"):
                module = _build(record)
                restore_details(module, record)
            state = record.state()
            check_tensors(state, module.state_dict())
            module.load_state_dict({name: plain(name, tensor) for name, tensor in state.items()}, assign=True)
            sources = _sources(record, index)
        except WeightsError as error:
            raise WeightsError(f"layer {index} ({record.kind}): {error}") from None
        except (IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise WeightsError(
                f"layer {index} ({record.kind}) is damaged: {reason_of(error)}; download it again"
            ) from None
        layers.append(Layer(module.eval().requires_grad_(False), sources))
    check_shapes(layers)
    return layers


def _build(record: ModuleRecord) -> nn.Module:
    """An empty module of the record's kind and sizes."""
    builders: dict[str, Callable[[ModuleRecord], nn.Module]] = {
        "Conv": _build_conv,
        "C3": _build_c3,
        "SPPF": _build_sppf,
        "Upsample": _build_upsample,
        "Concat": lambda _: Concat(1),
        "Detect": _build_anchor_detect if record.package == "yolov5" else _build_anchor_free_detect,
    }
    if record.kind not in builders:
        raise WeightsError("not a layer of YOLOv5 (v6, v7 or u); use a YOLOv5 detection checkpoint")
    return builders[record.kind](record)


def _build_conv(record: ModuleRecord) -> nn.Module:
    convolution = child(record, "conv")
    weight = _weight(convolution)
    stride, padding, dilation = (pair(convolution, name) for name in ("stride", "padding", "dilation"))
    if stride not in (1, 2) or not 0 <= padding <= weight.shape[2] // 2:
        raise WeightsError(f"convolution with stride {shown(stride)} and padding {shown(padding)}; no YOLOv5 has it")
    if dilation != 1 or whole(convolution, "groups") != 1:
        raise WeightsError("dilated or grouped convolution; no YOLOv5 has one")
    return Conv(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding)


def _build_c3(record: ModuleRecord) -> nn.Module:
    entry, merge = _weight(child(record, "cv1")), _weight(child(record, "cv3"))
    blocks = child(record, "m").children
    shortcuts = {flag(block, "add") for block in blocks.values()}
    if len(shortcuts) > 1:
        raise WeightsError("some of its bottlenecks add their input and some do not; no YOLOv5 has this")
    expansion = (entry.shape[0] + 0.5) / merge.shape[0]  # C3 rounds down
    return C3(entry.shape[1], merge.shape[0], len(blocks), shortcuts == {True}, 1, expansion)


def _build_sppf(record: ModuleRecord) -> nn.Module:
    entry, merge = _weight(child(record, "cv1")), _weight(child(record, "cv2"))
    kernel = whole(child(record, "m"), "kernel_size")
    if kernel % 2 == 0 or not 1 <= kernel <= 31:
        raise WeightsError(f"pooling over {shown(kernel)} cells; no YOLOv5 has it")
    return SPPF(entry.shape[1], merge.shape[0], kernel)


def _build_upsample(record: ModuleRecord) -> nn.Module:
    if shown(record.attributes.get("mode")) != "'nearest'" or real(record, "scale_factor") != 2:
        raise WeightsError("upsampling that is not nearest-neighbour by 2; no YOLOv5 has it")
    return nn.Upsample(scale_factor=2.0, mode="nearest")


def _build_anchor_detect(record: ModuleRecord) -> nn.Module:
    weights = [_weight(child) for child in child(record, "m").children.values()]
    classes, anchors = _classes(record), record.tensors["anchors"]
    strides = _strides(record, len(weights))
    if anchors.ndim != 3 or anchors.shape[2] != 2 or len(anchors) != len(weights):
        raise WeightsError("anchors and outputs do not fit together; download it again")
    return AnchorDetect(classes, torch.zeros(anchors.shape), strides, [weight.shape[1] for weight in weights])


def _build_anchor_free_detect(record: ModuleRecord) -> nn.Module:
    inputs = [_weight(child(child(branch, "0"), "conv")).shape[1] for branch in child(record, "cv2").children.values()]
    reg_max = whole(record, "reg_max")
    if not 1 <= reg_max <= 64:
        raise WeightsError(f"reg_max {shown(reg_max)} is outside 1..64; download it again")
    head = _LegacyDetect(nc=_classes(record), reg_max=reg_max, ch=tuple(inputs))
    head.stride = _strides(record, len(inputs))
    return head


def _sources(record: ModuleRecord, index: int) -> tuple[int, ...]:
    origin = record.attributes["f"]
    origins = origin if isinstance(origin, list) else [origin]
    if not 1 <= len(origins) <= _MAX_SOURCES or not all(type(source) is int for source in origins):
        raise WeightsError(f"takes its input from {shown(origin)}, which are not layers; download it again")
    sources = tuple(index + source if source < 0 else source for source in origins)
    if any(not -1 <= source < index for source in sources):
        raise WeightsError(f"takes its input from {str(origins)[:80]}, which is not before it; download it again")
    return sources


def _classes(record: ModuleRecord) -> int:
    classes = whole(record, "nc")
    if not 1 <= classes <= _MAX_CLASSES:
        raise WeightsError(f"{shown(classes)} classes are outside 1..{_MAX_CLASSES}")
    return classes


def _strides(record: ModuleRecord, levels: int) -> Tensor:
    """(levels,) float32 on the CPU, also where the default device is the meta device."""
    strides = numbers(record, "stride", levels)
    if not all(0 < stride <= _MAX_STRIDE for stride in strides):
        raise WeightsError(f"strides {strides} are not above 0 and up to {_MAX_STRIDE}; download it again")
    return torch.tensor(strides, dtype=torch.float32, device="cpu")


def _weight(record: ModuleRecord) -> Tensor:
    """The 4-D weight of a Conv2d record, or of the Conv2d in a Conv record."""
    holder = record.children.get("conv", record)
    weight = holder.tensors["weight"]
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or 0 in weight.shape:
        raise WeightsError(f"a convolution weight of shape {tuple(weight.shape)}; download it again")
    return weight


def plain(name: str, tensor: Tensor) -> Tensor:
    """A stored tensor as float32, or as a whole number; refuses what is not finite."""
    if not tensor.is_floating_point():
        return tensor.long()
    if not all_finite(tensor):
        raise WeightsError(f"{name} holds numbers that are not finite; download it again")
    return tensor.float()
