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

from featcodec.bitstream import HEVC
from featcodec.codec import DEFAULT_QP, FeatureCodec
from featcodec.edge.encoder import FRAMES, PICTURES
from featcodec.edge.model_file import CLOUD_FILE, EDGE_FILE, FORMAT, MODEL_FILE, ModelFile
from featcodec.edge.onnx_files import MAX_ONNX_BYTES, check_onnx
from featcodec.edge.sessions import open_session
from featcodec.errors import InputError, WeightsError
from featcodec.evaluation.dataset import Dataset
from featcodec.export.accuracy import MOST_LOST, PYTORCH, Accuracies, Watch, measure_accuracy
from featcodec.export.graphs import OPSET, check_installed, onnx_of
from featcodec.export.halves import CLOUD_INPUTS, CloudHalf, EdgeHalf, frame_unit
from featcodec.export.int8 import INT8, quantized_edge, speed_ratio
from featcodec.export.verification import (
    MOST_DIFFERING,
    NOTHING,
    Agreement,
    check_pictures,
    check_predictions,
    compare_samples,
)
from featcodec.images.letterbox import MAX_IMAGE_SIZE
from featcodec.system.batching import cores
from featcodec.system.files import exists_error, write_atomically
from featcodec.system.folders import atomic_folder
from featcodec.version import __version__

FLOAT32 = "float32"
_ENDINGS = (".onnx", ".json")
_MOST_INT8 = 0.04
"""Of the range of the samples. Pictures like the camera's give 0.005 to 0.02."""
_LEAST_CONTRAST = 8.0
"""Standard deviation of a picture's numbers, of 256 levels. Photographs have some 50."""
_OTHER_PICTURES = "give some ten pictures like those of the camera to `calibrate`, or leave out `int8`"
_EXAMPLE = (2, 3, 4)
"""Batch, and sides in strides, of the example that torch.export follows: no two are equal, none is 1."""


@dataclass(frozen=True)
class Exported:
    """What was written, and how it compares with PyTorch.

    Attributes:
        model: the content of `model.json`.
        agreement: of the float32 edge with PyTorch.
        accuracy: AP50 by name (`PYTORCH`, float32, int8), if there was a set to measure it on.
        sizes: bytes of each file.
        int8_agreement: of the int8 edge with PyTorch, if it was asked for.
        int8_speed: how many times as fast as float32 the int8 edge is, on one core.
    """

    model: ModelFile
    agreement: Agreement
    accuracy: Accuracies | None
    sizes: dict[str, int]
    int8_agreement: Agreement | None = None
    int8_speed: float | None = None


@dataclass(frozen=True)
class Trial:
    """What an export is tried on.

    Attributes:
        pictures: to compare samples and predictions on; (height, width, 3) uint8 RGB, at least one, better four.
        dataset: images and annotations, if AP50 shall be compared.
        calibration: pictures like those of the camera, at least one, if the edge shall be quantized to int8.
    """

    pictures: Sequence[npt.NDArray[np.uint8]]
    dataset: Dataset | None = None
    calibration: Sequence[npt.NDArray[np.uint8]] | None = None


def export_codec(
    codec: FeatureCodec,
    folder: Path,
    trial: Trial,
    *,
    detector: str,
    default_qp: int = DEFAULT_QP,
    overwrite: bool = False,
    watch: Watch[Any] = iter,
) -> Exported:
    """Export a codec, compare the result with it, and write it.

    Args:
        codec: float32, on the CPU.
        folder: where `edge.onnx`, `cloud.onnx` and `model.json` go.
        trial: what the result is compared on.
        detector: the detector's name, for people.
        default_qp: what an edge uses if it is not told, 0 to 63.
        overwrite: replace an older exported model.
        watch: as in `measure_accuracy`.

    Raises:
        WeightsError: the ONNX files do not do what PyTorch does, or int8 makes other samples than rounding explains;
            then nothing is written.
        InputError: the codec is not in float32 on the CPU.
        OutputError: the folder cannot be written, or exists.
        FeatcodecError: a library of the extra `export` is not installed.
    """
    check_installed()
    if codec.model.device.type != "cpu" or codec.model.detector.dtype != torch.float32:
        raise InputError("only networks in float32 on the CPU can be exported; use `device` cpu, `precision` float32")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise exists_error(folder)
    with atomic_folder(folder, _ENDINGS, overwrite=overwrite) as part:  # it fails now if it will fail
        exported, files = _made(codec, trial, detector, default_qp, watch)
        for name, data in files.items():
            write_atomically(part / name, data)
    return exported


def _made(
    codec: FeatureCodec, trial: Trial, detector: str, default_qp: int, watch: Watch[Any]
) -> tuple[Exported, dict[str, bytes]]:
    """What `export_codec` returns, and the bytes of each file."""
    edge, cloud = make_edge(codec), make_cloud(codec)
    cloud_session, edges = open_session(cloud, cores()), {FLOAT32: open_session(edge, cores())}
    batches = check_pictures(codec, trial.pictures)
    agreement = compare_samples(codec, edges[FLOAT32], batches)
    _refuse_other_samples(agreement)
    check_predictions(codec, cloud_session, batches)
    int8_agreement, int8_speed = None, None
    if trial.calibration is not None:
        edge, int8_speed = _quantized(codec, edge, trial.calibration)
        edges[INT8] = open_session(edge, cores())
        int8_agreement = compare_samples(codec, edges[INT8], batches)
        _refuse_useless_int8(int8_agreement, codec.packing.quantizer.bits)
    accuracy = None
    if trial.dataset is not None:
        qp = min(default_qp, HEVC.max_qp)
        accuracy = measure_accuracy(codec, edges, cloud_session, trial.dataset, qp, watch)
        _refuse_other_accuracy(accuracy.uncoded)
    model = model_file_of(codec, detector, default_qp, [*edges][-1], edge, cloud)
    files = {EDGE_FILE: edge, CLOUD_FILE: cloud, MODEL_FILE: model.to_json()}
    sizes = {name: len(data) for name, data in files.items()}
    return Exported(model, agreement, accuracy, sizes, int8_agreement, int8_speed), files


