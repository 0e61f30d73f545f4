"""Find the layout of a coded tensor's frame from images: gray levels, signs, steps and order of the channels.

Nothing is trained. Every channel's median becomes one gray level; channels that mostly move against the others are
turned in sign, and lie apart from them, about another gray; channels to which the detector's predictions are more
sensitive get finer steps; and the order puts channels that resemble each other side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform
from torch import Tensor

from featcodec.errors import InputError
from featcodec.images.letterbox import Letterbox
from featcodec.images.reading import read_image
from featcodec.networks.layouts import save_layout
from featcodec.packing.layout import Layout, LayoutConfig
from featcodec.packing.tiling import TileGrid
from featcodec.split_model import SplitModel
from featcodec.training.losses.distillation import BackEndOutput, prediction_matching, run_back_end

GRAY = 72 / 255
"""Where a channel's median comes to lie in the clip range: most channels have a long tail above it. Channels that are
turned in sign have theirs as far from the other end."""

_NOISE = 0.1
"""Standard deviation of the noise that sensitivity is measured with, in feature units."""

_SAMPLES_AN_IMAGE = 256
_CHANNELS_A_BATCH = 16

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayoutTask:
    """What to lay out.

    Attributes:
        detector: name or path.
        bottleneck: checkpoint, name of a shipped one, "auto", or "none" for latent coding.
        image_size: letterboxed longer side in pixels.
        sensitivity_images: so many of the images measure sensitivity, which is slow.
        weight: how far steps follow sensitivity: 0 not at all, 1 as high-rate theory has it, the square root.
        seed: of the noise.
    """

    detector: str | Path
    bottleneck: str | Path = "auto"
    image_size: int = 512
    sensitivity_images: int = 24
    weight: float = 0.5
    seed: int = 0


def find_layout(task: LayoutTask, images: Sequence[Path], output: Path) -> Layout:
    """Find a layout and write its checkpoint.

    Args:
        task: what to lay out.
        images: photographs, without labels; some hundred are plenty.
        output: the `.safetensors` file.

    Raises:
        FeatcodecError: bad input, or the file cannot be written.
    """
    if not images:
        raise InputError("no images; give some that the detector is made for")
    model = SplitModel.load(task.detector, task.bottleneck, device="cpu", half=False)
    samples, sensitivity = _statistics(task, model, images)
    config = LayoutConfig(
        model_fingerprint=model.fingerprint.hex(),
        split=model.split,
        clip_low=model.quantizer.low,
        clip_high=model.quantizer.high,
        training={**_describe(task), "images": len(images)},
    )
    layout = lay_out(config, samples, sensitivity**task.weight)
    save_layout(output, layout)
    return layout


def lay_out(config: LayoutConfig, samples: Array, weights: Array) -> Layout:
    """The layout for samples of the channels.

    Args:
        config: its clip range is that of the laid-out tensor.
        samples: (C, N), values that each channel takes at the same N places.
        weights: (C,), positive; what an error in each channel costs.
    """
    medians = np.median(samples, axis=1)
    signs = align_signs(samples)
    scale = signs * np.sqrt(weights / np.exp(np.log(weights).mean()))
    gray = np.where(signs > 0, GRAY, 1 - GRAY)
    offset = config.clip_low + gray * (config.clip_high - config.clip_low) - scale * medians
    order = _order((samples - medians[:, None]) * signs[:, None], signs)
    return Layout(config, order, scale[order].astype(np.float32), offset[order].astype(np.float32))


def align_signs(samples: Array) -> Array:
    """Signs, (C,) of 1 and -1, under which the channels of (C, N) samples correlate most; most of them are 1."""
    with np.errstate(invalid="ignore"):  # of a channel that never changes
        correlation = np.nan_to_num(np.atleast_2d(np.corrcoef(samples)))
    np.fill_diagonal(correlation, 0)
    signs = np.where(np.linalg.eigh(correlation)[1][:, -1] < 0, -1.0, 1.0)
    for _ in range(len(signs)):
        before = signs.copy()
        for channel, row in enumerate(correlation):
            signs[channel] = 1.0 if row @ signs >= 0 else -1.0
        if (before == signs).all():
            break
    return -signs if (signs < 0).sum() > len(signs) / 2 else signs


def _order(samples: Array, signs: Array) -> npt.NDArray[np.int64]:
    """Channels that resemble each other side by side, line by line there and back; those turned in sign come last."""
    groups = [np.flatnonzero(signs > 0), np.flatnonzero(signs < 0)]
    order = np.concatenate([group[_seriation(samples[group])] for group in groups if len(group)])
    columns = TileGrid.near_square(len(order)).cols
    rows = [order[start : start + columns] for start in range(0, len(order), columns)]
    return np.concatenate([row[::-1] if number % 2 else row for number, row in enumerate(rows)]).astype(np.int64)


def _seriation(samples: Array) -> npt.NDArray[np.int64]:
    """Optimal leaf ordering of a hierarchical clustering (Bar-Joseph et al., 2001) by mean squared difference."""
    if len(samples) < 2:
        return np.arange(len(samples))
    power = (samples**2).mean(1)
    distance = power[:, None] + power[None] - 2 * samples @ samples.T / samples.shape[1]
    condensed = squareform(np.maximum(distance, 0) * (1 - np.eye(len(samples))), checks=False)
    tree = optimal_leaf_ordering(linkage(condensed, "average"), condensed)
    return np.asarray(leaves_list(tree), dtype=np.int64)


def _statistics(task: LayoutTask, model: SplitModel, images: Sequence[Path]) -> tuple[Array, Array]:
    """Samples of the channels, (C, N), and each channel's sensitivity, (C,)."""
    chance = np.random.default_rng(task.seed)
    samples, sensitivities = [], []
    for number, features in enumerate(_features(task, model, images)):
        tensors = model.reduce(features)
        places = tensors[0].flatten(1)
        samples.append(places[:, chance.integers(places.shape[1], size=_SAMPLES_AN_IMAGE)].double().numpy())
        if number < task.sensitivity_images:
            sensitivities.append(_sensitivity(model, features, tensors, task.seed + number))
    return np.concatenate(samples, 1), np.maximum(np.mean(sensitivities, axis=0), 1e-6)


