"""A ZeroMQ REP socket with bounds, for `frigate`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from featcodec.edge.frigate import MAX_PART
from featcodec.errors import FeatcodecError, InputError, ServiceError, reason_of
from featcodec.system.paths import exists, is_folder

try:
    import zmq
except ImportError as missing:
    raise FeatcodecError(f"Frigate needs pyzmq ({reason_of(missing)}); pip install 'featcodec[frigate]'") from None

_TCP = re.compile(r"tcp://(\*|[\w.-]+|\[[0-9a-fA-F:.]+\]):(\*|\d{1,5})")
_LOOK_AGAIN_MS = 200
_WAITING = 8
"""Messages that wait per peer."""
_MOST_PARTS = 2


class Endpoint:
    """Answers requests at one address. Use it as a context manager.

    Args:
        endpoint: `tcp://HOST:PORT` (port 0: any free one) or `ipc://PATH`.

    Attributes:
        address: where it is, with its real port.

    Raises:
        InputError: it is not such an endpoint, or there is a file of that name.
        ServiceError: it is taken, or not on this machine.
    """

    def __init__(self, endpoint: str) -> None:
        _check(endpoint)
        self._context = zmq.Context()
        self._socket: Any = self._context.socket(zmq.REP)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.MAXMSGSIZE, MAX_PART),
            (zmq.RCVHWM, _WAITING),
            (zmq.SNDHWM, _WAITING),
        ):
            self._socket.setsockopt(option, value)
        if endpoint.startswith("tcp://["):
            self._socket.setsockopt(zmq.IPV6, 1)
        try:
            self._socket.bind(re.sub(r":0$", ":*", endpoint))
        except zmq.ZMQError as error:
            self.__exit__()
            raise ServiceError(
                f"{endpoint}: cannot be served ({reason_of(error)}); choose another `endpoint`"
            ) from None
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()

    def serve(self, reply: Callable[[list[bytes]], list[bytes]], is_over: Callable[[], bool]) -> None:
        """Answer requests until it is over.

        Args:
            reply: makes the parts of a reply from the parts of a request; of more than two parts, the first three.
            is_over: asked several times a second.
        """
        while not is_over():
            if self._socket.poll(_LOOK_AGAIN_MS):
                with contextlib.suppress(zmq.Again):
                    self._socket.send_multipart(reply(list(self._parts())))

    def _parts(self) -> Iterator[bytes]:
        """The parts of the next request. Those that nobody looks at are not kept."""
        for place in range(1 << 62):
            part = self._socket.recv()
            if place <= _MOST_PARTS:
                yield part
            if not self._socket.getsockopt(zmq.RCVMORE):
                return


def _check(endpoint: str) -> None:
    """ZeroMQ knows other transports, and replaces any file by its socket."""
    if endpoint.startswith("ipc://"):
        path = Path(endpoint[len("ipc://") :])
        if exists(path) and not path.is_socket():
            raise InputError(f"{path}: exists and is not a socket; choose another `endpoint`")
        if not path.is_absolute() or not is_folder(path.parent):
            raise InputError(f"{endpoint}: its folder does not exist; give an `endpoint` like ipc:///tmp/NAME")
        return
    match = _TCP.fullmatch(endpoint)
    if match is None or (match[2] != "*" and int(match[2]) > 0xFFFF):
        raise InputError(f"{endpoint or repr(endpoint)}: not an `endpoint`; give tcp://HOST:PORT or ipc:///FOLDER/NAME")
