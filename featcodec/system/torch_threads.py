"""How many CPU threads torch uses beside other work, for modules that also run without torch."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def beside_other_work(threads: int) -> Iterator[None]:
    """Let torch use few CPU threads inside the block, because other work keeps the cores busy.

    OpenMP threads spin while they wait for each other. So on busy cores, a network runs many times slower with two
    threads than with one. The number of threads holds for the whole process. It is set back at the end. If torch is not
    loaded, nothing happens.

    Args:
        threads: the largest number of threads, at least 1.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, threads))
    try:
        yield
    finally:
        torch.set_num_threads(before)