def _quantized(codec: FeatureCodec, edge: bytes, calibration: Iterable[npt.NDArray[np.uint8]]) -> tuple[bytes, float]:
    """The edge in int8, and how many times as fast it is."""
    contrast, pictures = 0.0, []
    for picture in calibration:
        contrast = max(contrast, float(picture.std()))
        pictures.append(codec.letterbox(picture).pixels)
    if contrast < _LEAST_CONTRAST:
        raise WeightsError(
            f"pictures of a single colour (deviation {contrast:.0f} of 256 levels) do not show what a camera sees; "
            f"nothing is written; {_OTHER_PICTURES}"
        )
    made = quantized_edge(edge, pictures)
    _checked(made)
    return made, speed_ratio(open_session(edge, 1), open_session(made, 1), pictures[0])


def make_edge(codec: FeatureCodec) -> bytes:
    """`edge.onnx`, not compared with anything yet.

    Raises:
        WeightsError: torch.onnx cannot export the networks.
    """
    batch, rows, columns = _EXAMPLE
    stride = codec.model.detector.stride
    free_batch, free_rows, free_columns = _free_axes(stride)
    pictures = torch.zeros((batch, rows * stride, columns * stride, 3), dtype=torch.uint8)
    free = [{0: free_batch, 1: stride * free_rows, 2: stride * free_columns}]
    return _checked(onnx_of(EdgeHalf(codec).eval(), [pictures], free, [PICTURES], [FRAMES]))


def make_cloud(codec: FeatureCodec) -> bytes:
    """`cloud.onnx`, not compared with anything yet.

    Raises:
        WeightsError: torch.onnx cannot export the networks.
    """
    batch, rows, columns = _EXAMPLE
    high, wide = frame_unit(codec)
    free_batch, free_rows, free_columns = _free_axes(codec.model.detector.stride)
    frames = torch.zeros((batch, rows * high, columns * wide), dtype=torch.uint8)
    free = [{0: free_batch, 1: high * free_rows, 2: wide * free_columns}, {0: free_batch}]
    outputs = [f"output{number}" for number in range(1 + bool(codec.model.detector.task.masks))]  # ultralytics' names
    examples = [frames, torch.full((batch,), DEFAULT_QP)]
    return _checked(onnx_of(CloudHalf(codec).eval(), examples, free, CLOUD_INPUTS, outputs))


def _free_axes(stride: int) -> list[Any]:
    """Batch, and height and width in strides."""
    most = MAX_IMAGE_SIZE // stride
    limits = {"batch": {}, "rows": {"max": most}, "columns": {"max": most}}
    return [torch.export.Dim(name, min=1, **limit) for name, limit in limits.items()]


def _checked(data: bytes) -> bytes:
    check_onnx(data)
    if len(data) > MAX_ONNX_BYTES:
        raise WeightsError(f"an ONNX file of {len(data) >> 20} MiB is over the limit; use a smaller `detector`")
    return data


def model_file_of(
    codec: FeatureCodec, detector: str, default_qp: int, precision: str, edge: bytes, cloud: bytes
) -> ModelFile:
    """The content of `model.json`.

    Args:
        codec: what was exported.
        detector, default_qp: as in `export_codec`.
        precision: float32 or int8.
        edge, cloud: the bytes of the ONNX files.

    Raises:
        WeightsError: no edge would read it.
    """
    model, packing, task = codec.model, codec.packing, codec.model.detector.task
    stride = model.detector.stride
    tensors = tuple((channels, stride // width) for channels, _, width in model.tensor_shapes(stride, stride))
    made = ModelFile(
        format=FORMAT,
        featcodec=__version__,
        detector=detector,
        fingerprint=codec.fingerprint.hex(),
        precision=precision,
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
            f"differ, by up to {agreement.largest} (allowed: {MOST_DIFFERING:.2%}, by 1); {NOTHING}"
        )


def _refuse_useless_int8(agreement: Agreement, bits: int) -> None:
    apart = agreement.mean / (1 << bits)
    if apart > _MOST_INT8:
        raise WeightsError(
            f"the edge in int8 makes samples that differ by {apart:.0%} of their range in the mean (allowed: "
            f"{_MOST_INT8:.0%}); nothing is written; {_OTHER_PICTURES}"
        )


def _refuse_other_accuracy(accuracy: dict[str, float]) -> None:
    if not abs(accuracy[PYTORCH] - accuracy[FLOAT32]) <= MOST_LOST:
        raise WeightsError(
            f"AP50 is {accuracy[FLOAT32]:.2f} by ONNX and {accuracy[PYTORCH]:.2f} by PyTorch, which differ by over "
            f"{MOST_LOST}; {NOTHING}"
        )


def drawn_pictures(count: int) -> Sequence[npt.NDArray[np.uint8]]:
    """Street scenes to compare on, where nobody gave pictures."""
    from featcodec.scenes.scene import draw_scene  # noqa: PLC0415  (loads what most exports do not need)

    return [draw_scene(0, index).image for index in range(count)]
