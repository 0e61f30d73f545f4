"""The ranks of a training: processes that share its batches, one per device. If one fails, all end, and one says why.

torchrun and Ray Train start ranks, on one machine or on several; `launch` starts those of this machine, by torchrun's
machinery. A rank that fails says so in the store, where the ranks meet. Each rank watches the store and its launcher,
because a rank that waits for another, in C++, would wait for minutes.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from featcodec.errors import InputError, TrainingError

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others, in a step or to start with. Reading a large annotation file comes before."""
_INTERVAL = 0.5  # seconds between two looks at the store and at the launcher
_PATIENCE = 10.0  # seconds in which a rank may end by itself after another has failed
_KILLED = "(out of memory?); go on with `resume`"


def launched() -> bool:
    """Whether this process is a rank that somebody else has started."""
    return {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"} <= os.environ.keys()


def is_first() -> bool:
    """Whether this process is the rank that writes and reports."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def devices_and_machines(devices: int) -> tuple[int, int]:
    """The number of devices of each machine, and the number of machines.

    Args:
        devices: what was asked for. Where ranks are launched, their number counts; 1 says nothing then.

    Raises:
        InputError: as many ranks were not started, or not as many on each machine.
    """
    if not launched():
        return devices, 1
    here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if devices not in (1, here):
        raise InputError(f"{here} processes were started on this machine, not {devices}; leave out `devices`")
    if everywhere % here:
        raise InputError(
            f"{here} processes were started on this machine, and {everywhere} on all; start as many on each machine"
        )
    return here, everywhere // here


def check_met(count: int) -> None:
    """Make sure that no other number of ranks has met already, who would each train alone and write the same files.

    Raises:
        InputError: it has. Who connects processes must set the variables of torchrun, as Ray Train does.
    """
    from torch import distributed  # noqa: PLC0415  (slow to import)

    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() != count:
        raise InputError(
            f"{distributed.get_world_size()} processes are connected already, and {count} would train; start them by "
            "torchrun"
        )


def launch(devices: int, arguments: Sequence[str]) -> None:
    """Run `featcodec` with arguments in one rank per device, on this machine, and wait for the end.

    Args:
        devices: number of ranks.
        arguments: those of the command that this process was started with.

    Raises:
        TrainingError: a rank was killed.
        SystemExit: a rank has failed and said why; or this process was told to end.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: PLC0415  (slow to import)
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch  # noqa: PLC0415

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # its report of a failure is a page long
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=f"featcodec-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "featcodec", *arguments)
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            raise TrainingError(f"process {rank} of the training was killed by {name} {_KILLED}") from None
        sys.exit(1)


def value_of_first(value: float) -> float:
    """The value that the first rank has. All ranks must call this, after they have met."""
    from torch import distributed  # noqa: PLC0415  (slow to import)

    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    number = _shared(value)
    distributed.broadcast(number, src=0)
    return float(number)


def all_have(value: float) -> bool:
    """Whether all ranks have the same value. All ranks must call this, after they have met, and get the same answer."""
    from torch import distributed  # noqa: PLC0415  (slow to import)

    difference = _shared(abs(value - value_of_first(value)))
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(difference, distributed.ReduceOp.MAX)
    return not difference


def _shared(value: float) -> Any:
    """A number where ranks can exchange it, as a tensor of float64."""
    import torch  # noqa: PLC0415  (slow to import)

    distributed = torch.distributed
    is_on_gpu = distributed.is_available() and distributed.is_initialized() and distributed.get_backend() == "nccl"
    return torch.tensor(value, dtype=torch.float64, device="cuda" if is_on_gpu else "cpu")


class Watch:
    """Watches the other ranks from a thread, and ends this one by SIGTERM when another has failed."""

    def __init__(self) -> None:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else torch prints C++ frames when the store is lost
        self._key = f"featcodec/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        self._launcher = os.getppid()
        self._store: Any = None
        self._is_store_lost = False
        # `launch` started this rank. Then the launcher holds the store.
        self._is_launched_here = os.environ.get("TORCHELASTIC_RUN_ID", "").startswith("featcodec-")
        self.is_ending = False
        """Whether this rank was told to end because another has failed."""
        threading.Thread(target=self._connect, daemon=True).start()
        threading.Thread(target=self._run, daemon=True).start()

    def is_first_to_fail(self) -> bool:
        """Say that this rank has failed. Returns whether it is the first, and has to say why."""
        if self._store is not None and not self._is_orphan():
            try:
                return bool(self._store.add(self._key, 1) == 1)
            except RuntimeError:
                pass
        return os.environ["LOCAL_RANK"] == "0"  # without the store, one rank of each machine speaks

    def explain(self, error: BaseException) -> BaseException | None:
        """What to raise when this rank is the first to fail. None: the launcher says it.

        Args:
            error: what has ended this rank.
        """
        if self._is_orphan():
            return TrainingError("the process that started the training has ended; go on with `resume`")
        if not isinstance(error, SystemExit) and not is_lost(error):
            return error
        if self._is_launched_here:
            return None
        return TrainingError(f"another process of the training was killed, or does not answer {_KILLED}")

    def _connect(self) -> None:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]  # noqa: PLC0415

        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        try:
            self._store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=TIMEOUT)
        except RuntimeError:
            return  # the ranks will not meet either, and say so

    def _run(self) -> None:
        while not self._others_failed():
            time.sleep(_INTERVAL)
        self.is_ending = True
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_PATIENCE)
        os._exit(1)  # the rank waits for another, where no signal reaches it

    def _others_failed(self) -> bool:
        if self._is_orphan():
            return True
        try:
            return self._store is not None and self._store.check([self._key])
        except RuntimeError:  # who held the store has ended: the launcher of the first machine
            self._is_store_lost = True
            return True

    def _is_orphan(self) -> bool:
        # A launcher that is killed closes the store a moment before its ranks have another parent.
        return os.getppid() != self._launcher or (self._is_store_lost and self._is_launched_here)


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another rank cannot be reached."""
    from torch import distributed  # noqa: PLC0415

    known = (distributed.DistBackendError, distributed.DistNetworkError, distributed.DistStoreError)
    return isinstance(error, known) or (isinstance(error, RuntimeError) and "gloo" in str(error))
