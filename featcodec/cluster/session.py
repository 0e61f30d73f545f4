"""The connection to a Ray cluster."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from featcodec.errors import FeatcodecError, InputError, reason_of

LOCAL, AUTO = "local", "auto"
DATA, SERVE = "ray.data", "ray.serve"
_QUIET = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",  # else a cluster of this machine gives way to everything else on it
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning about the future of this variable
    "RAY_USAGE_STATS_ENABLED": "0",  # else Ray tells its makers what ran
    "RAY_DATA_USAGE_DISABLED": "1",  # the same, and one process more
}
_QUIET_DRIVER: Mapping[str, Any] = {
    "log_to_driver": False,
    "logging_level": logging.CRITICAL,
    "configure_logging": True,
}
_SECONDS_TO_CONNECT = 10
_TRIES_TO_CONNECT = 4
_SECONDS_TO_END = 10
_REMEDY = "give auto, local, HOST:6379 or ray://HOST:10001; if its nodes share a token, set RAY_AUTH_MODE=token"


def import_ray(library: str = DATA) -> Any:
    """Return the module ray, with one of its libraries loaded.

    Args:
        library: `DATA` or `SERVE`.

    Raises:
        FeatcodecError: it is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # noqa: PLC0415

        importlib.import_module(library)
    except ImportError as error:
        extra = "cluster" if library == DATA else "serve-ray"
        raise FeatcodecError(f"a cluster needs Ray ({reason_of(error)}); pip install 'featcodec[{extra}]'") from None
    return ray


@contextlib.contextmanager
def connected(address: str, library: str = DATA) -> Iterator[None]:
    """Be connected to a cluster. A cluster that is connected already stays so. Meanwhile, torch is imported.

    Args:
        address: `auto` (the cluster that $RAY_ADDRESS names or that runs on this machine), `local` (a new one on this
            machine, which ends with the block), or an address such as ray://HOST:10001.
        library: what of Ray is needed: `DATA` or `SERVE`.

    Raises:
        FeatcodecError: Ray is not installed.
        InputError: there is no cluster at the address.
    """
    ray = import_ray(library)
    logging.getLogger(library).setLevel(logging.CRITICAL)
    _ignore_warnings()
    if ray.is_initialized():
        yield
        return
    _check_reachable(address)
    # Ray would print to stdout, beside the results, that a worker died. What that means for an item is said by us.
    ray_worker: Any = importlib.import_module("ray._private.worker")
    ray_worker.listen_error_messages = lambda worker, threads_stopped: None
    # Ray would take SIGTERM over and end this process with another exit code.
    ray_utils: Any = importlib.import_module("ray._private.utils")
    ray_utils.set_sigterm_handler = lambda handler: None
    importing = threading.Thread(target=importlib.import_module, args=("featcodec.codec",))
    importing.start()  # it takes seconds, in which Ray mostly waits for its processes
    with _noting_signals() as signals:
        try:
            # Where an exception ends the start of a cluster half-way, this process may hang, or leave another one.
            with signals.held() if address == LOCAL else contextlib.nullcontext():
                _connect_patiently(ray, address)
            signals.take()
            raise_if_interrupted()
            yield
        finally:
            try:
                _end_executors()
            finally:
                ray.shutdown()


def _ignore_warnings() -> None:
    """Ignore advice for those who write the program, not for those who run it.

    This is for the whole process and for good: `warnings.catch_warnings` would set back what another thread, which
    imports torch meanwhile, has set in the same way.
    """
    for module in (r"ray\.", r"featcodec\.cluster\.session"):  # Ray warns in the name of who calls it
        warnings.filterwarnings("ignore", module=module)
    warnings.filterwarnings("ignore", message="Warning only once for all operators")  # torch ignores it, too


def _end_executors() -> None:
    """End the threads of Ray Data. After an interrupt they may run on, and a call to Ray would abort this process."""
    if DATA not in sys.modules:
        return
    from ray.data._internal.execution.streaming_executor import StreamingExecutor  # noqa: PLC0415

    for thread in threading.enumerate():
        if isinstance(thread, StreamingExecutor):
            thread.shutdown(force=True)
            thread.join(_SECONDS_TO_END)


def _connect_patiently(ray: Any, address: str) -> None:
    """Connect. A busy head node may need longer to start the server of a client at ray:// than Ray waits for it."""
    for _ in range(_TRIES_TO_CONNECT - 1):
        with contextlib.suppress(_NotReadyError):
            return _connect(ray, address)
    return _connect(ray, address)


def _connect(ray: Any, address: str) -> None:
    options = {"include_dashboard": False} if address == LOCAL else {}
    try:
        with _silent():
            ray.init(address=address, **options, **_QUIET_DRIVER)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        if isinstance(error, ConnectionAbortedError):
            last_line = str(error).strip().rpartition("\n")[2]  # the others are a traceback of the head node
            raise _NotReadyError(f"{address}: the cluster starts no server for this client ({last_line})") from None
        raise InputError(f"{address}: no Ray cluster can be reached there ({reason_of(error)}); {_REMEDY}") from None


class _NotReadyError(InputError):
    """Somebody answered, but could not start what we need."""


def _check_reachable(address: str) -> None:
    """Ray waits for minutes where nobody listens."""
    found = re.fullmatch(r"(?:ray://)?(.+):(\d{1,5})", address)
    if found is None:
        if address not in {LOCAL, AUTO}:
            raise InputError(f"{address}: is not an address of a Ray cluster; {_REMEDY}")
        return
    host, port = found.groups()
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(f"{address}: nobody answers there ({reason_of(error)}); {_REMEDY}") from None


_received: list[int] = []
"""Signals that ask this process to end, since it is connected."""


def raise_if_interrupted() -> None:
    """End if a signal has asked for it. Somewhere inside Ray, the exception that says so may get lost."""
    if _received:
        number = _received[0]
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


class _Signals:
    """Notes the signals that ask this process to end, and does what it did at them before."""

    def __init__(self) -> None:
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name)]
        is_main = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.getsignal(number) for number in numbers} if is_main else {}
        self._is_held = False

    def take(self) -> None:
        """Handle the signals. Ray's C++ parts would print where they are, and end the process."""
        for number, reaction in self._before.items():
            signal.signal(number, self._note if callable(reaction) else reaction)

    def give_back(self) -> None:
        for number, reaction in self._before.items():
            signal.signal(number, reaction)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Only note the first signal; the next one counts at once."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        _received.append(number)
        if self._is_held and len(_received) == 1:
            return
        reaction = self._before[number]
        assert callable(reaction)  # noqa: S101
        reaction(number, frame)


@contextlib.contextmanager
def _noting_signals() -> Iterator[_Signals]:
    signals = _Signals()
    _received.clear()
    signals.take()
    try:
        yield signals
    finally:
        signals.give_back()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep Ray's C++ parts from writing to stderr that they have read the variables above."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
