"""featcodec frigate: Frigate's detector, with the edge here and the cloud elsewhere."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import rich_click as click

from featcodec.cli.console import complain, print_json
from featcodec.cli.edge_options import edge_options, load_edge, server_options, token_of
from featcodec.cli.options import json_option


@click.command("frigate")
@server_options
@click.option(
    "--endpoint",
    default="tcp://127.0.0.1:5555",
    show_default=True,
    help="Where Frigate finds the detector: tcp://HOST:PORT, or ipc:///FOLDER/NAME on the same machine. Who reaches it "
    "can use it.",
)
@click.option(
    "--labelmap",
    default="coco-80",
    show_default=True,
    help="Frigate's label map: coco-80 (/labelmap/coco-80.txt in Frigate), coco-91 (/labelmap.txt, Frigate's default), "
    "or a copy of the file that labelmap_path names.",
)
@click.option(
    "--pixel-format",
    type=click.Choice(["rgb", "bgr"]),
    default="rgb",
    show_default=True,
    help="As input_pixel_format of Frigate's model.",
)
@click.option(
    "--deadline-ms",
    type=click.FloatRange(10, 60_000),
    default=180.0,
    show_default=True,
    help="Time for one picture. Without an answer until then, Frigate gets no boxes. Must be less than "
    "request_timeout_ms of Frigate's detector, which is 200 by default.",
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=None, help="End after this time.")
@edge_options
@json_option
def command(
    server: str,
    token: str | None,
    token_file: Path | None,
    name: str,
    endpoint: str,
    labelmap: str,
    pixel_format: str,
    deadline_ms: float,
    seconds: float | None,
    qp: int | None,
    exported: Path | None,
    as_json: bool,
    **choices: Any,
) -> int:
    """Be a detector of type zmq for Frigate: pictures are coded here and detected by a server.

    In Frigate's configuration, give the detector `type: zmq` and the endpoint, and the model any path, the width and
    height of the pictures, and the label map of --labelmap (docs/deployment.md). The command runs until Ctrl-C.
    """
    from featcodec.edge.asking import RemoteDetector
    from featcodec.edge.frigate import Responder
    from featcodec.edge.labels import number_of, read_label_map
    from featcodec.edge.server_url import stream_url
    from featcodec.edge.zmq_endpoint import Endpoint
    from featcodec.errors import InputError

    def note(line: str) -> None:
        complain(f"note: {line}")

    url, secret, labels = stream_url(server, name), token_of(token, token_file), read_label_map(labelmap)
    with Endpoint(endpoint) as requests:
        loaded = load_edge(qp, exported, **choices)
        known = [each for each in loaded.names if number_of(each, labels) is not None]
        if not known:
            raise InputError(f"{labelmap}: has no class of this detector; give another `labelmap` or `detector`")
        if unknown := [each for each in loaded.names if each not in known]:
            note(f"the label map {labelmap} has no {', '.join(unknown)}; Frigate does not get boxes of these classes")
        until = None if seconds is None else time.monotonic() + seconds
        with RemoteDetector(loaded.edge, url, secret, loaded.qp, deadline_ms / 1e3, note) as detector:
            responder = Responder(detector.detect, labels, note, is_bgr=pixel_format == "bgr")

            def is_over() -> bool:
                detector.check()
                return until is not None and time.monotonic() >= until

            click.echo(f"detecting for Frigate at {requests.address}", err=as_json)
            try:
                requests.serve(responder.reply, is_over)
            finally:
                counts = responder.counts
                if as_json:
                    print_json(asdict(counts))
                else:
                    click.echo(
                        f"{counts.pictures} pictures, {counts.answered} answered, {counts.empty} without an answer, "
                        f"{counts.malformed} malformed requests",
                        err=True,
                    )
    return 0
