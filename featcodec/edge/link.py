"""The link to a server: a WebSocket that is opened again whenever it is lost.

A network that is gone says nothing. So the link sends a ping every few seconds, and takes a connection whose pong does
not come for lost. It then tries to connect with growing pauses, until it is told to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable, Mapping

from featcodec.edge.backoff import Backoff
from featcodec.edge.cameras import Note
from featcodec.edge.messages import MAX_ANSWER, Answer
from featcodec.errors import FeatcodecError, ServiceError, reason_of

try:
    import websockets.asyncio.client as websockets_client
    from websockets.exceptions import (
        ConnectionClosed,
        InvalidHandshake,
        InvalidMessage,
        InvalidStatus,
        WebSocketException,
    )
except ImportError as missing:
    raise FeatcodecError(f"the link needs websockets ({reason_of(missing)}); pip install 'featcodec[edge]'") from None

_OPEN_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 1.0
_PING_EVERY = 3.0
_PONG_WITHIN = 7.0
_WAITING_ANSWERS = 16
_LONGEST_REASON = 100
_REFUSED_TOKEN = 1008
"""WebSocket close code "policy violation"."""
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL", "HTTP_REQUEST"})
"""What OpenSSL says of an answer that is none of TLS."""
_NO_SERVER = frozenset({200, 400, 404, 405, 426})
"""What other HTTP servers, or this one behind a wrong path, say to a WebSocket."""


class Link:
    """Keeps a connection to a server open.

    Args:
        url: of `server_url.stream_url`.
        token: the server's token, or None.
        on_answer: called with each answer.
        on_lost: called when a connection is gone: what was in flight will not be answered.
        note: called with a line about what goes wrong and is tried again.
        backoff: the pauses between tries.

    Attributes:
        is_open: set while there is a connection.
        was_open: whether there ever was one.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        on_answer: Callable[[Answer], None],
        on_lost: Callable[[], None],
        note: Note,
        backoff: Backoff | None = None,
    ) -> None:
        self.is_open = asyncio.Event()
        self.was_open = False
        self._url = url
        self._shown = url.partition("?")[0]
        self._headers: Mapping[str, str] = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._note = note
        self._backoff = backoff or Backoff()
        self._socket: websockets_client.ClientConnection | None = None
        self._had_answer = False
        self._is_noted = False

    async def run(self) -> None:
        """Connect, and connect again, until the task is cancelled.

        Raises:
            ServiceError: the server refuses the token, its certificate is not valid, or it is not a featcodec server.
        """
        while True:
            reason = await self._hold()
            if not self._is_noted:
                self._note(f"{self._shown}: {reason}; trying again")
                self._is_noted = True
            await asyncio.sleep(self._backoff.next())

    async def send(self, message: bytes) -> bool:
        """Send a message. Returns False if the connection was lost."""
        if self._socket is None:
            return False
        try:
            await self._socket.send(message)
        except ConnectionClosed:
            return False
        return True

    async def _hold(self) -> str:
        """One connection, from its beginning to its end. Returns why it ended, if it is worth another try."""
        # Whoever is cancelled while it says goodbye would leave the connection open.
        with contextlib.ExitStack() as closing:
            return await self._hold_until(closing)

    async def _hold_until(self, closing: contextlib.ExitStack) -> str:
        try:
            async with websockets_client.connect(
                self._url,
                additional_headers=self._headers,
                compression=None,  # bitstreams do not get smaller
                open_timeout=_OPEN_TIMEOUT,
                close_timeout=_CLOSE_TIMEOUT,
                ping_interval=_PING_EVERY,
                ping_timeout=_PONG_WITHIN,
                max_size=MAX_ANSWER,
                max_queue=_WAITING_ANSWERS,
            ) as socket:
                self._opened(socket)
                try:
                    async for message in socket:
                        self._receive(message)
                finally:
                    self._socket = None
                    self.is_open.clear()
                    self._on_lost()
                    closing.callback(socket.transport.abort)
                return self._why_closed(socket.close_code, socket.close_reason)
        except ImportError as error:  # of a SOCKS proxy that the environment asks for
            raise ServiceError(
                f"{self._shown}: {reason_of(error)}; pip install python-socks, or set NO_PROXY"
            ) from None
        except (OSError, EOFError, asyncio.TimeoutError, WebSocketException) as error:
            return self._why_failed(error)

    def _why_failed(self, error: Exception) -> str:
        """Why there is no connection, if it is worth another try."""
        if isinstance(error, ConnectionClosed):
            close = error.rcvd
            return self._why_closed(None if close is None else close.code, None if close is None else close.reason)
        if isinstance(error, InvalidStatus):
            return self._why_refused(error.response.status_code)
        if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS and not self.was_open:
            raise ServiceError(f"{self._shown}: does not speak TLS; use ws:// if it is meant to be without")
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._why_not_trusted(error)
        if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
            return f"no answer within {_OPEN_TIMEOUT:.0f} s"
        if isinstance(error, InvalidMessage) and isinstance(error.__cause__, ValueError) and not self.was_open:
            raise ServiceError(
                f"{self._shown}: is not a featcodec server ({_reason(error)[:_LONGEST_REASON]}); check the address"
            )
        if isinstance(error, InvalidHandshake):
            return f"does not answer as a WebSocket ({_reason(error)})"
        return f"cannot be reached ({_reason(error)})"

    def _opened(self, socket: websockets_client.ClientConnection) -> None:
        if self.was_open and self._is_noted:
            self._note(f"{self._shown}: connected again")
        self._socket = socket
        self._is_noted = False
        self.was_open = True
        self.is_open.set()

    def _receive(self, message: str | bytes) -> None:
        try:
            answer = Answer.from_json(message)
        except ServiceError as error:
            if self._had_answer:  # one bad message of a server that is known
                self._note(f"{self._shown}: {error}")
                return
            raise ServiceError(f"{self._shown}: {error}") from None
        self._had_answer = True
        self._backoff.reset()
        self._on_answer(answer)

    def _why_closed(self, code: int | None, reason: str | None) -> str:
        if code == _REFUSED_TOKEN:
            raise ServiceError(_token_refused(self._shown))
        said = f" ({reason})" if reason else ""
        return "the connection was lost" if code is None else f"the server closed the connection{said}"

    def _why_refused(self, status: int) -> str:
        """What the HTTP status at the beginning means."""
        if status == _UNAUTHORIZED:
            raise ServiceError(_token_refused(self._shown))
        if status == _FORBIDDEN:  # what servers say to a path that they do not have, too
            raise ServiceError(f"{self._shown}: refuses this connection (HTTP 403); check the address and its `token`")
        if not self.was_open and status in _NO_SERVER:
            raise ServiceError(f"{self._shown}: is not a featcodec server (HTTP {status}); check the address")
        return f"the server is not ready (HTTP {status})"

    def _why_not_trusted(self, error: ssl.SSLCertVerificationError) -> str:
        """What is wrong with a certificate. Later than at the beginning, it may be that of a portal on the way."""
        reason = f"its certificate is not valid ({error.verify_message or reason_of(error)})"
        if not self.was_open:
            raise ServiceError(
                f"{self._shown}: {reason}; use the name that the certificate is for, or set SSL_CERT_FILE to the "
                "certificate of its authority"
            )
        return reason


def _token_refused(server: str) -> str:
    return f"{server}: the server refused the token; give its `token`, or FEATCODEC_TOKEN"


def _reason(error: BaseException) -> str:
    """Why there is no connection, without the list of addresses that Python tried."""
    while isinstance(error, WebSocketException) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ssl.SSLError):  # its number is one of OpenSSL's
        return reason_of(error)
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else reason_of(error)
