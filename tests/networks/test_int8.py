"""Convolutions in int8 give what their arithmetic says, close to floating point, and AD in int8 is still that AD."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from featcodec.errors import InputError
from featcodec.networks import int8
from featcodec.networks.blocks import ResBlock, channel_stack
from featcodec.networks.int8 import Int8Conv2d, computes_in_int8, has_fast_int8, in_int8

needs_int8 = pytest.mark.skipif(not has_fast_int8(), reason="this CPU has no AVX512-VNNI")
CPU = torch.device("cpu")


def convolution(inputs: int = 5, outputs: int = 7, kernel: int = 3, **options: int) -> nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Conv2d(inputs, outputs, kernel, **options).requires_grad_(False)


def emulated(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The same arithmetic in float64: both sides rounded to 8 bits, sums exact."""
    steps = conv.weight.abs().amax((1, 2, 3), keepdim=True).double() / 127
    weight = (conv.weight.double() / steps).round() * steps
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = (high - low) / 255 or 1.0
    zero = round(-low / step)
    rounded = ((x.double() / step + zero).round().clamp(0, 255) - zero) * step
    bias = None if conv.bias is None else conv.bias.double()
    return nn.functional.conv2d(rounded, weight, bias, conv.stride, conv.padding)


@needs_int8
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
@pytest.mark.parametrize("kind", ["both signs", "positive", "negative"])
@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2}, {"kernel": 1}, {"inputs": 1, "outputs": 1}])
def test_it_is_8_bit_arithmetic(options: dict[str, int], kind: str, scale: float) -> None:
    conv = convolution(**options)
    x = torch.randn(1, conv.in_channels, 9, 11, generator=torch.Generator().manual_seed(1)) * scale
    x = {"both signs": x, "positive": x.abs(), "negative": -x.abs()}[kind]
    found, expected = Int8Conv2d(conv)(x), emulated(conv, x)
    # One input that is rounded to the other side is one step.
    one_step = float((x.max() - x.min()) / 255 * conv.weight.abs().max())
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1.01 * one_step + 1e-6 * scale
    assert (found - conv(x)).norm() < 0.03 * conv(x).norm()


@needs_int8
def test_images_of_a_batch_do_not_depend_on_each_other() -> None:
    layer = Int8Conv2d(convolution(padding=1))
    batch = torch.randn(3, 5, 8, 8, generator=torch.Generator().manual_seed(2)) * torch.tensor([1, 50, 0.1]).view(
        3, 1, 1, 1
    )
    assert torch.equal(layer(batch), torch.cat([layer(each[None]) for each in batch]))


@needs_int8
@pytest.mark.parametrize("value", [0.0, 0.3, -2.0, 1e-44, 3e30])
def test_a_constant_does_no_harm(value: float) -> None:
    conv = convolution(inputs=1, kernel=1)
    x = torch.full((1, 1, 4, 4), value)
    assert torch.allclose(Int8Conv2d(conv)(x), conv(x), rtol=0.02, atol=1e-6)


@needs_int8
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    x = torch.zeros(1, 5, 4, 4)
    x[0, 2, 1, 1] = bad
    assert Int8Conv2d(convolution(padding=1))(x).isnan().all()


@needs_int8
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ad_in_int8_is_a_copy_that_answers_nearly_the_same(dtype: torch.dtype) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(*channel_stack(6, 16, 8, 2), nn.SiLU()).eval().requires_grad_(False).to(dtype)
    x = torch.randn(2, 6, 12, 16, generator=torch.Generator().manual_seed(4)).to(dtype)
    before = network(x)
    copied = in_int8(network)
    assert torch.equal(network(x), before)
    assert not any(isinstance(module, nn.Conv2d) for module in copied.modules())
    assert sum(isinstance(module, Int8Conv2d) for module in copied.modules()) == 6
    assert copied(x).dtype == dtype
    assert (copied(x) - before).float().norm() < 0.05 * before.float().norm()


@needs_int8
def test_convolutions_of_groups_stay() -> None:
    grouped = nn.Conv2d(4, 4, 3, groups=2)
    assert isinstance(in_int8(nn.Sequential(grouped, ResBlock(4)))[0], nn.Conv2d)  # type: ignore[index]


def test_int8_is_taken_where_it_is_asked_for_and_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "has_fast_int8", lambda: True)
    assert computes_in_int8("int8", CPU, torch.float32)
    assert computes_in_int8("auto", CPU, torch.bfloat16)
    assert not computes_in_int8("auto", CPU, torch.float32)
    assert not computes_in_int8("bfloat16", CPU, torch.bfloat16)
    assert not computes_in_int8(None, CPU, torch.float32)
    assert not computes_in_int8("auto", torch.device("cuda"), torch.float16)
    with pytest.raises(InputError, match="AVX512-VNNI"):
        computes_in_int8("int8", torch.device("cuda"), torch.float16)
    monkeypatch.setattr(int8, "has_fast_int8", lambda: False)
    assert not computes_in_int8("auto", CPU, torch.bfloat16)
    with pytest.raises(InputError, match="`precision` int8 needs a CPU with AVX512-VNNI; use auto"):
        computes_in_int8("int8", CPU, torch.bfloat16)


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, NotImplementedError])
def test_a_torch_without_these_operators_computes_as_before(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    has_fast_int8.cache_clear()
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True, raising=False)
    monkeypatch.setattr(int8, "Int8Conv2d", fails)
    assert not has_fast_int8()
    has_fast_int8.cache_clear()