def _features(task: LayoutTask, model: SplitModel, images: Sequence[Path]) -> Iterator[Tensor]:
    """(1, C, H, W) of each image."""
    for path in images:
        picture = read_image(path)
        letterbox = Letterbox.fit(picture.shape[1], picture.shape[0], task.image_size)
        pixels = torch.from_numpy(letterbox.apply(picture)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            yield model.detector.front(pixels)


def _sensitivity(model: SplitModel, features: Tensor, tensors: Tensor, seed: int) -> Array:
    """By how much the predictions suffer when noise of one size is added to each channel alone, (C,)."""
    generator = torch.Generator().manual_seed(seed)
    channels = range(tensors.shape[1])
    found = []
    with torch.inference_mode():
        teacher = run_back_end(model.detector, features)
        for start in channels[::_CHANNELS_A_BATCH]:
            chosen = channels[start : start + _CHANNELS_A_BATCH]
            noisy = tensors.repeat(len(chosen), 1, 1, 1)
            for row, channel in enumerate(chosen):
                noisy[row, channel] += _NOISE * torch.randn(tensors.shape[2:], generator=generator)
            student = run_back_end(model.detector, model.expand(noisy))
            found += [float(prediction_matching(_row(student, row), teacher)) for row in range(len(chosen))]
    return np.array(found)


def _row(output: BackEndOutput, row: int) -> BackEndOutput:
    """One image of the back-end's output."""

    def only(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[row : row + 1]
        if isinstance(value, dict):
            return {name: only(each) for name, each in value.items()}
        return [only(each) for each in value]

    return BackEndOutput(only(output.neck), only(output.raw))


def _describe(task: LayoutTask) -> dict[str, Any]:
    """The task for a checkpoint's config, without paths and what the fingerprint says."""
    description = asdict(task)
    del description["bottleneck"]
    return {"stage": "layout", **description, "detector": Path(task.detector).name}
