"""Find a layout from images: gray levels, signs, steps and order of the channels in the frame.

Nothing is trained. The median of every channel becomes one gray level. Channels that mostly move against the others get
the opposite sign; they are placed apart from the others and have another gray level. Channels to which the detector's
predictions are more sensitive get finer steps. The order puts channels that resemble each other side by side.
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
from featcodec.images.reading import reading
from featcodec.networks.features import Features
from featcodec.networks.layouts import save_layout
from featcodec.packing.layout import Layout, LayoutConfig
from featcodec.packing.tiling import TileGrid
from featcodec.split_model import SplitModel
from featcodec.training.losses.distillation import BackEndOutput, prediction_matching, run_back_end
from featcodec.training.setup import check_one_tensor, tensor_of

GRAY = 72 / 255
"""Position of a channel's median in the clip range. Most channels have a long tail above the median. For channels with
the opposite sign, the median has the same distance from the other end of the range."""

_NOISE = 0.1
"""Standard deviation of the noise that measures sensitivity, in feature units."""

_SAMPLES_AN_IMAGE = 256
_CHANNELS_A_BATCH = 16

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayoutTask:
    """What to find a layout for.

    Attributes:
        detector: name or path.
        bottleneck: checkpoint, name of a shipped one, "auto", or "none" for latent coding.
        image_size: longer side of the letterboxed image in pixels.
        sensitivity_images: number of images on which sensitivity is measured, which is slow.
        weight: how strongly steps follow sensitivity. 0 means not at all; 1 means by its square root, as in high-rate
            theory.
        seed: seed of the noise.
        split: for latent coding, the last layer of the front-end; None means the default of the detector.
    """

    detector: str | Path
    bottleneck: str | Path = "auto"
    image_size: int = 512
    sensitivity_images: int = 24
    weight: float = 0.5
    seed: int = 0
    split: int | None = None


def find_layout(task: LayoutTask, images: Sequence[Path], output: Path, *, overwrite: bool = True) -> Layout:
    """Find a layout and write its checkpoint.

    Args:
        task: what to find a layout for.
        images: images without labels; a few hundred are enough.
        output: the `.safetensors` file.
        overwrite: replace a file that exists.

    Raises:
        FeatcodecError: bad input, several tensors that cross the wire, or the file cannot be written.
    """
    if not images:
        raise InputError("no images; give images of the kind that the detector is made for")
    model = SplitModel.load(task.detector, task.bottleneck, split=task.split, device="cpu", half=False)
    check_one_tensor(model, "a layout")
    samples, sensitivity = _statistics(task, model, images)
    config = LayoutConfig(
        model_fingerprint=model.fingerprint.hex(),
        split=model.split,
        clip_low=model.quantizer.low,
        clip_high=model.quantizer.high,
        training={**_describe(task), "images": len(images)},
    )
    layout = lay_out(config, samples, sensitivity**task.weight)
    save_layout(output, layout, overwrite=overwrite)
    return layout


def lay_out(config: LayoutConfig, samples: Array, weights: Array) -> Layout:
    """The layout for samples of the channels.

    Args:
        config: config of the layout; its clip range applies to the tensor after the layout.
        samples: (C, N), the values of each channel at the same N places.
        weights: (C,), positive; the cost of an error in each channel.
    """
    medians = np.median(samples, axis=1)
    signs = align_signs(samples)
    scale = signs * np.sqrt(weights / np.exp(np.log(weights).mean()))
    gray = np.where(signs > 0, GRAY, 1 - GRAY)
    offset = config.clip_low + gray * (config.clip_high - config.clip_low) - scale * medians
    order = _order((samples - medians[:, None]) * signs[:, None], signs)
    return Layout(config, order, scale[order].astype(np.float32), offset[order].astype(np.float32))


def align_signs(samples: Array) -> Array:
    """The signs, (C,) of 1 and -1, with which the channels of (C, N) samples correlate most. Most signs are 1."""
    with np.errstate(invalid="ignore"):  # a channel that never changes has no correlation
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
    """An order with similar channels side by side. Every second row runs backwards; channels of sign -1 come last."""
    groups = [np.flatnonzero(signs > 0), np.flatnonzero(signs < 0)]
    order = np.concatenate([group[_seriation(samples[group])] for group in groups if len(group)])
    columns = TileGrid.near_square(len(order)).cols
    rows = [order[start : start + columns] for start in range(0, len(order), columns)]
    return np.concatenate([row[::-1] if number % 2 else row for number, row in enumerate(rows)]).astype(np.int64)


def _seriation(samples: Array) -> npt.NDArray[np.int64]:
    """Optimal leaf ordering (Bar-Joseph et al., 2001) of a hierarchical clustering by mean squared difference."""
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
        tensors = tensor_of(model, features)
        places = tensors[0].flatten(1)
        samples.append(places[:, chance.integers(places.shape[1], size=_SAMPLES_AN_IMAGE)].double().numpy())
        if number < task.sensitivity_images:
            sensitivities.append(_sensitivity(model, features, tensors, task.seed + number))
    return np.concatenate(samples, 1), np.maximum(np.mean(sensitivities, axis=0), 1e-6)


def _features(task: LayoutTask, model: SplitModel, images: Sequence[Path]) -> Iterator[Features]:
    """(1, C, H, W) of each image, or a tuple with such a tensor per level."""
    for path in images:
        with reading(path) as picture:
            letterbox = Letterbox.fit(picture.shape[1], picture.shape[0], task.image_size)
            small = letterbox.apply(picture)
        del picture
        pixels = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            yield model.detector.front(pixels)


def _sensitivity(model: SplitModel, features: Features, tensors: Tensor, seed: int) -> Array:
    """How much the predictions suffer when the same amount of noise is added to one channel at a time, (C,)."""
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
    """The task for a checkpoint's config, without paths and without what the fingerprint names."""
    description = asdict(task)
    del description["bottleneck"], description["split"]
    return {"stage": "layout", **description, "detector": Path(task.detector).name}
