"""Options of the commands that send pictures to a server: the networks of the edge, and the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from featcodec.cli.option_values import edge_precision, load_codec
from featcodec.cli.options import (
    edge_precision_option,
    encoder_option,
    encoder_params_option,
    hardware_option,
    image_size_option,
    model_options,
    preset_option,
    profile_option,
    square_option,
    together,
)

if TYPE_CHECKING:
    from featcodec.codec import FeatureCodec
    from featcodec.edge.encoder import EdgeEncoder
    from featcodec.edge.live import Edge

_LONGEST_TOKEN = 4096
DEFAULT_QP = 38
_OF_NETWORKS = {
    "detector": "--detector",
    "bottleneck": "--bottleneck",
    "layout": "--layout",
    "device": "--device",
    "half": "--half",
    "precision": "--precision",
    "split": "--split",
    "image_size": "--image-size",
    "square": "--square",
    "clip": "--clip",
    "bits": "--bits",
}
"""Options that an exported model has decided."""

exported_option = click.option(
    "--model",
    "exported",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=None,
    help="Folder of an exported model (see featcodec export), instead of --detector: needs no PyTorch.",
)


server_options = together(
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
        help="File that holds the server's token in its first line.",
    ),
    click.option(
        "--name",
        default="camera",
        show_default=True,
        help="Name of the camera at the server, 1 to 64 characters.",
    ),
)
"""The options that say where the server is: --to, --token, --token-file, --name."""


def token_of(token: str | None, token_file: Path | None) -> str | None:
    """The token of --token, --token-file or FEATCODEC_TOKEN.

    Raises:
        InputError: the file cannot be read, or the token has characters that no token has.
    """
    from featcodec.errors import InputError
    from featcodec.system.files import read_bounded

    if token_file is not None:
        remedy = "give a file with the token in its first line"
        data = read_bounded(token_file, _LONGEST_TOKEN, InputError, what="token", remedy=remedy)
        token = "".join(data.decode("ascii", "replace").splitlines()[:1]).strip()
    if token is None:
        return None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        where = f"{token_file}: " if token_file is not None else ""
        raise InputError(f"{where}not a `token`; it is one word of printable ASCII characters")
    return token


edge_options = together(
    click.option(
        "--qp",
        type=click.IntRange(0, 63),
        default=None,
        help="Quantization parameter: 0 is finest; 51, with --codec ffmpeg or vvenc 63, is coarsest. "
        f"[default: that of the exported model, or {DEFAULT_QP}]",
    ),
    exported_option,
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
"""The options that choose what codes the pictures: networks, video codec, QP."""


@dataclass(frozen=True)
class LoadedEdge:
    """What codes the pictures.

    Attributes:
        edge: codes them.
        qp: the QP to begin with.
        most_qp: the largest QP that it takes.
        names: the detector's class names.
    """

    edge: Edge
    qp: int
    most_qp: int
    names: tuple[str, ...]


def load_edge(qp: int | None, exported: Path | None, **choices: Any) -> LoadedEdge:
    """What codes the pictures, as the options say.

    Args:
        qp: the value of --qp.
        exported: the value of --model.
        choices: the values of the other `edge_options`.

    Raises:
        click.UsageError: an option for networks beside an exported model, which has decided it.
        FeatcodecError: the networks cannot be loaded, or the video codec does not take the QP.
    """
    from featcodec.bitstream import check_qp

    if exported is None:
        codec = load_networks(choices)
        names, most = tuple(codec.model.detector.names), codec.video_codec.standard.max_qp
        loaded = LoadedEdge(codec, DEFAULT_QP if qp is None else qp, most, names)
    else:
        encoder = load_exported(exported, choices)
        loaded = LoadedEdge(encoder, encoder.default_qp if qp is None else qp, encoder.max_qp, encoder.names)
    check_qp(loaded.qp, most=loaded.most_qp)
    return loaded


def load_networks(choices: Mapping[str, Any]) -> FeatureCodec:
    """The codec of an edge in PyTorch, from the options for networks and for the video encoder.

    Raises:
        FeatcodecError: the networks cannot be loaded, or the encoder refuses its options.
    """
    others, coder = _encoder_apart(choices)
    precision = edge_precision(others.pop("precision"))
    return load_codec(**others, **coder, precision=precision, restoration="none")


def load_exported(folder: Path, choices: Mapping[str, Any], threads: int | None = None) -> EdgeEncoder:
    """Load the exported model of --model.

    Args:
        folder: the value of --model.
        choices: as for `load_networks`; those for networks must be the defaults, because the model has decided them.
        threads: as for `EdgeEncoder.load`.

    Raises:
        click.UsageError: an option for networks was given.
        FeatcodecError: the model cannot be loaded.
    """
    from featcodec.edge.encoder import EdgeEncoder

    decided, coder = _encoder_apart(choices)
    context = click.get_current_context()
    assert context is not None  # noqa: S101  (a command runs)
    for name in decided:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{_OF_NETWORKS[name]} is decided by the exported model; leave it out with --model")
    return EdgeEncoder.load(folder, threads=threads, **coder)


def _encoder_apart(choices: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The choices for networks, and those for the video encoder as keywords of `load`."""
    from featcodec.video.settings import parse_parameters

    others = dict(choices)
    coder = {name: others.pop(name) for name in ("video_codec", "hardware", "profile", "preset")}
    return others, {**coder, "encoder_parameters": parse_parameters(others.pop("encoder_params"))}
