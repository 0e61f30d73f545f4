"""featcodec stream: a camera's pictures to a server, and the server's detections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import rich_click as click

from featcodec.cli.console import complain, print_json
from featcodec.cli.edge_options import edge_options, load_edge, server_options, token_of
from featcodec.cli.options import LocalPath, json_option, overwrite_option

if TYPE_CHECKING:
    from featcodec.edge.tally import Outcome, Tally

_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)([kM]?)")
_UNITS = {"": 1.0, "k": 1e3, "M": 1e6}


class _BitRate(click.ParamType):  # type: ignore[type-arg]  # (generic from click 8.3 on)
    """Bits per second: 200k, 1.5M or 64000."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _RATE.fullmatch(str(value))
        if match is None or not float(match[1]):
            self.fail(f"{value!r} is not a bit rate like 200k or 1.5M", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


@click.command("stream")
@click.argument("source", metavar="SOURCE")
@server_options
@click.option(
    "-o",
    "--output",
    type=LocalPath(),
    default=None,
    help="File for the detections, JSON lines; each line is there as soon as its frame is answered. [default: stdout]",
)
@click.option(
    "--draw",
    type=LocalPath(),
    default=None,
    help="Video of the answered pictures with their boxes, masks and keypoints, .mp4. It appears at the end.",
)
@click.option(
    "--draw-conf", type=click.FloatRange(0, 1), default=0.25, show_default=True, help="Lowest score of a drawn box."
)
@click.option(
    "--fps",
    type=click.FloatRange(0.01, 1000),
    default=None,
    help="Most pictures per second that are taken. [default: all; of a folder 10]",
)
@click.option("--loop", is_flag=True, help="Start a video file or a folder again at its end.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=None, help="End after this time.")
@click.option("--frames", type=click.IntRange(1), default=None, help="End after so many pictures of the source.")
@click.option(
    "--bitrate",
    type=_BitRate(),
    default=None,
    metavar="RATE",
    help="Steer the QP to this many bits per second, like 200k or 1.5M. --qp is that of the first frame.",
)
@click.option(
    "--deadline-ms",
    type=click.FloatRange(10, 600_000),
    default=1000.0,
    show_default=True,
    help="Time from the capture of a picture to its answer. A picture that cannot make it is dropped before it is "
    "coded; an answer that comes later counts as late.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Most frames that are sent and not answered yet.",
)
@edge_options
@overwrite_option
@json_option
def command(
    source: str,
    server: str,
    token: str | None,
    token_file: Path | None,
    name: str,
    output: Path | None,
    draw: Path | None,
    draw_conf: float,
    fps: float | None,
    loop: bool,
    seconds: float | None,
    frames: int | None,
    bitrate: float | None,
    deadline_ms: float,
    in_flight: int,
    qp: int | None,
    exported: Path | None,
    overwrite: bool,
    as_json: bool,
    **choices: Any,
) -> int:
    """Send a camera's pictures as feature bitstreams to a server, and print its detections.

    SOURCE is a video file (played at its own rate), a folder of images, the number or path of a camera (0,
    /dev/video0), or an RTSP address (rtsp://HOST/PATH). Always the newest picture is sent; others are dropped. When the
    network is lost, the command goes on by itself when it is back. Detections are JSON lines on stdout; the summary at
    the end is on stderr.
    """
    from featcodec.edge.cameras import open_camera
    from featcodec.edge.live import LiveRun, LiveSettings
    from featcodec.edge.server_url import stream_url
    from featcodec.system.files import check_new

    if as_json and output is None:
        raise click.UsageError("--json prints the summary on stdout, where the detections are; give -o too")
    url, secret = stream_url(server, name), token_of(token, token_file)
    camera = open_camera(source, fps=fps, loop=loop)
    inputs = [Path(source)] if "://" not in source else []
    if output is not None:
        check_new(output, overwrite=overwrite, inputs=inputs)
    if draw is not None:
        check_new(draw, "draw", overwrite=overwrite, inputs=[*inputs, *filter(None, [output])])
    loaded = load_edge(qp, exported, **choices)
    settings = LiveSettings(
        url,
        secret,
        qp=loaded.qp,
        most_qp=loaded.most_qp,
        bitrate=bitrate,
        deadline=deadline_ms / 1e3,
        in_flight=in_flight,
        seconds=seconds,
        frames=frames,
    )
    with _reports(output, draw, draw_conf, overwrite=overwrite) as report:
        run = LiveRun(camera, loaded.edge, settings, report, lambda line: complain(f"note: {line}"))
        try:
            asyncio.run(run.run())
        finally:
            _summarize(run.tally, as_json=as_json)
    return 0 if run.tally.answered or not run.tally.frames else 1


@contextlib.contextmanager
def _reports(
    output: Path | None, draw: Path | None, draw_conf: float, *, overwrite: bool
) -> Iterator[Callable[[Outcome], None]]:
    """A function that writes an outcome everywhere where it belongs."""
    with contextlib.ExitStack() as opened:
        # A line is written at once: somebody may read along. So the file is not one that appears at the end.
        lines: IO[str] = sys.stdout
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
            lines = opened.enter_context(output.open("w" if overwrite else "x", encoding="utf-8"))
        recording = None
        if draw is not None:
            from featcodec.edge.recording import Recording

            recording = opened.enter_context(
                Recording(draw, draw_conf, overwrite=overwrite, note=lambda line: complain(f"note: {line}"))
            )

        def report(outcome: Outcome) -> None:
            lines.write(json.dumps(outcome.as_row(), separators=(",", ":")) + "\n")
            lines.flush()
            if recording is not None:
                recording.add(outcome)

        yield report
    if recording is not None and recording.skipped:
        complain(f"note: {recording.skipped} answered pictures are not in {draw}; drawing took too long")


def _summarize(tally: Tally, *, as_json: bool) -> None:
    row = tally.as_row()
    if as_json:
        print_json(row)
        return
    p50, p95 = row["latency_ms"]["p50"], row["latency_ms"]["p95"]
    latency = "" if p50 is None else f", latency p50 {p50:.0f} ms and p95 {p95:.0f} ms"
    click.echo(
        f"{tally.frames} frames, {tally.sent} sent, {tally.answered} answered, {tally.dropped} dropped, "
        f"{tally.late} late, {tally.refused} refused, {tally.lost} lost{latency}, "
        f"{row['bits_per_second'] / 1e3:.1f} kbit/s, {row['frames_per_second']:.1f} frames/s, {tally.seconds:.1f} s",
        err=True,
    )
