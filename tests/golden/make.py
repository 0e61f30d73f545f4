"""Makes golden bitstreams: files that every later featcodec must decode to exactly these samples.

    .venv/bin/python tests/golden/make.py

Files here are never regenerated, only added. The script makes what is missing and touches nothing that exists; a file
that no longer decodes means that the decoder broke, or that the format needs a new version (docs/bitstream.md).

Per case: NAME.266 or NAME.265, the bitstream; NAME.json, its side info; NAME.png, the decoded frame as an 8-bit gray
picture. The samples are synthetic patterns; no photograph is in them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from featcodec import bitstream
from featcodec.bitstream import RAW_QP, SideInfo
from featcodec.packing.bands import Bands, TensorScale
from featcodec.packing.tiling import TileGrid
from featcodec.system.files import write_atomically
from featcodec.video import EncoderSettings, open_video_codec
from featcodec.video.profiles import HEVC_PROFILES
from featcodec.video.settings import X265

FOLDER = Path(__file__).parent
FINGERPRINT = bytes.fromhex("00000102030405ff")


def tensor(channels: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """A (channels, height, width) pattern of ramps, blobs and stripes, a different one in every channel."""
    k, y, x = np.ogrid[:channels, :height, :width]
    ramp = (3 * x + 2 * y + 11 * k) % 64
    blob = 5000 // (40 + (x - width // 2 - k % 5) ** 2 + (y - height // 3) ** 2)
    stripe = ((x + (k + 1) * y) // 5 % 2) * 12
    return np.clip(ramp + blob + stripe + 8 * (k % 7), 0, 255).astype(np.uint8)


def waves(rows: int, cols: int, side: int) -> npt.NDArray[np.uint8]:
    """Noisy waves across square tiles, for which VVenC's ALF sends its coefficients in a prefix APS."""
    y, x = np.mgrid[: rows * side, : cols * side]
    wave = 60 + 50 * np.sin(y / 9) * np.cos(x / 13) + (x // side + y // side) % 3 * 15
    noise = np.random.default_rng(0).normal(0, 2, wave.shape)
    frame = np.rint(wave + (3 * x + 2 * y) // 17 % 2 * 12 + noise).astype(np.uint8)
    return TileGrid(rows, cols).untile(frame, rows * cols)


def sparse(channels: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """A pattern of mostly zeros, so that raw samples need emulation prevention."""
    k, y, x = np.ogrid[:channels, :height, :width]
    return np.where((x * y + k) % 7 == 0, (x + y + k) % 6, 0).astype(np.uint8)


def add(
    name: str,
    samples: npt.NDArray[np.uint8],
    *,
    qp: int,
    stride: int = 8,
    clip: tuple[float, float] = (-3.0, 3.0),
    bits: int = 8,
    split: int = 4,
    original: tuple[int, int] = (640, 427),
    preset: str = "faster",
    parameters: dict[str, str] | None = None,
    grid: TileGrid | None = None,
    version: int = bitstream.VERSION,
    hevc: EncoderSettings | None = None,
    further: Sequence[npt.NDArray[np.uint8]] = (),
) -> None:
    """Add one golden file, unless it exists. The first tensor is the finest; `grid` is that of its tiles."""
    if any(FOLDER.glob(f"{name}.26?")):
        print(f"{name}: exists, left alone")
        return
    scales = tuple(TensorScale(len(each), samples.shape[2] // each.shape[2]) for each in further)
    bands = Bands(len(samples), grid, scales) if grid else Bands.near_square(len(samples), scales)
    settings = hevc or EncoderSettings(preset, parameters or {})
    codec = open_video_codec("hevc" if hevc else "none" if qp == RAW_QP else "ffmpeg", settings)
    side_info = SideInfo(
        original_width=original[0],
        original_height=original[1],
        letterboxed_width=samples.shape[2] * stride,
        letterboxed_height=samples.shape[1] * stride,
        channels=samples.shape[0],
        feature_height=samples.shape[1],
        feature_width=samples.shape[2],
        tile_rows=bands.grid.rows,
        tile_cols=bands.grid.cols,
        clip_low=float(np.float32(clip[0])),
        clip_high=float(np.float32(clip[1])),
        bits=bits,
        split=split,
        fingerprint=FINGERPRINT,
        qp=qp,
        encoder_tag=codec.tag,
        further=tuple(each.shape for each in further),
    )
    (stream,) = codec.encode([bands.tile([samples, *further])], 0 if qp == RAW_QP else qp)
    data = bitstream.pack(side_info, stream, version=version)
    write_atomically(FOLDER / f"{name}{codec.standard.suffix}", data)
    text = json.dumps({**vars(side_info), "fingerprint": side_info.fingerprint.hex()}, indent=2)
    write_atomically(FOLDER / f"{name}.json", f"{text}\n".encode())
    Image.fromarray(codec.decode(stream, side_info.frame_shape)).save(FOLDER / f"{name}.png")
    print(f"{name}: {len(data)} bytes")


if __name__ == "__main__":
    add_old = functools.partial(add, version=1)
    add_old("6ch-qp20", tensor(6, 32, 32), qp=20)
    add_old("6ch-qp38", tensor(6, 32, 32), qp=38)
    add_old("13ch-qp20", tensor(13, 16, 24), qp=20, clip=(-0.2786, 3.0), original=(65535, 1))
    add_old("13ch-qp38", tensor(13, 16, 24) // 2, qp=38, clip=(-0.2786, 3.0), bits=7, split=2, stride=4)
    add_old("13ch-medium-qp30", tensor(13, 16, 24), qp=30, preset="medium")
    add_old("16ch-filtered-qp30", waves(4, 4, 32), qp=30, parameters={"ALF": "1"})
    tools = {
        "TransformSkip": "1",
        "BDPCM": "1",
        "IBC": "1",
        "DepQuant": "1",
        "SignHideFlag": "0",
        "ISP": "1",
        "MIP": "1",
    }
    add_old("6ch-tools-qp30", tensor(6, 32, 32), qp=30, parameters=tools)
    add_old("1ch-padded-qp0", tensor(1, 3, 5), qp=0, original=(1, 1))
    add_old("20ch-raw", sparse(20, 8, 8), qp=RAW_QP, bits=3)
    add_second = functools.partial(add, version=2)
    add_second("v2-20ch-qp38", tensor(20, 32, 32), qp=38)
    add_second("v2-13ch-fast-qp30", tensor(13, 16, 24), qp=30, clip=(-0.2786, 3.0), preset="fast")
    row = {"clip": (-1.5, 6.25), "bits": 7, "split": 2, "stride": 4, "grid": TileGrid(1, 6)}
    add_second("v2-6ch-row-qp46", tensor(6, 32, 32), qp=46, **row)
    add_second("v2-20ch-raw", sparse(20, 8, 8), qp=RAW_QP, bits=3)
    filters = EncoderSettings("medium", encoder=X265)
    add_second("v2-20ch-hevc-qp38", tensor(20, 32, 32), qp=38, hevc=HEVC_PROFILES["fast"].bottleneck)
    add_second("v2-13ch-hevc-filtered-qp30", tensor(13, 16, 24), qp=30, clip=(-0.2786, 3.0), hevc=filters)
    add_second("v2-1ch-hevc-padded-qp0", tensor(1, 3, 5), qp=0, stride=32, original=(1, 1), hevc=filters)
    add_old("13ch-hevc-qp20", tensor(13, 16, 24), qp=20, original=(65535, 1), hevc=HEVC_PROFILES["fast"].latent)
    late = {"stride": 16, "split": 6}
    add("v3-20ch-qp38", tensor(20, 16, 16), qp=38, **late)
    add("v3-13ch-hevc-qp30", tensor(13, 16, 24), qp=30, clip=(-0.2786, 3.0), hevc=HEVC_PROFILES["fast"].latent, **late)
    add("v3-1ch-wide-qp10", tensor(1, 2, 3), qp=10, stride=64, split=127, original=(1, 1), clip=(-1.5, 6.25), bits=7)
    # As behind layer 10 of yolo11n, with fewer channels.
    three = {"split": 10, "further": (tensor(8, 16, 16), tensor(16, 8, 8))}
    add("v3-three-qp34", tensor(8, 32, 32), qp=34, clip=(-0.2786, 3.0), **three)
    add("v3-three-hevc-qp34", tensor(8, 32, 32), qp=34, hevc=HEVC_PROFILES["fast"].latent, **three)
    # Cells are empty in every band, two tensors have one size, and neither columns nor clip range are the usual ones.
    uneven = {"further": (sparse(3, 8, 8), sparse(13, 2, 2)), "grid": TileGrid(2, 4), "split": 22}
    add("v3-three-uneven-raw", sparse(5, 8, 8), qp=RAW_QP, bits=3, clip=(-1.5, 6.25), stride=16, **uneven)
