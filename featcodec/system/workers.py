"""Processes that work for this process, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from featcodec.errors import FeatcodecError

_PATIENCE = 1.0  # seconds until a process that started later is watched, too


@contextmanager
def processes(
    count: int,
    killed: FeatcodecError,
    module: str,
    *,
    prepare: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes for a `with` block. They end when this process ends. Only this process reacts to Ctrl-C.

    If one is killed, all end: it may have held a lock of the others.

    Items and results go through pipes. So the results should hold numpy arrays and no tensors: tensors would go through
    /dev/shm, which is small in containers.

    Args:
        count: number of processes.
        killed: what to raise if one of them is killed, for example by the kernel because memory ran out.
        module: the name of the module with the functions that they run; it is imported before they start.
        prepare: a function that each process calls first.
        arguments: the arguments of `prepare`.
    """
    context = _context(module)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, context, initializer=_start, initargs=(prepare, arguments))
    ended = threading.Event()
    turn = threading.Lock()
    writer = pool._result_queue._writer  # type: ignore[attr-defined]

    def kill(started: Iterable[BaseProcess]) -> None:
        for process in started:
            process.kill()
        # The pool's thread may be in the middle of a result whose rest never comes. It waits as long as anybody could
        # write the rest, and this process could.
        writer.close()

    def kill_if_early(started: Iterable[BaseProcess]) -> None:
        with turn:
            if not ended.is_set():
                kill(started)

    def end() -> None:
        # Two threads that close one pipe at once may close a file of somebody else.
        with turn:
            ended.set()

    try:
        threading.Thread(target=_watch, args=(pool._processes, kill_if_early, ended), daemon=True).start()
        yield pool
    except BaseException as error:
        # Nobody waits for what they compute, and one that was interrupted while it started may never answer.
        end()
        kill(set(multiprocessing.active_children()) - others)
        if isinstance(error, BrokenProcessPool):
            raise killed from None
        raise
    finally:
        end()
        pool.shutdown(cancel_futures=True)


def _watch(
    started: Mapping[int, BaseProcess], kill: Callable[[Iterable[BaseProcess]], None], ended: threading.Event
) -> None:
    """Wait until a process ends, and kill the others if that is too early, which `kill` knows."""
    while not ended.is_set():
        processes = list(started.values())  # the pool starts one when it needs it
        if connection.wait([process.sentinel for process in processes], _PATIENCE):
            kill(processes)
            return


def _context(module: str) -> BaseContext:
    """How processes start. They are not forks of this process, whose threads may hold locks that nobody would release.

    On Linux they are forks of a server that has imported the module and has no other threads. So it is imported once.
    """
    if sys.platform != "linux":  # the libraries of macOS survive no fork at all
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])  # a server that runs already stays as it is
    resource_tracker.ensure_running()  # the server starts it, and it would let Ctrl-C through
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # the server and its forks inherit this
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    # Wait until the server answers. A process of the pool that starts only after an interruption would find nothing of
    # the pool, and say so in a traceback.
    first = context.Process(target=int)
    first.start()
    first.join()
    return context


def _start(prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
