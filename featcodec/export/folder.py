"""The folder of an exported model: made, compared with PyTorch, and written whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from featcodec.codec import DEFAULT_QP, FeatureCodec
from featcodec.edge.encoder import FRAMES, PICTURES
from featcodec.edge.model_file import CLOUD_FILE, EDGE_FILE, FORMAT, MODEL_FILE, ModelFile
from featcodec.edge.onnx_files import MAX_ONNX_BYTES, check_onnx
from featcodec.edge.sessions import open_session
from featcodec.errors import InputError, WeightsError
from featcodec.evaluation.dataset import Dataset
from featcodec.export.accuracy import MOST_LOST, PYTORCH, Watch, measure_accuracy
from featcodec.export.graphs import OPSET, check_installed, onnx_of
from featcodec.export.halves import CLOUD_INPUTS, CloudHalf, EdgeHalf, frame_unit
from featcodec.export.verification import (
    MOST_DIFFERING,
    Agreement,
    check_pictures,
    check_predictions,
    compare_samples,
)
from featcodec.images.letterbox import MAX_IMAGE_SIZE
from featcodec.system.batching import cores
from featcodec.system.files import exists_error
from featcodec.system.folders import atomic_folder
from featcodec.version import __version__
from featcodec.video import open_video_codec

FLOAT32 = "float32"
_ENDINGS = (".onnx", ".json")
_EXAMPLE = (2, 3, 4)
"""Batch, and sides in strides, of the example that torch.export follows: no two are equal, none is 1."""


@dataclass(frozen=True)
class Exported:
    """What was written, and how it compares with PyTorch.

    Attributes:
        model: the content of `model.json`.
        agreement: of `edge.onnx` with PyTorch.
        accuracy: AP50 in percent by name (`PYTORCH`, float32), if there was a set to measure it on.
        sizes: bytes of each file.
    """

    model: ModelFile
    agreement: Agreement
    accuracy: dict[str, float]
    sizes: dict[str, int]


def export_codec(
    codec: FeatureCodec,
    folder: Path,
    pictures: Iterable[npt.NDArray[np.uint8]],
    *,
    detector: str,
    default_qp: int = DEFAULT_QP,
    dataset: Dataset | None = None,
    overwrite: bool = False,
    watch: Watch[Any] = iter,
) -> Exported:
    """Export a codec, compare the result with it, and write it.

    Args:
        codec: float32, on the CPU.
        folder: where `edge.onnx`, `cloud.onnx` and `model.json` go.
        pictures: to compare samples and predictions on; (height, width, 3) uint8 RGB, at least one.
        detector: the detector's name, for people.
        default_qp: what an edge uses if it is not told, 0 to 63.
        dataset: images and annotations for AP50, if it shall be compared.
        overwrite: replace an older exported model.
        watch: as in `measure_accuracy`.

    Raises:
        WeightsError: the ONNX files do not do what PyTorch does; then nothing is written.
        InputError: the codec is not in float32 on the CPU.
        OutputError: the folder cannot be written, or exists.
        FeatcodecError: a library of the extra `export` is not installed.
    """
    check_installed()
    if codec.model.device.type != "cpu" or codec.model.detector.dtype != torch.float32:
        raise InputError(
            "only networks in float32 on the CPU can be exported; use `device` cpu and `precision` float32"
        )
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise exists_error(folder)
    edge, cloud = make_graphs(codec)
    edge_session, cloud_session = (open_session(each, cores()) for each in (edge, cloud))
    batches = check_pictures(codec, pictures)
    agreement = compare_samples(codec, edge_session, batches)
    _refuse_other_samples(agreement)
    check_predictions(codec, cloud_session, batches)
    accuracy: dict[str, float] = {}
    if dataset is not None:
        qp = min(default_qp, open_video_codec("hevc").standard.max_qp)
        accuracy = measure_accuracy(codec, {FLOAT32: edge_session}, cloud_session, dataset, qp, watch)
        _refuse_other_accuracy(accuracy)
    model = _model_file(codec, detector, default_qp, edge, cloud)
    files = {EDGE_FILE: edge, CLOUD_FILE: cloud, MODEL_FILE: model.to_json()}
    _write(folder, files, overwrite=overwrite)
    return Exported(model, agreement, accuracy, {name: len(data) for name, data in files.items()})


def make_graphs(codec: FeatureCodec) -> tuple[bytes, bytes]:
    """`edge.onnx` and `cloud.onnx`, not compared with anything yet.

    Raises:
        WeightsError: torch.onnx cannot export the networks.
    """
    batch, rows, columns = _EXAMPLE
    stride = codec.model.detector.stride
    high, wide = frame_unit(codec)
    free_batch = torch.export.Dim("batch", min=1)
    free_rows, free_columns = (
        torch.export.Dim(name, min=1, max=MAX_IMAGE_SIZE // stride) for name in ("rows", "columns")
    )
    pictures = torch.zeros((batch, rows * stride, columns * stride, 3), dtype=torch.uint8)
    edge = onnx_of(
        EdgeHalf(codec).eval(),
        [pictures],
        [{0: free_batch, 1: stride * free_rows, 2: stride * free_columns}],
        [PICTURES],
        [FRAMES],
    )
    frames = torch.zeros((batch, rows * high, columns * wide), dtype=torch.uint8)
    outputs = 1 + bool(codec.model.detector.task.masks)
    cloud = onnx_of(
        CloudHalf(codec).eval(),
        [frames, torch.full((batch,), DEFAULT_QP)],
        [{0: free_batch, 1: high * free_rows, 2: wide * free_columns}, {0: free_batch}],
        CLOUD_INPUTS,
        [f"output{number}" for number in range(outputs)],  # ultralytics' names
    )
    for data in (edge, cloud):
        check_onnx(data)
        if len(data) > MAX_ONNX_BYTES:
            raise WeightsError(f"an ONNX file of {len(data) >> 20} MiB is over the limit; use a smaller `detector`")
    return edge, cloud


def _model_file(codec: FeatureCodec, detector: str, default_qp: int, edge: bytes, cloud: bytes) -> ModelFile:
    model, packing, task = codec.model, codec.packing, codec.model.detector.task
    stride = model.detector.stride
    tensors = tuple((channels, stride // width) for channels, _, width in model.tensor_shapes(stride, stride))
    made = ModelFile(
        format=FORMAT,
        featcodec=__version__,
        detector=detector,
        fingerprint=codec.fingerprint.hex(),
        precision=FLOAT32,
        bottleneck=model.bottleneck is not None,
        split=model.split,
        stride=stride,
        image_size=codec.image_size,
        square=codec.square,
        tensors=tensors,
        tile_rows=packing.grid.rows,
        tile_cols=packing.grid.cols,
        clip_low=packing.quantizer.low,
        clip_high=packing.quantizer.high,
        bits=packing.quantizer.bits,
        default_qp=default_qp,
        names=model.detector.names,
        masks=task.masks,
        keypoints=task.keypoints,
        needs_nms=task.needs_nms,
        opset=OPSET,
        edge_sha256=hashlib.sha256(edge).hexdigest(),
        cloud_sha256=hashlib.sha256(cloud).hexdigest(),
    )
    # What an edge would refuse must not be written.
    if ModelFile.from_json(made.to_json()) != made:
        raise WeightsError(f"{detector}: its model file does not come back as it was; use another `detector`")
    return made


def _refuse_other_samples(agreement: Agreement) -> None:
    if not agreement.is_rounding:
        raise WeightsError(
            f"the edge's ONNX file makes other samples than PyTorch: {agreement.differing} of {agreement.samples} "
            f"differ, by up to {agreement.largest} (allowed: {MOST_DIFFERING:.2%}, by 1); nothing is written; use "
            "another `bottleneck` or `detector`"
        )


def _refuse_other_accuracy(accuracy: dict[str, float]) -> None:
    if not abs(accuracy[PYTORCH] - accuracy[FLOAT32]) <= MOST_LOST:
        raise WeightsError(
            f"AP50 is {accuracy[FLOAT32]:.2f} by ONNX and {accuracy[PYTORCH]:.2f} by PyTorch, which differ by over "
            f"{MOST_LOST}; nothing is written; give more images to `verify`"
        )


def _write(folder: Path, files: dict[str, bytes], *, overwrite: bool) -> None:
    with atomic_folder(folder, _ENDINGS, overwrite=overwrite) as part:
        for name, data in files.items():
            (part / name).write_bytes(data)


def drawn_pictures(count: int) -> Sequence[npt.NDArray[np.uint8]]:
    """Street scenes to compare on, where nobody gave pictures."""
    from featcodec.scenes.scene import draw_scene  # noqa: PLC0415  (loads what most exports do not need)

    return [draw_scene(0, index).image for index in range(count)]
