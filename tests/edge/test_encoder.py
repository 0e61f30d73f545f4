"""EdgeEncoder: its streams are those of FeatureCodec, and it needs only what requirements-edge.txt names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_model import QP, SIDE, small_codec
from pictures import texture
from PIL import Image

from featcodec import FeatureCodec, bitstream
from featcodec.edge import EdgeEncoder
from featcodec.errors import BitstreamError, FeatcodecError, InputError, WeightsError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def codec() -> FeatureCodec:
    return small_codec()


@pytest.fixture(scope="module")
def encoder(exported_model: Path) -> EdgeEncoder:
    return EdgeEncoder.load(exported_model, threads=1)


@pytest.fixture
def copied(exported_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported_model, tmp_path / "copied"))


@pytest.mark.parametrize(("width", "height"), [(160, 120), (60, 90), (500, 20), (1, 1), (SIDE, SIDE)])
def test_streams_are_those_of_the_codec(codec: FeatureCodec, encoder: EdgeEncoder, width: int, height: int) -> None:
    picture = texture(width, height, seed=width)
    made, _ = bitstream.unpack(encoder.encode(picture, qp=33))
    wanted, _ = bitstream.unpack(codec.encode(picture, 33))
    assert made == wanted
    image = codec.letterbox(picture)
    frame = codec.front_end([image], 33)[0][1].astype(int)
    other = encoder.front_end([image], 33)[0][1].astype(int)
    assert np.abs(frame - other).max() <= 1
    assert np.count_nonzero(frame != other) <= max(1, frame.size // 1000)


def test_the_ordinary_decoder_takes_them(codec: FeatureCodec, encoder: EdgeEncoder) -> None:
    picture = texture(160, 120, seed=5)
    data = encoder.encode(Image.fromarray(picture))
    assert bitstream.unpack(data)[0].qp == QP == encoder.default_qp
    found = FeatureCodec.for_stream(data, device="cpu").decode(data)
    wanted = codec.decode(codec.encode(picture, QP))
    assert len(found.scores) == pytest.approx(len(wanted.scores), rel=0.2)
    assert (found.width, found.height) == (160, 120)
    best = min(5, len(wanted.scores))
    np.testing.assert_allclose(found.scores[:best], wanted.scores[:best], atol=0.02)


def test_attributes(encoder: EdgeEncoder, codec: FeatureCodec) -> None:
    assert encoder.standard is bitstream.HEVC
    assert (encoder.max_qp, encoder.image_size) == (51, SIDE)
    assert encoder.names == codec.model.detector.names
    assert encoder.fingerprint == codec.fingerprint
    assert "street" not in repr(encoder)
    assert codec.fingerprint.hex() in repr(encoder)


@pytest.mark.parametrize("qp", [-1, 52, 3.5, True and "30"])
def test_other_qps_are_refused(encoder: EdgeEncoder, qp: Any) -> None:
    with pytest.raises((InputError, TypeError)):
        encoder.encode(texture(64, 64), qp=qp)


def test_other_pictures_are_refused(encoder: EdgeEncoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        encoder.encode(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="uint8 RGB"):
        encoder.encode(np.zeros((4, 4), np.uint8))


def test_raw_samples_and_vvc(exported_model: Path, codec: FeatureCodec) -> None:
    picture = texture(90, 60)
    raw = EdgeEncoder.load(exported_model, video_codec="none").encode(picture)
    assert bitstream.unpack(raw)[0].is_raw
    assert len(codec.decode(raw).scores)
    vvc = EdgeEncoder.load(exported_model, video_codec="ffmpeg", threads=1)
    assert vvc.max_qp == 63
    wanted = replace(codec, video_codec=vvc.video_codec).encode(picture, 60)
    assert bitstream.unpack(vvc.encode(picture, 60))[0] == bitstream.unpack(wanted)[0]


def test_threads_share_an_encoder(encoder: EdgeEncoder) -> None:
    pictures = [texture(120 + 8 * number, 100, seed=number) for number in range(4)]
    wanted = [encoder.encode(picture) for picture in pictures]
    made: list[bytes] = [b""] * len(pictures)

    def encode(place: int) -> None:
        made[place] = encoder.encode(pictures[place])

    threads = [threading.Thread(target=encode, args=(place,)) for place in range(len(pictures))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == wanted


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.json: no such file"):
        EdgeEncoder.load(tmp_path / "nowhere")


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "model.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "edge.onnx").unlink(), "no such file"),
        (lambda folder: (folder / "edge.onnx").write_bytes(b"nonsense"), "SHA-256 differs"),
        (lambda folder: (folder / "model.json").write_text("[1]"), "not a JSON object"),
        (changed(lambda content: content.update(format=2)), "format 2"),
        (changed(lambda content: content.pop("split")), "has no split"),
    ],
)
def test_damaged_folders_are_refused(copied: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copied)
    with pytest.raises(WeightsError, match=message) as caught:
        EdgeEncoder.load(copied)
    assert "export the model again" in str(caught.value)


def test_a_network_that_contradicts_the_model_file_is_refused(copied: Path) -> None:
    changed(lambda content: content.update(tensors=[[20, 16]]))(copied)
    with pytest.raises(WeightsError, match=r"makes .* but model\.json says"):
        EdgeEncoder.load(copied).encode(texture(64, 64))


def test_a_frame_over_the_limit_is_refused_before_the_network_runs(copied: Path) -> None:
    changed(lambda content: content.update(image_size=4096, tensors=[[4096, 1]], tile_rows=64, tile_cols=64))(copied)
    with pytest.raises(BitstreamError, match="over the limit"):
        EdgeEncoder.load(copied).encode(texture(64, 64))


def test_other_video_codecs_are_refused(exported_model: Path) -> None:
    with pytest.raises(FeatcodecError, match="unknown video codec"):
        EdgeEncoder.load(exported_model, video_codec="av1")


ALONE = """
import importlib.abc, sys, sysconfig

