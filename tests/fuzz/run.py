"""Long fuzz runs, by hand (docs/reliability.md has their figures).

    .venv/bin/python tests/fuzz/run.py streams --times 1000000 --seed 1
    .venv/bin/python tests/fuzz/run.py checkpoints --only 4711 --seed 1     # one case again, with its traceback

Case i of a kind depends on the kind, the seed and i alone. Cases run in worker processes with a limit of memory. A
worker that dies, or that takes longer than --seconds for one case, is a fault of that case; a new worker goes on behind
it. At the end, or after Ctrl-C, one line of JSON says what came of the cases. The exit code is 1 if there were faults.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from targets import KINDS, Target, open_target, rng_of  # noqa: E402  (found beside this file, from any folder)

_BLOCK = 500
_MEMORY = 3 << 30
"""Bytes that a worker may allocate beside its programs and libraries."""


@dataclass
class Report:
    """What came of the cases so far."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)
    slowest: float = 0.0
    peak_mib: int = 0


def main() -> int:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--times", type=int, default=10_000, help="number of cases")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this case in this process, and show its traceback")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=30, help="longest time for one case")
    arguments = parser.parse_args()
    if arguments.only is not None:
        with _target(arguments.kind) as target:
            print(target.run(rng_of(arguments.kind, arguments.seed, arguments.only)))
        return 0
    started = time.monotonic()
    numbers = range(arguments.first, arguments.first + arguments.times)
    report = run(arguments.kind, arguments.seed, numbers, arguments.workers, arguments.seconds)
    print(json.dumps({
        "kind": arguments.kind,
        "seed": arguments.seed,
        "cases": sum(report.outcomes.values()),
        **dict(sorted(report.outcomes.items())),
        "faults": len(report.faults),
        "slowest_case_s": round(report.slowest, 2),
        "peak_memory_mib": report.peak_mib,
        "seconds": round(time.monotonic() - started),
        "examples": report.faults[:20],
    }))  # fmt: skip
    return 1 if report.faults else 0


def run(kind: str, seed: int, numbers: range, workers: int, seconds: float) -> Report:
    """Run cases in worker processes.

    Args:
        kind: one of `targets.KINDS`.
        seed: of all cases.
        numbers: the numbers of the cases.
        workers: number of processes.
        seconds: the longest time for one case.
    """
    report = Report()
    waiting = collections.deque(range(start, min(start + _BLOCK, numbers.stop)) for start in numbers[::_BLOCK])
    crew: dict[Connection, _Worker] = {}
    shown = time.monotonic()
    try:
        while waiting or crew:
            while waiting and len(crew) < workers:
                worker = _Worker(kind, seed, waiting.popleft())
                crew[worker.connection] = worker
            for connection in wait(list(crew), timeout=1):
                _hear(crew, crew[connection], waiting, report)  # type: ignore[index]
            for worker in crew.values():
                if time.monotonic() - worker.heard > seconds + (60 if worker.number is None else 0):
                    worker.process.kill()
            if time.monotonic() - shown > 60:
                shown = time.monotonic()
                print(
                    f"{sum(report.outcomes.values())} cases, {len(report.faults)} faults", file=sys.stderr, flush=True
                )
    except KeyboardInterrupt:  # the workers end with this process; what is known so far is reported
        pass
    return report


class _Worker:
    """One process. It says each case's number before the case, and what came of it afterwards."""

    def __init__(self, kind: str, seed: int, block: range) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, kind, seed), daemon=True)
        self.process.start()
        theirs.close()
        self.heard = time.monotonic()
        self.number: int | None = None
        self.give(block)

    def give(self, block: range) -> None:
        """Let it run these cases."""
        self.block = block
        with contextlib.suppress(OSError):
            self.connection.send(block)


def _hear(crew: dict[Connection, _Worker], worker: _Worker, waiting: collections.deque[range], report: Report) -> None:
    try:
        said = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        del crew[worker.connection]
        number = worker.block.start if worker.number is None else worker.number
        seconds = time.monotonic() - worker.heard
        reason = f"the process ended with {worker.process.exitcode} after {seconds:.0f} s"
        report.outcomes["died"] += 1
        report.faults.append({"case": number, "fault": reason})
        if number + 1 < worker.block.stop:
            waiting.appendleft(range(number + 1, worker.block.stop))
        return
    worker.heard = time.monotonic()
    if isinstance(said, int):
        worker.number = said
        return
    if said is None:
        if waiting:
            worker.give(waiting.popleft())
        else:
            worker.connection.close()
            del crew[worker.connection]
        return
    number, outcome, fault, seconds, peak = said
    report.outcomes[outcome] += 1
    report.slowest, report.peak_mib = max(report.slowest, seconds), max(report.peak_mib, peak)
    if fault:
        report.faults.append({"case": number, "fault": fault})
        print(f"case {number}: {fault}", file=sys.stderr, flush=True)


def _work(connection: Connection, kind: str, seed: int) -> None:
    with _target(kind) as target:
        limit = _mapped() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        with contextlib.suppress(EOFError, OSError):
            while True:
                for number in connection.recv():
                    connection.send(number)
                    connection.send((number, *judge(target, kind, seed, number)))
                connection.send(None)


def judge(target: Target, kind: str, seed: int, number: int) -> tuple[str, str, float, int]:
    """Run one case.

    Returns:
        the outcome, what went wrong or an empty text, seconds, and the peak memory of this process so far in MiB.
    """
    started, fault = time.monotonic(), ""
    try:
        outcome = target.run(rng_of(kind, seed, number))
    except Exception as error:  # whatever comes out of a reader is a fault; an interrupt is not
        place = traceback.extract_tb(error.__traceback__)[-1]
        outcome = "fault"
        fault = f"{type(error).__name__}: {str(error)[:300]} ({Path(place.filename).name}:{place.lineno})"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return outcome, fault, time.monotonic() - started, peak


@contextlib.contextmanager
def _target(kind: str) -> Iterator[Target]:
    warnings.simplefilter("error")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        yield open_target(kind, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _mapped() -> int:
    """Bytes of address space that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
