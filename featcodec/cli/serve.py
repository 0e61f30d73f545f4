"""featcodec serve: a server that finishes the detection of bitstreams."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from featcodec.cli.console import complain, with_options
from featcodec.cli.option_values import box_filter
from featcodec.cli.options import image_size_option, model_options, precision_option, profile_option, restoration_option
from featcodec.errors import FeatcodecError, in_one_line, reason_of

if TYPE_CHECKING:
    from featcodec.service.settings import Settings

_MOST_TOKEN_BYTES = 1 << 12
_WAIT_ON_A_GPU = 5.0


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve at; 0.0.0.0 is every one.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free port.")
@click.option(
    "--token",
    envvar="FEATCODEC_TOKEN",
    default=None,
    help="What clients must show. Other users of this machine see it in the list of processes: rather set "
    "FEATCODEC_TOKEN, or give --token-file.",
)
@click.option(
    "--token-file", type=click.Path(path_type=Path), default=None, help="File that holds the token in its first line."
)
@model_options
@precision_option
@restoration_option
@click.option(
    "--video-codec",
    "--codec",
    "video_codec",
    type=click.Choice(["ffmpeg", "vvenc", "hevc"]),
    default="ffmpeg",
    show_default=True,
    help="Video codec of the pictures that the server encodes itself (/v1/picture). Every one decodes VVC and HEVC.",
)
@profile_option
@image_size_option
@click.option("--conf", type=click.FloatRange(0, 1), default=0.25, show_default=True, help="Lowest score of a box.")
@click.option(
    "--iou",
    type=click.FloatRange(0, 1),
    default=0.6,
    show_default=True,
    help="IoU threshold of NMS: boxes of a class that overlap more than this are one.",
)
@click.option("--max-det", type=click.IntRange(1, 1000), default=300, show_default=True, help="Most boxes per image.")
@click.option("--max-batch", type=click.IntRange(1, 256), default=4, show_default=True, help="Most frames in a batch.")
@click.option(
    "--batch-wait-ms",
    type=click.FloatRange(0, 1000),
    default=None,
    help="How long a batch waits for more frames while the networks are idle. [default: 0 on a CPU, which takes the "
    "frames of a batch one by one; else 5]",
)
@click.option(
    "--max-queue",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Most frames that wait; of more, those of the greediest client get 429.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(1),
    default=64 << 20,
    show_default=True,
    help="Most bytes of bodies and messages in the server, of all clients together; more get 429.",
)
@click.option("--max-connections", type=click.IntRange(1), default=64, show_default=True, help="Most connections.")
@click.option("--max-pages", type=click.IntRange(1), default=16, show_default=True, help="Most pages that watch.")
@click.option(
    "--max-in-flight",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Most frames of a source that are not answered yet; more get 429.",
)
@click.option(
    "--max-body",
    type=click.IntRange(1, 1 << 30),
    default=8 << 20,
    show_default=True,
    help="Most bytes of a bitstream or picture; more get 413.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=40_000_000,
    show_default=True,
    help="Most pixels of an original picture; more get 413.",
)
@click.option(
    "--decode-seconds",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    show_default=True,
    help="Time for the video of one bitstream; more gets 504.",
)
@click.option(
    "--end-seconds",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    show_default=True,
    help="How long the server still answers when it is asked to end.",
)
@click.option(
    "--behind-proxy",
    is_flag=True,
    help="A proxy of yours stands before the server: clients are told apart by the last address in X-Forwarded-For.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=None,
    help="Processes that decode video. [default: one per core]",
)
@click.option(
    "--ray", is_flag=True, help="Serve by Ray Serve: replicas that Ray replaces, on all machines of a cluster."
)
@click.option(
    "--cluster", metavar="ADDRESS", default=None, help="With --ray: auto, local or ray://HOST:10001. [default: local]"
)
@click.option(
    "--replicas", type=click.IntRange(1, 10_000), default=None, help="With --ray: how many servers. [default: 2]"
)
@click.option(
    "--max-replicas",
    type=click.IntRange(1, 10_000),
    default=None,
    help="With --ray: how many servers Ray may start when there is more work. [default: as --replicas]",
)
@click.option(
    "--replica-cpus",
    type=click.FloatRange(0.01, 1024),
    default=None,
    help="With --ray: cores of each server, which has as many --workers. [default: 1]",
)
def command(
    host: str,
    port: int,
    token: str | None,
    token_file: Path | None,
    detector: str,
    bottleneck: str,
    layout: str,
    device: str,
    half: bool | None,
    precision: str,
    restoration: str,
    video_codec: str,
    profile: str | None,
    image_size: int,
    conf: float,
    iou: float,
    max_det: int,
    max_batch: int,
    batch_wait_ms: float | None,
    max_queue: int,
    max_bytes: int,
    max_connections: int,
    max_pages: int,
    max_in_flight: int,
    max_body: int,
    max_pixels: int,
    decode_seconds: float,
    end_seconds: float,
    behind_proxy: bool,
    workers: int | None,
    ray: bool,
    cluster: str | None,
    replicas: int | None,
    max_replicas: int | None,
    replica_cpus: float | None,
) -> int:
    """Serve detections: bitstreams come in by HTTP or WebSocket, detections go out.

    The page of the server shows what its cameras see. It ends by Ctrl-C or SIGTERM when all that it took is answered.
    Give a token where others can reach it, and put a proxy with TLS before it: the token is sent as it is.
    """
    if not ray and (cluster, replicas, max_replicas, replica_cpus) != (None,) * 4:
        raise click.UsageError("--cluster, --replicas, --max-replicas and --replica-cpus need --ray")
    if ray and workers is not None:
        raise click.UsageError("--workers is for one server; with --ray, give --replica-cpus")
    try:
        from featcodec.codec import FeatureCodec
        from featcodec.service import server
        from featcodec.service.application import create_application
    except ImportError as error:
        raise FeatcodecError(f"a server needs FastAPI ({reason_of(error)}); pip install 'featcodec[serve]'") from None
    from featcodec.service.settings import Settings

    settings = Settings(
        token=_token(token, token_file),
        max_batch=max_batch,
        batch_wait_ms=0.0 if batch_wait_ms is None else batch_wait_ms,
        max_queue=max_queue,
        max_bytes=max_bytes,
        max_connections=max_connections,
        max_pages=max_pages,
        max_in_flight=max_in_flight,
        max_body=max_body,
        max_pixels=max_pixels,
        decode_seconds=decode_seconds,
        end_seconds=end_seconds,
        behind_proxy=behind_proxy,
        workers=workers or 0,
    )
    networks: dict[str, Any] = {
        "detector": detector,
        "bottleneck": bottleneck,
        "layout": layout,
        "device": device,
        "half": half,
        "precision": precision,
        "restoration": restoration,
        "video_codec": video_codec,
        "profile": profile,
        "image_size": image_size,
        "boxes": box_filter(conf, iou, max_det),
    }
    if ray:
        _serve_on_ray(networks, settings, host, port, cluster, replicas or 2, max_replicas, replica_cpus or 1.0)
        return 0
    with _log_to_stderr(), contextlib.closing(server.listen(host, port)) as listener:
        codec = FeatureCodec.load(**networks)
        if batch_wait_ms is None and codec.model.device.type != "cpu":
            settings = replace(settings, batch_wait_ms=_WAIT_ON_A_GPU)
        if settings.token is None and not _is_loopback(listener.getsockname()[0]):
            complain("note: everybody who reaches this machine can use the server; give it a `token`")
        application = create_application(codec, settings, detector=Path(detector).stem)
        server.serve(application, listener, lambda: click.echo(f"serving {server.url_of(listener)}"))
    return 0


def _serve_on_ray(
    networks: dict[str, Any],
    settings: Settings,
    host: str,
    port: int,
    cluster: str | None,
    replicas: int,
    most: int | None,
    cpus: float,
) -> None:
    """Serve by Ray Serve, until a signal asks for the end."""
    from featcodec.service.many import Build, serve_on_ray
    from featcodec.service.server import listen

    with contextlib.closing(listen(host, port)) as listener:  # Ray would try other ports, or say less
        port = listener.getsockname()[1]
    serve_on_ray(
        cluster or "local",
        lambda url: click.echo(f"serving {url}"),
        build=Build(networks, settings),
        host=host,
        port=port,
        replicas=replicas,
        most_replicas=max(replicas, most or 0),
        cpus=cpus,
    )


def _token(token: str | None, file: Path | None) -> str | None:
    """The token of the options, if any.

    Raises:
        InputError: the file cannot be read.
    """
    from featcodec.errors import InputError
    from featcodec.system.files import read_bounded

    if file is None:
        return token
    text = read_bounded(
        file, _MOST_TOKEN_BYTES, InputError, what="token", remedy="give a file with the token in its first line"
    )
    lines = text.decode(errors="replace").splitlines()
    return lines[0].strip() if lines else ""


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.split("%", maxsplit=1)[0]).is_loopback


@contextlib.contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Print what an operator needs to know, a line each, while the block runs."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s featcodec: %(message)s"))
    log = logging.getLogger("featcodec.service")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)


class _OneLine(logging.Formatter):
    """Whatever a client wrote into a message stays in one line."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_info = None
        return with_options(in_one_line(super().format(record)))
