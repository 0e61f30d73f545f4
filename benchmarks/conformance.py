"""Do all decoders get the same samples from every stream? docs/conformance.md has the results.

    .venv/bin/python benchmarks/conformance.py [--images N] [--keep FOLDER]

Every encoder that is there codes a set of frames: with every profile, at fine and coarse QPs. Every decoder of that
standard that is there decodes each stream, and the samples are compared one by one. The streams of tests/golden are
decoded as well, and compared with the samples that are kept there. The frames are tensors of drawn scenes, with and
without a bottleneck, and small or noisy frames. Nothing is downloaded. The independent decoder of HEVC is libde265's
program (Debian's package libde265-examples).

The exit code is 1 if samples differ, or if an encoder or a decoder fails. With --keep, the streams in question are
written to a folder.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from featcodec import FeatureCodec, bitstream
from featcodec.bitstream import HEVC, VVC, Standard
from featcodec.errors import BitstreamError, EncoderError, FeatcodecError
from featcodec.packing.frames import Frame
from featcodec.scenes.scene import draw_scene
from featcodec.system.files import write_once
from featcodec.video import EncoderSettings, VideoCodec, open_video_codec, profiles_for
from featcodec.video.base import coded_shape, from_10_bits
from featcodec.video.profiles import encoder_of

ENCODERS = {"ffmpeg": "ffmpeg's libvvenc", "vvenc": "vvencapp", "hevc": "PyAV's x265"}
LIBDE265 = ("libde265-dec265", "dec265")
SEED = 20_260
QPS = (10, 30, 46)
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"


@dataclass(frozen=True)
class Case:
    """A stream, who made it, and the samples that it must decode to, if they are known."""

    name: str
    encoder: str
    standard: Standard
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
    decoders = decoders_of(codecs)
    print(f"encoders: {', '.join(ENCODERS[name] for name in codecs)}")
    for standard, known in decoders.items():
        print(f"decoders of {standard.name}: {', '.join(known)}")
    streams: Counter[str] = Counter()
    agreed: Counter[tuple[str, str]] = Counter()
    failures = 0
    for case in cases(codecs, arguments.images):
        if sys.stderr.isatty():
            print(f"\r{sum(streams.values())} streams", end="\r", file=sys.stderr)
        streams[case.encoder] += 1
        faults = compare(case, decoders[case.standard], agreed)
        failures += bool(faults)
        for fault in faults:
            print(f"{case.name}: {fault}", file=sys.stderr)
        if faults and arguments.keep:
            write_once(arguments.keep / f"{case.name}{case.standard.suffix}", case.stream)
    for (encoder, decoder), count in agreed.items():
        print(f"{encoder}, decoded by {decoder}: {count} of {streams[encoder]} streams agree")
    total = sum(streams.values())
    print(f"{total - failures} of {total} streams decode to the same samples with every decoder")
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
        raise EncoderError("there is no decoder, so nothing was compared; run `featcodec doctor`")
    return codecs


Decode = Callable[[bytes, tuple[int, int]], Frame]


def decoders_of(codecs: Mapping[str, VideoCodec]) -> dict[Standard, dict[str, Decode]]:
    """The decoders of each standard, by name. What is missing is said."""
    embedded = next(iter(codecs.values())) if "vvenc" not in codecs else open_video_codec("hevc")
    known: dict[Standard, dict[str, Decode]] = {}
    for standard in (VVC, HEVC):
        known[standard] = {"PyAV": embedded.decode, "ffmpeg's own program": by_ffmpeg}
    if "vvenc" in codecs:
        known[VVC]["vvdecapp"] = codecs["vvenc"].decode
    program = next(filter(None, map(shutil.which, LIBDE265)), None)
    if program is None:
        print(f"without libde265: {LIBDE265[0]} is not on PATH; install libde265-examples")
    else:
        known[HEVC]["libde265"] = lambda stream, shape: by_libde265(program, stream, shape)
    return known


def by_ffmpeg(stream: bytes, shape: tuple[int, int]) -> Frame:
    """The frame, decoded by the program of imageio-ffmpeg."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", "FILE", "-f", "rawvideo", "-"]
    raw = run_on_file(command, stream)
    bits = 8 if bitstream.nal.standard_of_stream(stream) is HEVC else 10
    return frame_of(np.frombuffer(raw, np.uint8 if bits == 8 else "<u2"), shape)


