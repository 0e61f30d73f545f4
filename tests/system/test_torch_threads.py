"""torch takes fewer CPU threads beside other work, and is not needed for that."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from featcodec.system.torch_threads import beside_other_work


def test_the_number_of_threads_is_lowered_and_set_back() -> None:
    before = torch.get_num_threads()
    with beside_other_work(threads=1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_it_is_never_raised() -> None:
    with beside_other_work(threads=1), beside_other_work(threads=64):
        assert torch.get_num_threads() == 1


def test_it_is_set_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="a reason"), beside_other_work(threads=1):
        raise ValueError("a reason")
    assert torch.get_num_threads() == before


def test_torch_is_not_loaded_for_it() -> None:
    code = "import sys\nfrom featcodec.system.torch_threads import beside_other_work\n"
    code += "with beside_other_work(threads=1): sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
