"""Who asks, and who may: the token of a server, in a header or, from browsers, in a WebSocket subprotocol."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from featcodec.service.fair_queue import site_of
from featcodec.service.refusals import RefusedError
from featcodec.service.settings import Settings

SUBPROTOCOL = "featcodec"
_LONGEST_ADDRESS = 64
_TOKEN_PROTOCOL = "featcodec.token."  # noqa: S105  (what stands before a token)


def check_request(request: Request, token: str | None) -> None:
    """Check the token of a request.

    Raises:
        RefusedError: it is missing or wrong.
    """
    if token is not None and not _matches(_bearer(request), token):
        raise RefusedError(401, "token", "the token is missing or wrong; send `Authorization: Bearer TOKEN`")


async def admit(socket: WebSocket, token: str | None) -> bool:
    """Accept a WebSocket whose token is right.

    A browser cannot see why a handshake failed. So one that offers the subprotocol gets a connection that is closed
    with 1008. Without a token, pages of other sites are refused: they could watch what a server on this machine shows.

    Returns:
        whether it is accepted. If not, it is closed.
    """
    offered = [each for each in socket.scope.get("subprotocols", []) if each.isascii()]
    chosen = SUBPROTOCOL if SUBPROTOCOL in offered else None
    if token is None:
        if not _is_same_site(socket):
            await socket.send_denial_response(PlainTextResponse("other site", 403))
            return False
        await socket.accept(chosen)
        return True
    shown = [each.removeprefix(_TOKEN_PROTOCOL) for each in offered if each.startswith(_TOKEN_PROTOCOL)]
    if any(_matches(each, token) for each in (_bearer(socket), *shown)):
        await socket.accept(chosen)
        return True
    if chosen is None:
        await socket.send_denial_response(PlainTextResponse("the token is missing or wrong", 401))
    else:
        await socket.accept(chosen)
        await socket.close(1008, "the token is missing or wrong")
    return False


def address_of(connection: HTTPConnection, settings: Settings) -> str:
    """From where a request is: what `Client.address` is about.

    Anybody can write X-Forwarded-For. So it is read only if a proxy stands before the server, and then its last entry,
    which the proxy itself has added.
    """
    if settings.behind_proxy:
        entries = ",".join(connection.headers.getlist("x-forwarded-for")).split(",")
        if entries[-1].strip():
            return site_of(entries[-1].strip()[:_LONGEST_ADDRESS])
    return "" if connection.client is None else site_of(connection.client.host)


def _bearer(connection: HTTPConnection) -> str | None:
    kind, _, value = connection.headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else None


def _matches(shown: str | None, token: str) -> bool:
    return shown is not None and hmac.compare_digest(shown.encode(errors="replace"), token.encode())


def _is_same_site(connection: HTTPConnection) -> bool:
    origin = connection.headers.get("origin")
    if origin is None:  # not a browser
        return True
    try:
        return urlsplit(origin).netloc.lower() == connection.headers.get("host", "").lower()
    except ValueError:
        return False
