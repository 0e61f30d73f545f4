"""The WebSocket address of a server, from what a user gives."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from featcodec.edge.messages import STREAM_PATH
from featcodec.errors import InputError

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_LONGEST_NAME = 64


def stream_url(server: str, name: str = "camera") -> str:
    """The address to which frames are sent.

    Args:
        server: ws://, wss://, http:// or https:// with a host, maybe a port, and maybe a path: that of a reverse proxy
            before the service, or the whole path.
        name: the name of the camera, 1 to 64 printable characters.

    Returns:
        for example `wss://HOST/v1/stream?source=camera`.

    Raises:
        InputError: it is not such an address, or the name is not one.
    """
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise InputError(f"a camera is not named {name!r}; give a `name` of 1 to {_LONGEST_NAME} printable characters")
    try:
        parts = urlsplit(server)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if not has_host or parts.scheme.lower() not in _SCHEMES:
        raise InputError(f"{server or repr(server)}: not the address of a server; give ws://HOST:PORT or wss://HOST")
    if "@" in parts.netloc:
        raise InputError("the address of a server holds no user name or password; give the `token` by itself")
    if parts.query or parts.fragment:
        raise InputError(f"{parts.scheme}://{parts.netloc}{parts.path}: leave out what follows it (? or #)")
    path = parts.path.rstrip("/")
    if not path.endswith(STREAM_PATH):
        path += STREAM_PATH
    return urlunsplit((_SCHEMES[parts.scheme.lower()], parts.netloc, path, f"source={quote(name, safe='')}", ""))
