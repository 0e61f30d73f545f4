"""Do all VVC decoders get the same samples from every stream? docs/conformance.md has the results.

    .venv/bin/python benchmarks/conformance.py [--images N] [--keep FOLDER]

Every encoder that is there codes a set of frames: with every profile, at fine and coarse QPs. Every decoder that is
there decodes each stream, and the samples are compared one by one. The streams of tests/golden are decoded as well, and
compared with the samples that are kept there. The frames are tensors of drawn scenes, with and without a bottleneck,
and small or noisy frames. Nothing is downloaded.

The exit code is 1 if samples differ, or if an encoder or a decoder fails. With --keep, the streams in question are
written to a folder.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from featcodec import FeatureCodec, bitstream
from featcodec.errors import BitstreamError, EncoderError, FeatcodecError
from featcodec.packing.frames import Frame
from featcodec.scenes.scene import draw_scene
from featcodec.system.files import write_once
from featcodec.video import PROFILES, EncoderSettings, VideoCodec, open_video_codec

ENCODERS = {"ffmpeg": "ffmpeg's libvvenc", "vvenc": "vvencapp"}
DECODERS = {"ffmpeg": "PyAV", "vvenc": "vvdecapp"}
SEED = 20_260
QPS = (10, 30, 46)
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"


@dataclass(frozen=True)
class Case:
    """A stream, who made it, and the samples that it must decode to, if they are known."""

    name: str
    encoder: str
    stream: bytes
    shape: tuple[int, int]
    expected: Frame | None = None


def main() -> int:
    """Code, decode, compare and report. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2, help="how many scenes to draw")
    parser.add_argument("--keep", type=Path, help="folder for the streams that do not decode alike")
    arguments = parser.parse_args()
    codecs = available()
    print(f"encoders: {', '.join(ENCODERS[name] for name in codecs)}")
    print(f"decoders: {', '.join(DECODERS[name] for name in codecs)}")
    streams: Counter[str] = Counter()
    agreed: Counter[tuple[str, str]] = Counter()
    failures = 0
    for case in cases(codecs, arguments.images):
        if sys.stderr.isatty():
            print(f"\r{sum(streams.values())} streams", end="\r", file=sys.stderr)
        streams[case.encoder] += 1
        faults = compare(case, codecs, agreed)
        failures += bool(faults)
        for fault in faults:
            print(f"{case.name}: {fault}", file=sys.stderr)
        if faults and arguments.keep:
            write_once(arguments.keep / f"{case.name}.266", case.stream)
    for encoder, count in streams.items():
        for decoder in codecs:
            print(f"{encoder}, decoded by {DECODERS[decoder]}: {agreed[encoder, decoder]} of {count} streams agree")
    total = sum(streams.values())
    print(f"{total - failures} of {total} streams decode to the same samples with {len(codecs)} decoder(s)")
    return 1 if failures else 0


def available() -> dict[str, VideoCodec]:
    """The video codecs whose programs are there; what is missing is said."""
    codecs = {}
    for name, encoder in ENCODERS.items():
        try:
            codecs[name] = open_video_codec(name)
        except EncoderError as error:
            print(f"without {encoder}: {error}")
    if not codecs:
        raise EncoderError("there is no VVC decoder, so nothing was compared; run `featcodec doctor`")
    return codecs


def cases(codecs: dict[str, VideoCodec], images: int) -> Iterator[Case]:
    """All streams, one after the other."""
    yield from golden()
    frames = dict(tensors(images))
    rng = np.random.default_rng(SEED)
    # Noise at QP 0 needs more bytes than it has samples. Such frames and tiny frames are padded or doubled.
    unusual = {
        "noise": rng.integers(0, 256, (96, 130), dtype=np.uint8),
        "tiny": rng.integers(90, 120, (3, 5), dtype=np.uint8),
        "flat": np.full((33, 65), 200, np.uint8),
    }
    settings = {f"profile-{name}": (each.latent, each.bottleneck) for name, each in PROFILES.items()}
    settings["preset-fast"] = EncoderSettings("fast"), EncoderSettings("fast")
    for encoder, plain in codecs.items():
        for title, (latent, bottleneck) in settings.items():
            for name, frame in frames.items():
                codec = open_video_codec(encoder, bottleneck if name.startswith("bottleneck") else latent)
                for qp in QPS:
                    yield coded(encoder, codec, f"{title}-{name}", frame, qp)
        for name, frame in unusual.items():
            for qp in (0, 22, 63):
                yield coded(encoder, plain, name, frame, qp)


def golden() -> Iterator[Case]:
    """The streams that every later version must decode."""
    for path in sorted(GOLDEN.glob("*.266")):
        side_info, stream = bitstream.unpack(bitstream.read_file(path))
        if not side_info.is_raw:
            samples = np.asarray(Image.open(path.with_suffix(".png")))
            yield Case(f"golden-{path.stem}", "tests/golden", stream, side_info.frame_shape, samples)


def tensors(images: int) -> Iterator[tuple[str, Frame]]:
    """Frames of drawn scenes by name, without and with the bottleneck that ships."""
    for name in ("none", "auto"):
        codec = FeatureCodec.load("scenes", bottleneck=name, device="cpu")
        for number in range(images):
            image = codec.letterbox(draw_scene(SEED, number).image)
            ((_, frame),) = codec.front_end([image], 38)
            yield f"{'latent' if name == 'none' else 'bottleneck'}-{number}", frame


def coded(encoder: str, codec: VideoCodec, name: str, frame: Frame, qp: int) -> Case:
    """A frame as a stream."""
    (stream,) = codec.encode([frame], qp, threads=0)
    return Case(f"{encoder}-{name}-qp{qp}", ENCODERS[encoder], stream, (frame.shape[0], frame.shape[1]))


def compare(case: Case, codecs: dict[str, VideoCodec], agreed: Counter[tuple[str, str]]) -> list[str]:
    """Decode with every decoder, and count who agrees with the known samples, or else with the first decoder.

    Returns:
        what is wrong, a line per decoder.
    """
    faults, expected = [], case.expected
    for name, codec in codecs.items():
        try:
            samples = codec.decode(case.stream, case.shape)
        except BitstreamError as error:
            faults.append(f"{DECODERS[name]} fails: {error}")
            continue
        if expected is None:
            expected = samples
        wrong = int(np.count_nonzero(samples != expected))
        if wrong:
            faults.append(f"{DECODERS[name]} decodes {wrong} of {samples.size} samples differently")
        else:
            agreed[case.encoder, name] += 1
    return faults


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FeatcodecError as error:
        sys.exit(f"conformance: {error}")
