"""Options of the commands that send pictures to a server: the networks of the edge, and the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    from featcodec.video.settings import parse_parameters

    coder = {name: choices.pop(name) for name in ("video_codec", "hardware", "profile", "preset")}
    coder["encoder_parameters"] = parse_parameters(choices.pop("encoder_params"))
    loaded = _networks(qp, choices, coder) if exported is None else _exported_model(qp, exported, choices, coder)
    check_qp(loaded.qp, most=loaded.most_qp)
    return loaded


def _networks(qp: int | None, choices: dict[str, Any], coder: dict[str, Any]) -> LoadedEdge:
    detector, bottleneck, layout, device, half, precision = (
        choices.pop(name) for name in ("detector", "bottleneck", "layout", "device", "half", "precision")
    )
    codec = load_codec(
        detector,
        bottleneck,
        layout,
        device,
        half,
        precision=edge_precision(precision),
        restoration="none",
        **coder,
        **choices,
    )
    return LoadedEdge(
        codec, DEFAULT_QP if qp is None else qp, codec.video_codec.standard.max_qp, tuple(codec.model.detector.names)
    )


def _exported_model(qp: int | None, folder: Path, choices: Mapping[str, Any], coder: dict[str, Any]) -> LoadedEdge:
    encoder = load_exported(folder, choices, **coder)
    return LoadedEdge(encoder, encoder.default_qp if qp is None else qp, encoder.max_qp, encoder.names)


def load_exported(folder: Path, decided: Iterable[str], **coder: Any) -> EdgeEncoder:
    """Load the exported model of --model.

    Args:
        folder: the value of --model.
        decided: parameters of the running command that the model has decided.
        coder: as for `EdgeEncoder.load`.

    Raises:
        click.UsageError: one of them was given.
        FeatcodecError: the model cannot be loaded.
    """
    from featcodec.edge.encoder import EdgeEncoder

    context = click.get_current_context()
    assert context is not None  # noqa: S101  (a command runs)
    for name in decided:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{_OF_NETWORKS[name]} is decided by the exported model; leave it out with --model")
    return EdgeEncoder.load(folder, **coder)