allowed = set(sys.argv[3].split(","))
places = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]

class Refused(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root in sys.stdlib_module_names or root == "featcodec" or root in allowed:
            return None
        raise ImportError(f"{name} is not in requirements-edge.txt")

sys.meta_path.insert(0, Refused())
for name in ("torch", "scipy", "cv2"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} is not refused")
from featcodec.edge import EdgeEncoder
import numpy as np
encoder = EdgeEncoder.load(sys.argv[1], threads=1)
data = encoder.encode(sys.argv[2])
assert {"torch", "ultralytics"}.isdisjoint(sys.modules)
sys.stdout.buffer.write(data)
"""


def provided(part: str | None = None) -> set[str]:
    """Names of modules that requirements-edge.txt provides: all, or those of the part with that heading."""
    from importlib.metadata import packages_distributions

    text = (ROOT / "requirements-edge.txt").read_text()
    if part is not None:
        text = text.split(f"# {part}\n", 1)[1].split("\n\n", 1)[0]
    wanted = {match.lower() for match in re.findall(r"^([\w-]+)==", text, flags=re.MULTILINE)}
    return {module for module, names in packages_distributions().items() if wanted & {name.lower() for name in names}}


def test_an_encoder_needs_only_what_the_requirements_name(
    exported_model: Path, encoder: EdgeEncoder, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(texture(120, 80)).save(path)
    modules = provided("featcodec.edge.EdgeEncoder")
    assert {"numpy", "PIL", "av", "onnxruntime"} <= modules
    assert {"click", "rich", "websockets"} <= provided() - modules
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE, str(exported_model), str(path), ",".join(modules)],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    assert done.stdout == encoder.encode(path)


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.13"])
def test_the_requirements_are_exact_and_complete(python: str) -> None:
    """Each has the version of constraints.txt, and what it needs itself is there, too."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    def read(name: str) -> dict[str, str]:
        lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
        entries = [Requirement(line) for line in lines if line]
        return {
            canonicalize_name(each.name): str(each.specifier)
            for each in entries
            if each.marker is None or each.marker.evaluate({"python_version": python})
        }

    named, known = read("requirements-edge.txt"), read("constraints.txt")
    assert named.items() <= known.items()
    if python != f"{sys.version_info.major}.{sys.version_info.minor}":
        return  # other versions of these packages may need other packages
    for name in named:
        for text in requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"python_version": python, "extra": ""}):
                assert canonicalize_name(needed.name) in named, f"{name} needs {needed}"
