"""Choosing a device: what is there is taken, what is not is refused by name."""

from __future__ import annotations

import pytest
import torch

from featcodec.errors import InputError
from featcodec.system.devices import choose_device, one_by_one


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without an accelerator."""
    give(monkeypatch)
    return monkeypatch


def give(monkeypatch: pytest.MonkeyPatch, *, gpus: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_auto_takes_the_best(machine: pytest.MonkeyPatch) -> None:
    assert choose_device() == torch.device("cpu")
    give(machine, mps=True)
    assert choose_device("auto") == torch.device("mps")
    give(machine, gpus=1, mps=True)
    assert choose_device("auto") == torch.device("cuda")


def test_named_device_is_taken(machine: pytest.MonkeyPatch) -> None:
    give(machine, gpus=2, mps=True)
    for name in ("cpu", "cuda", "cuda:0", "cuda:1", "mps"):
        assert choose_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "meta", "xpu"])
@pytest.mark.usefixtures("machine")
def test_absent_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"device {name} is not on this machine; use `device` auto"):
        choose_device(name)


def test_gpu_beyond_the_last_is_refused(machine: pytest.MonkeyPatch) -> None:
    give(machine, gpus=2)
    with pytest.raises(InputError, match="device cuda:2 is not on this machine"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "CUDA", "cuda:x", "cuda:-1", "cpu:", "0", "cuda:99999999999"])
def test_unknown_name_is_refused(machine: pytest.MonkeyPatch, name: str) -> None:
    give(machine, gpus=1)
    with pytest.raises(InputError, match="use"):
        choose_device(name)


def test_an_image_has_the_same_result_whatever_its_neighbours_are() -> None:
    """To the last bit. For such small pictures, oneDNN sums a batch in another order."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3, 2, 1), torch.nn.SiLU(), torch.nn.Conv2d(32, 64, 1)).eval()
    batch, scale = torch.rand(6, 3, 32, 32), torch.arange(1.0, 7.0)
    with torch.inference_mode():
        together = one_by_one(lambda pictures, factor: network(pictures) * factor[:, None, None, None], batch, scale)
        for number in range(6):
            assert torch.equal(together[number], network(batch[number : number + 1])[0] * scale[number])
    assert one_by_one(torch.neg, batch[:1]).shape == (1, 3, 32, 32)


def test_elsewhere_the_batch_stays_whole() -> None:
    shapes = []
    one_by_one(lambda batch: shapes.append(batch.shape) or batch, torch.empty(4, 2, device="meta"))
    assert shapes == [(4, 2)]