def by_libde265(program: str, stream: bytes, shape: tuple[int, int]) -> Frame:
    """The frame, decoded by libde265's program."""
    return frame_of(
        np.frombuffer(run_on_file([program, "-q", "-L", "-o", "/dev/stdout", "FILE"], stream), np.uint8), shape
    )


def run_on_file(command: list[str], stream: bytes) -> bytes:
    """What a program prints that gets a stream as a file, in the place of FILE."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(stream)
        file.flush()
        command = [file.name if part == "FILE" else part for part in command]
        try:
            return subprocess.run(command, check=True, capture_output=True).stdout
        except subprocess.CalledProcessError as error:
            raise BitstreamError(f"it ended with code {error.returncode}") from None


def frame_of(raw: np.ndarray, shape: tuple[int, int]) -> Frame:
    """The frame in the luma at the start of a raw picture, which may be twice as high."""
    height, width = coded_shape(shape)
    if raw.size < height * width:
        raise BitstreamError(f"{raw.size} samples, not {height * width}")
    luma = raw[: height * width].reshape(height, width)
    return from_10_bits(luma, shape) if luma.dtype != np.uint8 else luma[: shape[0], : shape[1]]


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
    for encoder, plain in codecs.items():
        settings = {f"profile-{name}": (each.latent, each.bottleneck) for name, each in profiles_for(encoder).items()}
        preset = EncoderSettings("fast", encoder=encoder_of(encoder))
        settings["preset-fast"] = preset, preset
        for title, (latent, bottleneck) in settings.items():
            for name, frame in frames.items():
                codec = open_video_codec(encoder, bottleneck if name.startswith("bottleneck") else latent)
                for qp in QPS:
                    yield coded(encoder, codec, f"{title}-{name}", frame, qp)
        for name, frame in unusual.items():
            for qp in (0, 22, plain.standard.max_qp):
                yield coded(encoder, plain, name, frame, qp)


def golden() -> Iterator[Case]:
    """The streams that every later version must decode."""
    for path in sorted(GOLDEN.glob("*.26[56]")):
        side_info, stream = bitstream.unpack(bitstream.read_file(path))
        if not side_info.is_raw:
            samples = np.asarray(Image.open(path.with_suffix(".png")))
            standard = bitstream.nal.standard_of_stream(stream)
            made = "tests/golden" if standard is VVC else f"tests/golden, {standard.name}"
            yield Case(f"golden-{path.stem}", made, standard, stream, side_info.frame_shape, samples)


def tensors(images: int) -> Iterator[tuple[str, Frame]]:
    """Frames of drawn scenes by name, without and with the bottleneck that ships."""
    for name in ("none", "auto"):
        codec = FeatureCodec.load("scenes", bottleneck=name, device="cpu", precision="float32")
        for number in range(images):
            image = codec.letterbox(draw_scene(SEED, number).image)
            ((_, frame),) = codec.front_end([image], 38)
            yield f"{'latent' if name == 'none' else 'bottleneck'}-{number}", frame


def coded(encoder: str, codec: VideoCodec, name: str, frame: Frame, qp: int) -> Case:
    """A frame as a stream."""
    (stream,) = codec.encode([frame], qp, threads=0)
    shape = frame.shape[0], frame.shape[1]
    return Case(f"{encoder}-{name}-qp{qp}", ENCODERS[encoder], codec.standard, stream, shape)


def compare(case: Case, decoders: Mapping[str, Decode], agreed: Counter[tuple[str, str]]) -> list[str]:
    """Decode with every decoder, and count who agrees with the known samples, or else with the first decoder.

    Returns:
        what is wrong, a line per decoder.
    """
    faults, expected = [], case.expected
    for name, decode in decoders.items():
        try:
            samples = decode(case.stream, case.shape)
        except BitstreamError as error:
            faults.append(f"{name} fails: {error}")
            continue
        if expected is None:
            expected = samples
        wrong = int(np.count_nonzero(samples != expected))
        if wrong:
            faults.append(f"{name} decodes {wrong} of {samples.size} samples differently")
        else:
            agreed[case.encoder, name] += 1
    return faults


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FeatcodecError as error:
        sys.exit(f"conformance: {error}")
