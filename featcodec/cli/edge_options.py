"""Options of the commands that send pictures to a server: the networks of the edge, and the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from featcodec.cli.options import (
    edge_precision,
    edge_precision_option,
    encoder_option,
    encoder_params_option,
    hardware_option,
    image_size_option,
    load_codec,
    model_options,
    preset_option,
    profile_option,
    square_option,
)

if TYPE_CHECKING:
    from featcodec.edge.live import Edge

F = TypeVar("F", bound=Callable[..., Any])

_LONGEST_TOKEN = 4096


def server_options(function: F) -> F:
    """Add the options that say where the server is: --to, --token, --token-file, --name."""
    for option in reversed(
        (
            click.option(
                "--to",
                "server",
                metavar="URL",
                required=True,
                help="The server: ws://HOST:PORT, or wss://HOST with TLS. http:// and https:// mean the same.",
            ),
            click.option(
                "--token",
                envvar="FEATCODEC_TOKEN",
                show_envvar=True,
                default=None,
                help="The server's token. Other users of this machine can see it here; better use --token-file or the "
                "variable.",
            ),
            click.option(
                "--token-file",
                type=click.Path(path_type=Path),
                default=None,
                help="File that holds the server's token.",
            ),
            click.option(
                "--name",
                default="camera",
                show_default=True,
                help="Name of the camera at the server, 1 to 64 characters.",
            ),
        )
    ):
        function = option(function)
    return function


def token_of(token: str | None, token_file: Path | None) -> str | None:
    """The token of --token, --token-file or FEATCODEC_TOKEN.

    Raises:
        InputError: the file cannot be read, or the token has characters that no token has.
    """
    from featcodec.errors import InputError
    from featcodec.system.files import read_bounded

    if token_file is not None:
        data = read_bounded(token_file, _LONGEST_TOKEN, InputError, what="token", remedy="give a file with one line")
        token = data.decode("ascii", "replace").strip()
    if token is None:
        return None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        where = f"{token_file}: " if token_file is not None else ""
        raise InputError(f"{where}not a `token`; it is one word of printable ASCII characters")
    return token


def edge_options(function: F) -> F:
    """Add the options that choose what codes the pictures: networks, video codec, QP."""
    for option in reversed(
        (
            click.option(
                "--qp",
                type=click.IntRange(0, 63),
                default=38,
                show_default=True,
                help="Quantization parameter: 0 is finest; 51, with --codec ffmpeg or vvenc 63, is coarsest.",
            ),
            model_options,
            edge_precision_option,
            encoder_option("hevc"),
            hardware_option,
            profile_option,
            preset_option,
            encoder_params_option,
            click.option(
                "--split",
                type=click.IntRange(0),
                default=None,
                help="Last detector layer that runs at the edge. [default: the bottleneck's own, or 4]",
            ),
            image_size_option,
            square_option,
        )
    ):
        function = option(function)
    return function


def load_edge(qp: int, **choices: Any) -> tuple[Edge, int]:
    """What codes the pictures, and its largest QP.

    Args:
        qp: the QP that it must take.
        choices: the values of the other `edge_options`.

    Raises:
        FeatcodecError: the networks cannot be loaded, or the video codec does not take the QP.
    """
    from featcodec.bitstream import check_qp
    from featcodec.video.settings import parse_parameters

    networks = [choices.pop(name) for name in ("detector", "bottleneck", "layout", "device", "half")]
    codec = load_codec(
        *networks,
        precision=edge_precision(choices.pop("precision")),
        restoration="none",
        encoder_parameters=parse_parameters(choices.pop("encoder_params")),
        **choices,
    )
    most = codec.video_codec.standard.max_qp
    check_qp(qp, most=most)
    return codec, most
