"""How well detections through exported edges agree with the uncoded detector, on images without labels.

    .venv/bin/python benchmarks/edge_agreement.py SRC DETECTOR --model DIR [--model DIR] [--count N] [--qp LIST]

The truth is what the uncoded detector finds, without any bottleneck, with a score of at least 0.25. The images are
coded in HEVC by each model and decoded in float32. The standard error of the difference to the first model is from a
bootstrap over the images (500 resamples, seed 0).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featcodec import FeatureCodec
from featcodec.bitstream import unpack
from featcodec.cli.console import print_table
from featcodec.detections import BoxFilter
from featcodec.detections.boxes import default_category_ids
from featcodec.edge.encoder import EdgeEncoder
from featcodec.evaluation.bootstrap import resampled_ap50
from featcodec.evaluation.coco import match_boxes
from featcodec.images.annotations import Annotations
from featcodec.images.reading import IMAGE_SUFFIXES
from featcodec.system.paths import expand_sources

SURE = 0.25
RESAMPLES = 500


def truth_of(detector: str, images: Sequence[Path]) -> Annotations:
    """What the uncoded detector finds."""
    codec = FeatureCodec.load(detector, bottleneck=None, device="cpu", boxes=BoxFilter(conf=SURE))
    rows = [row for number, path in enumerate(images) for row in codec.detect(path).to_coco(number)]
    categories = default_category_ids(codec.model.detector.names).values()
    content = {
        "images": [{"id": number} for number in range(len(images))],
        "annotations": rows,
        "categories": [{"id": category, "name": str(category)} for category in categories],
    }
    return Annotations(Path("uncoded"), content)


def rows_of(codec: FeatureCodec, streams: Sequence[bytes]) -> list[dict[str, Any]]:
    """Detections as COCO results, without what would name the classes."""
    wanted = ("image_id", "category_id", "bbox", "score")
    found = [row for number, data in enumerate(streams) for row in codec.decode(data).to_coco(number)]
    return [{name: row[name] for name in wanted} for row in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("detector")
    parser.add_argument("--model", action="append", required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--qp", default="34,38,42,46")
    arguments = parser.parse_args()
    images = [source.path for source in expand_sources([arguments.source], IMAGE_SUFFIXES, "images")[: arguments.count]]
    truth = truth_of(arguments.detector, images)
    encoders = {folder: EdgeEncoder.load(folder, threads=1) for folder in arguments.model}
    codec: FeatureCodec | None = None
    count = len(images)
    drawn = np.random.default_rng(0).multinomial(count, [1 / count] * count, RESAMPLES)
    weights = np.concatenate([np.ones((1, count), np.int64), drawn])
    rows = []
    for qp in map(int, arguments.qp.split(",")):
        first = None
        for folder, encoder in encoders.items():
            streams = [encoder.encode(path, qp) for path in images]
            codec = codec or FeatureCodec.for_stream(
                streams[0], arguments.detector, device="cpu", boxes=BoxFilter(conf=0.01, max_det=100)
            )
            sides = [unpack(data)[0] for data in streams]
            bits = 8 * sum(map(len, streams)) / sum(side.original_width * side.original_height for side in sides)
            accuracies = resampled_ap50(match_boxes(truth, rows_of(codec, streams)), weights)
            first = accuracies if first is None else first
            apart = accuracies - first
            error = "" if first is accuracies else f"{apart[0]:+.2f} +- {float(np.nanstd(apart[1:])):.2f}"
            rows.append((str(qp), folder, encoder.model.precision, f"{bits:.4f}", f"{accuracies[0]:.2f}", error))
    columns = ("QP", "model", "precision", "bpp", "AP50 of agreement", "against the first")
    print_table(f"{count} images, {len(truth.content['annotations'])} boxes", columns, rows)


if __name__ == "__main__":
    main()
