"""The AP50 of a codec in PyTorch and in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from featcodec.bitstream import RAW_QP, SideInfo
from featcodec.codec import FeatureCodec
from featcodec.detections import Detections
from featcodec.edge.encoder import run_edge
from featcodec.evaluation.coco import score
from featcodec.evaluation.dataset import Dataset
from featcodec.export.verification import detections_by_onnx
from featcodec.images.reading import read_image
from featcodec.packing.frames import Frame
from featcodec.video import open_video_codec

PYTORCH = "pytorch"
MOST_LOST = 0.1
"""By how much AP50 without coding may differ, in percentage points."""

T = TypeVar("T")
Watch = Callable[[Sequence[T]], Iterable[T]]


@dataclass(frozen=True)
class Accuracies:
    """AP50 in percent by name: of the codec, under `PYTORCH`, and of each edge with `cloud.onnx`, under its name.

    Attributes:
        uncoded: with frames that were not coded. Here, only the networks can differ.
        coded: with frames that x265 coded. One sample more or less can make it decide otherwise, so these differ by
            chance, too: by 0.09 on 60 drawn scenes.
    """

    uncoded: dict[str, float]
    coded: dict[str, float]


def measure_accuracy(
    codec: FeatureCodec, edges: Mapping[str, Any], cloud: Any, dataset: Dataset, qp: int, watch: Watch[Any] = iter
) -> Accuracies:
    """Measure AP50, with and without coding.

    Args:
        codec: float32, on the CPU.
        edges: `edge.onnx` in ONNX Runtime, by name.
        cloud: `cloud.onnx` in ONNX Runtime.
        dataset: images and annotations.
        qp: 0 to 51, for HEVC.
        watch: is given the images, and gives them back one by one: for a progress bar.

    Raises:
        InputError: an image cannot be read.
    """
    video = open_video_codec("hevc")
    uncoded: dict[str, list[dict[str, Any]]] = {name: [] for name in (PYTORCH, *edges)}
    coded: dict[str, list[dict[str, Any]]] = {name: [] for name in uncoded}
    category_ids = dataset.annotations.category_ids(codec.model.detector.names)

    def finish(name: str, side_info: SideInfo, frame: Frame) -> Detections:
        if name == PYTORCH:
            return codec.back_end([(side_info, frame)])[0]
        return detections_by_onnx(codec, cloud, side_info, frame)

    for source, image_id in watch(list(zip(dataset.sources, dataset.image_ids, strict=True))):
        image = codec.letterbox(read_image(source.path, ignore_exif=dataset.ignore_exif))
        ((side_info, wanted),) = codec.front_end([image], qp)
        raw, frames = replace(side_info, qp=RAW_QP), {PYTORCH: wanted}
        for name, edge in edges.items():
            (frames[name],) = run_edge(edge, image.pixels[np.newaxis], side_info.frame_shape)
        for name, stream in zip(frames, video.encode(list(frames.values()), qp), strict=True):
            decoded = video.decode(stream, side_info.frame_shape)
            uncoded[name] += finish(name, raw, frames[name]).to_coco(image_id, category_ids)
            coded[name] += finish(name, side_info, decoded).to_coco(image_id, category_ids)
    both = (
        {name: score(dataset.annotations, each).ap50 for name, each in results.items()} for results in (uncoded, coded)
    )
    return Accuracies(*both)
