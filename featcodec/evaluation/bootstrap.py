"""Confidence intervals of AP50: the percentile bootstrap over images (Efron and Tibshirani, 1993).

An interval says how much AP50 would change with other images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools.cocoeval import COCOeval

_IOU = 0.5
_COVERED = (2.5, 97.5)
_CHUNK = 256
"""Number of resamples that are computed at once. This limits the memory."""


@dataclass(frozen=True)
class Interval:
    """The range that holds 95 % of the resampled AP50 values, in percent 0..100.

    Attributes:
        low, high: the ends of the range; NaN where no resample holds an annotated box.
    """

    low: float
    high: float


def ap50_interval(evaluation: COCOeval | None, resamples: int, seed: int = 0) -> Interval:
    """Compute the 95 % bootstrap interval of AP50 over images.

    Each resample draws as many images as the set has, with replacement. Its AP50 is what pycocotools computes for the
    drawn images.

    Args:
        evaluation: what `featcodec.evaluation.coco.match_boxes` returned.
        resamples: number of resamples, at least 1.
        seed: seed of the random draws.
    """
    if evaluation is None:
        return Interval(0.0, 0.0)
    images = len(evaluation.params.imgIds)
    random = np.random.default_rng(seed)
    values = []
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        values.append(resampled_ap50(evaluation, random.multinomial(images, [1 / images] * images, count)))
    finite = [value for value in np.concatenate(values) if np.isfinite(value)]
    if not finite:
        return Interval(float("nan"), float("nan"))
    low, high = np.percentile(finite, _COVERED)
    return Interval(float(low), float(high))


def resampled_ap50(evaluation: COCOeval, weights: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Compute AP50 where an image can count several times or not at all.

    Args:
        evaluation: an evaluation on which `evaluate` has run.
        weights: (R, images): how often each image counts in each of R resamples, in the order of `params.imgIds`.

    Returns:
        (R,) percent 0..100; NaN where no annotated box is left.
    """
    categories = len(evaluation.params.catIds)
    images = len(evaluation.params.imgIds)
    by_category = np.array(evaluation.evalImgs, dtype=object).reshape(categories, -1, images)
    thresholds = evaluation.params.recThrs
    iou = int(np.flatnonzero(np.isclose(evaluation.params.iouThrs, _IOU))[0])
    total, present = np.zeros(len(weights)), np.zeros(len(weights))
    for matched in by_category[:, 0]:  # boxes of all areas
        boxes = np.array([0 if image is None else np.sum(np.equal(image["gtIgnore"], 0)) for image in matched])
        truths = weights @ boxes
        if not boxes.any():
            continue
        present += truths > 0
        found = [(number, image) for number, image in enumerate(matched) if image is not None and image["dtScores"]]
        if not found:
            continue
        scores = np.concatenate([image["dtScores"] for _, image in found])
        order = np.argsort(-scores, kind="mergesort")  # the same sort as pycocotools
        owner = np.repeat([number for number, _ in found], [len(image["dtScores"]) for _, image in found])[order]
        hit = np.concatenate([image["dtMatches"][iou] > 0 for _, image in found])[order]
        counts = ~np.concatenate([image["dtIgnore"][iou].astype(bool) for _, image in found])[order]
        # An image that is drawn n times has n equal detections in a row. If they are hits, the last one has the
        # highest precision and recall. If they are misses, the first one has. So the envelope needs only the two ends.
        drawn = weights[:, owner]
        hits, misses = np.cumsum(drawn * (hit & counts), axis=1), np.cumsum(drawn * (~hit & counts), axis=1)
        precision = hits / np.maximum(hits + misses, 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for resample in np.flatnonzero(truths):
            reached = np.searchsorted(hits[resample] / truths[resample], thresholds, side="left")
            inside = reached[reached < len(scores)]
            total[resample] += envelope[resample, inside].sum() / len(thresholds)
    with np.errstate(invalid="ignore"):
        return np.where(present > 0, 100 * total / present, np.nan)
