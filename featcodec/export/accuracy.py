"""The AP50 of a codec in PyTorch and in ONNX, through real coding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from featcodec.codec import FeatureCodec
from featcodec.detections import Detections
from featcodec.edge.encoder import run_edge
from featcodec.evaluation.coco import score
from featcodec.evaluation.dataset import Dataset
from featcodec.export.verification import detections_by_onnx
from featcodec.images.reading import read_image
from featcodec.video import open_video_codec

PYTORCH = "pytorch"
MOST_LOST = 0.1
"""By how much the AP50 of an export may differ, in percentage points."""

T = TypeVar("T")
Watch = Callable[[Sequence[T]], Iterable[T]]


def measure_accuracy(
    codec: FeatureCodec, edges: Mapping[str, Any], cloud: Any, dataset: Dataset, qp: int, watch: Watch[Any] = iter
) -> dict[str, float]:
    """AP50 in percent: of the codec, under `PYTORCH`, and of each edge with `cloud.onnx`, under its name.

    Every frame is coded as HEVC (x265), decoded, and finished.

    Args:
        codec: float32, on the CPU.
        edges: `edge.onnx` in ONNX Runtime, by name.
        cloud: `cloud.onnx` in ONNX Runtime.
        dataset: images and annotations.
        qp: 0 to 51.
        watch: is given the images, and gives them back one by one: for a progress bar.

    Raises:
        InputError: an image cannot be read.
    """
    video = open_video_codec("hevc")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in (PYTORCH, *edges)}
    category_ids = dataset.annotations.category_ids(codec.model.detector.names)
    for source, image_id in watch(list(zip(dataset.sources, dataset.image_ids, strict=True))):
        image = codec.letterbox(read_image(source.path, ignore_exif=dataset.ignore_exif))
        ((side_info, wanted),) = codec.front_end([image], qp)
        frames = {PYTORCH: wanted}
        for name, edge in edges.items():
            (frames[name],) = run_edge(edge, image.pixels[np.newaxis], side_info.frame_shape)
        coded = video.encode(list(frames.values()), qp)
        for name, stream in zip(frames, coded, strict=True):
            decoded = side_info, video.decode(stream, side_info.frame_shape)
            found: Detections = (
                codec.back_end([decoded])[0] if name == PYTORCH else detections_by_onnx(codec, cloud, *decoded)
            )
            results[name] += found.to_coco(image_id, category_ids)
    return {name: score(dataset.annotations, each).ap50 for name, each in results.items()}
