"""Exported models: both halves equal PyTorch for every kind of network, and what does not is not written."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_model import QP, SIDE, export_small, small_codec
from make_families import make_family, save_family
from pictures import texture

from featcodec import FeatureCodec, bitstream
from featcodec.edge import EdgeEncoder
from featcodec.edge.encoder import run_edge
from featcodec.edge.model_file import read_model_file
from featcodec.edge.sessions import open_session
from featcodec.errors import FeatcodecError, InputError, OutputError, WeightsError
from featcodec.export import folder as folder_module
from featcodec.export.folder import FLOAT32, Trial, export_codec, make_cloud, make_edge, model_file_of
from featcodec.export.verification import run_cloud
from featcodec.networks.bottleneck import Bottleneck, BottleneckConfig, save_bottleneck
from featcodec.split_model import SplitModel


def check(codec: FeatureCodec, folder: Path) -> None:
    """Export, then run the folder as an edge and as a cloud do. `export_codec` itself compares the samples."""
    exported = export_small(codec, folder)
    assert exported.agreement.is_rounding
    model = read_model_file(folder / "model.json")
    assert model == exported.model
    for name in ("edge", "cloud"):
        data = (folder / f"{name}.onnx").read_bytes()
        assert hashlib.sha256(data).hexdigest() == getattr(model, f"{name}_sha256")
    picture = texture(100, 70, seed=3)
    encoder = EdgeEncoder.load(folder, threads=1)
    data = encoder.encode(picture)
    assert bitstream.unpack(data)[0] == bitstream.unpack(codec.encode(picture, QP))[0]
    codec.decode(data)
    _, frame = codec.decode_frame(data)
    cloud = open_session((folder / "cloud.onnx").read_bytes(), 1)
    values, *prototypes = cloud.run(None, {"frames": frame[np.newaxis], "qp": np.array([QP])})
    assert [each.name for each in cloud.get_outputs()] == ["output0", "output1"][: 1 + len(prototypes)]
    task = codec.model.detector.task
    assert values.shape[:2] == (1, 4 + len(model.names) + task.further)
    assert (model.masks, model.keypoints, model.needs_nms) == (task.masks, task.keypoints, task.needs_nms)
    assert len(prototypes) == bool(task.masks)


@pytest.mark.slow
def test_a_bottleneck_with_a_restoration(tmp_path: Path) -> None:
    codec = small_codec()
    assert codec.restoration is not None
    check(codec, tmp_path / "model")


@pytest.mark.slow
def test_latent_coding_with_a_layout(yolov5n_path: Path, tmp_path: Path) -> None:
    codec = small_codec(yolov5n_path, "none")
    assert codec.packing.layout is not None
    check(replace(codec, square=True), tmp_path / "model")


@pytest.mark.slow
def test_a_decoder_that_knows_the_qp(tmp_path: Path) -> None:
    codec = small_codec("scenes", "alley")
    assert codec.model.bottleneck is not None
    assert codec.model.bottleneck.config.decoder_knows_qp
    check(codec, tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("split", [10, 17])
def test_several_tensors(split: int, tmp_path: Path) -> None:
    codec = small_codec("scenes11", "none", split=split, bits=7)
    assert codec.packing.further
    check(codec, tmp_path / "model")


@pytest.mark.slow
def test_a_bottleneck_that_fuses_levels(tmp_path: Path) -> None:
    model = SplitModel.load("scenes11", "none", split=10, device="cpu")
    levels = model.detector.levels
    torch.manual_seed(0)
    config = BottleneckConfig(
        feature_channels=sum(level.channels for level in levels),
        hidden_channels=16,
        channels=10,
        clip_low=-3,
        clip_high=3,
        split=10,
        detector_fingerprint=model.detector.fingerprint.hex(),
        training={},
        decoder_knows_qp=True,
        level_channels=tuple(level.channels for level in levels),
        level_scales=tuple(level.scale for level in levels),
        fusion_scale=1,
    )
    save_bottleneck(tmp_path / "fusing.safetensors", Bottleneck(config))
    check(small_codec("scenes11", tmp_path / "fusing.safetensors"), tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "settings"),
    [("yolo11n-seg", {}), ("yolov8n-pose", {}), ("yolo12n", {"split": 8}), ("yolo26n", {"nms": False})],
)
def test_families(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """Their weights are random, and amplify the rounding of sums: so most of the numbers are compared, not all."""
    codec = small_codec(save_family(tmp_path / "a.pt", make_family(family)), "none", **settings)
    edge, cloud = open_session(make_edge(codec), 1), open_session(make_cloud(codec), 1)
    batch = [codec.letterbox(texture(120, 80, seed)) for seed in range(3)]
    coded = codec.front_end(batch, QP)
    wanted = np.stack([frame for _, frame in coded])
    made = np.stack(run_edge(edge, np.stack([image.pixels for image in batch]), wanted.shape[1:]))
    assert np.mean(made != wanted) < 0.01
    values, *prototypes = run_cloud(cloud, coded)
    task = codec.model.detector.task
    assert (values.shape[:2], len(prototypes)) == ((3, task.rows), bool(task.masks))
    predictions = codec.model.predict(codec.decoded_tensors(coded), torch.full((3,), float(QP)))
    assert np.median(np.abs(values - predictions.values.numpy())) < 1e-3
    for own, other in zip(prototypes, [predictions.prototypes], strict=False):
        assert other is not None
        assert np.median(np.abs(own - other.numpy())) < 1e-3
    model = model_file_of(codec, family, QP, FLOAT32, b"", b"")
    assert (model.masks, model.keypoints, model.needs_nms) == (task.masks, task.keypoints, task.needs_nms)


@pytest.mark.slow
def test_int8_names_the_same_networks(tmp_path: Path) -> None:
    codec = small_codec()
    pictures = [texture(SIDE, SIDE, seed) for seed in range(4)]
    exported = export_codec(codec, tmp_path / "model", Trial(pictures, calibration=pictures[:2]), detector="small")
    assert exported.model.precision == "int8"
    assert exported.int8_agreement is not None
    assert 0 < exported.int8_agreement.mean < 20
    assert (exported.int8_speed or 0) > 0
    encoder = EdgeEncoder.load(tmp_path / "model", threads=1)
    assert encoder.fingerprint == codec.fingerprint
    assert len(codec.decode(encoder.encode(pictures[3], 20)).scores)


@pytest.mark.slow
def test_what_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ONNX file of other weights: of another bottleneck of the same shapes."""
    codec = small_codec()
    other = small_codec("scenes", "alley")
    of_other = folder_module.make_edge(other)
    monkeypatch.setattr(folder_module, "make_edge", lambda _: of_other)
    monkeypatch.setattr(folder_module, "make_cloud", lambda _: of_other)
    with pytest.raises(WeightsError, match=r"makes other samples than PyTorch: .* nothing is written"):
        export_small(codec, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        export_small(small_codec(), tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_other_precisions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="float32 on the CPU"):
        export_small(small_codec(precision="bfloat16"), tmp_path / "model")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(FeatcodecError, match=r"onnxscript.*featcodec\[export\]"):
        export_small(small_codec(), tmp_path / "model")


@pytest.mark.parametrize("place", ["file", "file/model", "/", "/proc/none", "with_other_things"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, place: str, overwrite: bool, monkeypatch: Any
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "with_other_things").mkdir()
    (tmp_path / "with_other_things/thesis.pdf").touch()
    monkeypatch.setattr(folder_module, "make_edge", lambda codec: pytest.fail("the work began"))
    trial = Trial([texture(160, 120)])
    with pytest.raises(OutputError, match=r"choose another `output`|use `overwrite`"):
        export_codec(small_codec(), tmp_path / place, trial, detector="small", overwrite=overwrite)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "thesis.pdf", "with_other_things"]


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 114])
def test_pictures_that_say_nothing_do_not_calibrate(tmp_path: Path, level: int) -> None:
    """The ranges of the layers would cut off all that a camera sees."""
    gray = np.full((SIDE, SIDE, 3), level, np.uint8)
    trial = Trial([texture(160, 120, seed) for seed in range(4)], calibration=[gray, gray])
    with pytest.raises(WeightsError, match=r"of a single colour .* nothing is written; .* `calibrate`"):
        export_codec(small_codec(), tmp_path / "model", trial, detector="small")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_int8_edge_that_makes_other_samples_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "_MOST_INT8", 0.001)
    textures = [texture(160, 120, seed) for seed in range(4)]
    trial = Trial(textures, calibration=textures)
    with pytest.raises(WeightsError, match=r"int8 makes samples .* nothing is written; .* `calibrate`"):
        export_codec(small_codec(), tmp_path / "model", trial, detector="small")
    assert list(tmp_path.iterdir()) == []
