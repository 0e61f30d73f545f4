"""Processes that work for this process, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from featcodec.errors import FeatcodecError


@contextmanager
def processes(
    count: int,
    killed: FeatcodecError,
    *,
    method: str | None = None,
    prepare: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes for a `with` block. They end when this process ends. Only this process reacts to Ctrl-C.

    Items and results go through pipes. So the results should hold numpy arrays and no tensors: tensors would go through
    /dev/shm, which is small in containers.

    Args:
        count: number of processes.
        killed: what to raise if one of them is killed, for example by the kernel because memory ran out.
        method: how they start, "spawn" or "fork"; None means the usual way of the system.
        prepare: a function that each process calls first.
        arguments: the arguments of `prepare`.
    """
    context = multiprocessing.get_context(method)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, context, initializer=_start, initargs=(prepare, arguments))
    try:
        yield pool
    except BaseException as error:
        # Nobody waits for what they compute, and one that was interrupted while it started may never answer.
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        if isinstance(error, BrokenProcessPool):
            raise killed from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start(prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a fork also has this program's own reaction
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
