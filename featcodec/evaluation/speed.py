"""How fast a codec is on this machine, and how far from what limits it.

Ways are measured in turns, so that their ratio means something on a machine whose speed changes: the pipelines, and the
plain way, one image after the other. Stages are measured alone, on one thread, in milliseconds of a core. The limits
are the encoder's own time for the frames, and the networks' floating point operations at the rate of a matrix product
of this CPU in the same precision.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from featcodec import bitstream
from featcodec.codec import FeatureCodec
from featcodec.detectors import detections_of
from featcodec.errors import InputError
from featcodec.images.letterbox import letterbox_of
from featcodec.images.reading import read_image
from featcodec.networks.features import levels_of
from featcodec.networks.restoration import restore
from featcodec.packing.frames import Frame
from featcodec.pipeline import DEFAULT_BATCH, decode_files, encode_files
from featcodec.system.batching import cores
from featcodec.system.paths import Source
from featcodec.system.torch_threads import beside_other_work

_MATRIX = 1024
_PEAK_TRIES = 5

T = TypeVar("T")


@dataclass(frozen=True)
class Rate:
    """The speed of one direction.

    Attributes:
        direction: "encode" or "decode".
        images_per_second: of the pipeline, the median over the rounds.
        plain: of the plain way: `FeatureCodec.encode` or `decode` of one image after the other.
        ratio: the median over the rounds of pipeline against plain.
        core_milliseconds: CPU time of the pipeline per image, with its encoder processes.
    """

    direction: str
    images_per_second: float
    plain: float
    ratio: float
    core_milliseconds: float


@dataclass(frozen=True)
class Stage:
    """A step of one direction: its milliseconds of one core per image, the mean over the images."""

    direction: str
    name: str
    core_milliseconds: float


@dataclass(frozen=True)
class Limit:
    """What one part alone would allow on all cores.

    Attributes:
        direction: "encode" or "decode".
        name: "video" or "networks".
        images_per_second: if nothing else ran.
        share: how much of it the pipeline reaches, 0 to 1.
        detail: how it was found.
    """

    direction: str
    name: str
    images_per_second: float
    share: float
    detail: str


@dataclass(frozen=True)
class Speed:
    """All that was measured.

    Attributes:
        images: how many.
        cores: that this process may use.
        rates, stages, limits: see there.
        peak_memory: the most MiB that this process used, and its largest child process.
    """

    images: int
    cores: int
    rates: list[Rate]
    stages: list[Stage]
    limits: list[Limit]
    peak_memory: tuple[float, float]


def measure_speed(
    edge: FeatureCodec, cloud: FeatureCodec, sources: Sequence[Source], qp: int, *, rounds: int = 3
) -> Speed:
    """Measure a codec on images.

    Args:
        edge, cloud: the codec as it encodes and as it decodes; they may differ in precision. Limits of the networks are
            found on CPUs alone.
        sources: readable images, at least one.
        qp: quantization parameter.
        rounds: how often each way runs, at least 1, after one round that does not count.

    Raises:
        InputError: an image cannot be encoded.
        BitstreamError: a stream cannot be decoded.
    """
    with tempfile.TemporaryDirectory() as folder:
        rates = _rates(edge, cloud, sources, Path(folder), qp, rounds)
    stages = _stages(edge, cloud, sources, qp)
    limits = _limits(edge, cloud, sources, rates, stages)
    return Speed(len(sources), cores(), rates, stages, limits, _peak_memory())


def _rates(
    edge: FeatureCodec, cloud: FeatureCodec, sources: Sequence[Source], folder: Path, qp: int, rounds: int
) -> list[Rate]:
    def encode() -> None:
        with closing(encode_files(edge, sources, folder, qp, overwrite=True)) as outcomes:
            for outcome in outcomes:
                if outcome.error:
                    raise InputError(outcome.error)

    def decode() -> None:
        with closing(decode_files(cloud, streams)) as outcomes:
            for outcome in outcomes:
                if outcome.error:
                    raise InputError(outcome.error)

    def encode_plainly() -> None:
        for source in sources:
            edge.encode(source.path, qp)

    def decode_plainly() -> None:
        for stream in streams:
            cloud.decode(stream.path.read_bytes())

    encode()
    suffixes = {standard.suffix for standard in bitstream.STANDARDS}
    streams = [Source(path, path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.suffix in suffixes]
    decode()
    ways = {"encode": (encode, encode_plainly), "decode": (decode, decode_plainly)}
    taken: dict[str, list[tuple[float, float, float]]] = {direction: [] for direction in ways}
    for _ in range(rounds):
        for direction, (pipeline, plain) in ways.items():
            seconds, core_seconds = _timed(pipeline)
            taken[direction].append((seconds, core_seconds, _timed(plain)[0]))
    count = len(sources)
    return [
        Rate(
            direction,
            count / statistics.median(pipeline for pipeline, _, _ in values),
            count / statistics.median(plain for _, _, plain in values),
            statistics.median(plain / pipeline for pipeline, _, plain in values),
            1000 * statistics.median(busy for _, busy, _ in values) / count,
        )
        for direction, values in taken.items()
    ]


def _stages(edge: FeatureCodec, cloud: FeatureCodec, sources: Sequence[Source], qp: int) -> list[Stage]:
    """Each step alone, on one thread; the first image is taken twice, and counts once."""
    taken: dict[tuple[str, str], list[float]] = {}

    def timed(direction: str, name: str, run: Callable[[], T]) -> T:
        before = core_seconds()
        result = run()
        taken.setdefault((direction, name), []).append(1000 * (core_seconds() - before))
        return result

    frames: dict[tuple[int, ...], list[Frame]] = {}
    with torch.inference_mode(), beside_other_work(threads=1):
        for number, source in enumerate((sources[0], *sources)):
            frame = _one_image(edge, cloud, source, qp, timed)
            if number == 0:
                taken.clear()
            else:
                frames.setdefault(frame.shape, []).append(frame)
    # Not one by one: the pipeline gives an encoder process as many.
    taken["encode", "video"] = [_video_milliseconds(edge, list(frames.values()), qp) / len(sources)]
    return [Stage(*key, statistics.mean(values)) for key, values in taken.items()]


def _video_milliseconds(codec: FeatureCodec, groups: Sequence[Sequence[Frame]], qp: int) -> float:
    before = core_seconds()
    for group in groups:
        for start in range(0, len(group), DEFAULT_BATCH):
            codec.video_codec.encode(group[start : start + DEFAULT_BATCH], qp)
    return 1000 * (core_seconds() - before)


class _Step(Protocol):
    """Runs a step of a direction, and notes its time."""

    def __call__(self, direction: str, name: str, run: Callable[[], T]) -> T: ...


def _one_image(edge: FeatureCodec, cloud: FeatureCodec, source: Source, qp: int, step: _Step) -> Frame:
    """All steps of `FeatureCodec.encode` and `decode`, one by one. Returns the frame."""
    model = edge.model
    pixels = step("encode", "read", lambda: read_image(source.path))
    image = step("encode", "letterbox", lambda: edge.letterbox(pixels))
    features = step("encode", "front-end", lambda: model.detector.front(edge.pictures_of([image])))
    tensors = step(
        "encode",
        "AE",
        lambda: [level.float().cpu().contiguous().numpy()[0] for level in levels_of(model.reduce(features))],
    )
    frame = step("encode", "pack", lambda: edge.packing.to_frame(tensors))
    (stream,) = step("encode", "video", lambda: edge.video_codec.encode([frame], qp))
    side_info = edge.front_end([image], qp)[0][0]
    data = step("encode", "bitstream", lambda: bitstream.pack(side_info, stream))
    decoded = step("decode", "bitstream, video", lambda: cloud.decode_frame(data))
    coded = step("decode", "unpack", lambda: cloud.decoded_tensors([decoded]))
    restored = step(
        "decode",
        "restoration",
        lambda: restore(cloud.restoration, coded, [side_info]) if isinstance(coded, Tensor) else coded,
    )
    qps = torch.tensor([float(qp)], device=cloud.model.device)
    expanded = step("decode", "AD", lambda: cloud.model.expand(restored, qps))
    detector = cloud.model.detector
    predictions = step("decode", "back-end", lambda: detector.predict(expanded, cloud.boxes.conf))
    step(
        "decode",
        "NMS",
        lambda: detections_of(
            predictions.values,
            [letterbox_of(side_info)],
            detector.names,
            cloud.boxes,
            detector.task,
            predictions.prototypes,
        ),
    )
    return frame


def _limits(
    edge: FeatureCodec,
    cloud: FeatureCodec,
    sources: Sequence[Source],
    rates: Sequence[Rate],
    stages: Sequence[Stage],
) -> list[Limit]:
    reached = {rate.direction: rate.images_per_second for rate in rates}

    def limit(direction: str, name: str, seconds: float, detail: str) -> Limit:
        most = cores() / seconds
        return Limit(direction, name, most, reached[direction] / most, detail)

    video = next(each for each in stages if (each.direction, each.name) == ("encode", "video"))
    milliseconds = video.core_milliseconds
    limits = [limit("encode", "video", milliseconds / 1000, f"{milliseconds:.1f} core-ms per image")]
    if edge.model.device.type == "cpu":
        operations_in = operations_of(edge, sources[0])
        for direction, codec in (("encode", edge), ("decode", cloud)):
            operations, peak = operations_in[direction], peak_of(codec.model.detector.dtype)
            detail = f"{operations / 1e9:.2f} GFLOP per image, {peak / 1e9:.0f} GFLOP/s on one core"
            if codec.model.precision == "int8":
                detail += ", as if AD were not in int8"
            limits.append(limit(direction, "networks", operations / peak, detail))
    return limits


def operations_of(codec: FeatureCodec, source: Source) -> dict[str, int]:
    """Floating point operations of the networks of each direction, for one image. The restoration is left out."""
    image = codec.letterbox(source.path)
    counted = {}
    with torch.inference_mode():
        pictures = codec.pictures_of([image])
        with FlopCounterMode(display=False) as counter:
            tensors = codec.model.encode(pictures)
        counted["encode"] = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            codec.model.decode(tensors, torch.zeros(1))
        counted["decode"] = counter.get_total_flops()
    return counted


def peak_of(dtype: torch.dtype) -> float:
    """Operations per second of one core: the fastest of some products of two matrices."""
    one, other = (torch.rand(_MATRIX, _MATRIX).to(dtype) for _ in range(2))
    with torch.inference_mode(), beside_other_work(threads=1):
        torch.mm(one, other)
        seconds = min(_timed(lambda: torch.mm(one, other))[0] for _ in range(_PEAK_TRIES))
    return 2 * _MATRIX**3 / seconds


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of CPU time."""
    busy, started = core_seconds(), time.perf_counter()
    run()
    return time.perf_counter() - started, core_seconds() - busy


def core_seconds() -> float:
    """CPU time of this process and of its child processes that have ended."""
    import resource  # noqa: PLC0415  (Windows does not have it)

    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _peak_memory() -> tuple[float, float]:
    import resource  # noqa: PLC0415  (Windows does not have it)

    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own / 1024, children / 1024
