"""What a state dict does not hold, but what changes the result: activations, constants, paddings, kinds of parts.

A module that was built from a record gets the record's activations and constants. Everything else must already be as
the record says; a part that works in another way is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from ultralytics.nn.modules import C3, SPPF, Bottleneck, Concat, Conv

from featcodec.detectors.attributes import child, flag, pair, real, shown, whole
from featcodec.detectors.unpickle import ModuleRecord
from featcodec.errors import WeightsError

ACTIVATIONS: dict[str, Callable[[ModuleRecord], nn.Module]] = {
    "Hardswish": lambda _: nn.Hardswish(),
    "Identity": lambda _: nn.Identity(),
    "LeakyReLU": lambda record: nn.LeakyReLU(real(record, "negative_slope")),
    "ReLU": lambda _: nn.ReLU(),
    "SiLU": lambda _: nn.SiLU(),
}
_KINDS: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (C3, ("C3",)),
    (SPPF, ("SPPF",)),
    (Bottleneck, ("Bottleneck",)),
    (Conv, ("Conv",)),
    (nn.Conv2d, ("Conv2d",)),
    (nn.BatchNorm2d, ("BatchNorm2d", "SyncBatchNorm")),
    (nn.MaxPool2d, ("MaxPool2d",)),
)


def restore_details(module: nn.Module, record: ModuleRecord) -> None:
    """Make the module, and all below it, work as the record says.

    ultralytics changed the activation of SPPF's first convolution. The checkpoint's own activation is used. A model
    that was saved after fuse() has no BatchNorm; its convolutions have a bias instead.

    Raises:
        WeightsError: a part works in a way that YOLOv5's does not.
    """
    kinds = next((kinds for kind, kinds in _KINDS if isinstance(module, kind)), (record.kind,))
    if record.kind not in kinds:
        raise WeightsError(f"{record.kind} in the place of {kinds[0]}; no YOLOv5 has this")
    if isinstance(module, Conv):
        _restore_convolution(module, record)
    _check(module, record)
    for name, part in module.named_children():
        if name in record.children:
            restore_details(part, record.children[name])


def _restore_convolution(module: Any, record: ModuleRecord) -> None:
    activation = child(record, "act")
    if activation.kind not in ACTIVATIONS:
        raise WeightsError(f"activation {activation.kind} is not supported; no YOLOv5 release has it")
    module.act = ACTIVATIONS[activation.kind](activation)
    if "bn" in record.children:
        module.bn.eps = real(record.children["bn"], "eps")
    else:
        conv = module.conv
        module.conv = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
        module.bn = nn.Identity()


def _check(module: Any, record: ModuleRecord) -> None:
    """Raise WeightsError if a plain attribute differs."""
    if isinstance(module, nn.Conv2d):
        for name in ("stride", "padding", "dilation"):
            _equal(record, name, pair(record, name), getattr(module, name)[0])
        _equal(record, "groups", whole(record, "groups"), module.groups)
        _equal(record, "padding_mode", record.attributes.get("padding_mode", "zeros"), module.padding_mode)
    elif isinstance(module, nn.MaxPool2d):
        for name in ("kernel_size", "stride", "padding", "dilation"):
            _equal(record, name, whole(record, name), getattr(module, name))
        _equal(record, "ceil_mode", flag(record, "ceil_mode"), module.ceil_mode)
    elif isinstance(module, Bottleneck):
        _equal(record, "add", flag(record, "add"), module.add)
    elif isinstance(module, SPPF):
        _equal(record, "add", record.attributes.get("add", False), False)
        _equal(record, "n", record.attributes.get("n", 3), 3)
    elif isinstance(module, Concat):
        _equal(record, "d", whole(record, "d"), 1)


def _equal(record: ModuleRecord, name: str, found: Any, expected: Any) -> None:
    # Only plain values are compared: comparing lists that share their parts could take hours.
    if type(found) is not type(expected) or found != expected:
        raise WeightsError(f"{record.kind} with {name} {shown(found)}, not {shown(expected)}; no YOLOv5 has this")
