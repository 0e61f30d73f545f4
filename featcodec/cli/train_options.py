"""Options that the training stages share, as tuples that a stage puts together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from featcodec.cli.options import detector_option, encoder_params_option, layout_option, preset_option, profile_option

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)

LABELLED_OPTIONS = (
    click.option("--annotations", type=PATH, help="COCO annotation file; needs --images."),
    click.option("--images", type=PATH, help="Folder with the images of --annotations."),
    click.option("--data", type=PATH, help="ultralytics data YAML, instead of --annotations and --images."),
)
UNLABELLED_OPTIONS = (
    click.option("--unlabelled", multiple=True, metavar="SRC", help="Photographs without labels; may be repeated."),
)
SAMPLE_OPTIONS = (
    click.option(
        "--held-out",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Labelled images (else unlabelled ones) that are not trained on and choose the best checkpoint.",
    ),
    click.option("--image-size", type=int, default=512, show_default=True, help="Longest side of an image, in pixels."),
    click.option("--crop", type=int, help="Side of the augmented sample, in pixels. [default: image size]"),
    click.option("--mosaic", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Share of mosaics."),
    click.option(
        "--hsv",
        type=(float, float, float),
        default=(0.015, 0.7, 0.4),
        show_default=True,
        help="Largest change of hue, saturation and value, as fractions.",
    ),
    click.option("--scale", type=float, default=0.5, show_default=True, help="Largest change of size, as a fraction."),
    click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that read images."),
)
DATA_OPTIONS = (detector_option, *LABELLED_OPTIONS, *UNLABELLED_OPTIONS, *SAMPLE_OPTIONS)
"""Of the stages behind a detector."""
LOOP_OPTIONS = (
    click.option("-o", "--output", type=PATH, required=True, help="Folder for checkpoints and logs."),
    click.option(
        "--epochs",
        type=click.FloatRange(0, min_open=True),
        help="Passes over the images. [default: the paper's, else YOLOv5's]",
    ),
    click.option("--steps", type=click.IntRange(1), help="Updates, instead of --epochs."),
    click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Images a device."),
    click.option("--learning-rate", type=float, default=1e-3, show_default=True, help="Its peak; falls as a cosine."),
    click.option("--warmup-steps", type=click.IntRange(0), default=100, show_default=True, help="Rise to the peak."),
    click.option(
        "--optimizer",
        type=click.Choice(["adamw", "sgd"]),
        default="adamw",
        show_default=True,
        help="The paper's is sgd, with learning rate 0.01.",
    ),
    click.option("--weight-decay", type=float, default=0.0, show_default=True, help="Of the optimizer."),
    click.option(
        "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of everything random."
    ),
    click.option("--resume", is_flag=True, help="Go on, bit for bit, where the run in -o stopped."),
    click.option("--save-every", type=click.IntRange(1), default=200, show_default=True, help="In steps."),
    click.option("--evaluate-every", type=click.IntRange(1), default=500, show_default=True, help="In steps."),
    click.option("--accelerator", default="auto", show_default=True, help="auto, cpu, cuda or mps."),
    click.option("--devices", type=click.IntRange(1), default=1, show_default=True, help="How many."),
    click.option(
        "--precision",
        type=click.Choice(["32-true", "16-mixed", "bf16-mixed"]),
        default="32-true",
        show_default=True,
        help="Of the networks.",
    ),
    click.option("--threads", type=click.IntRange(1), help="CPU threads of one network. [default: torch's]"),
)
OBJECTIVE_OPTIONS = (
    click.option(
        "--detection-weight", type=float, default=1.0, show_default=True, help="Of L_obj; 0 needs no labelled images."
    ),
    click.option("--feature-weight", type=float, default=0.0, show_default=True, help="Of feature matching."),
    click.option("--neck-weight", type=float, default=0.0, show_default=True, help="Of matching the neck's output."),
    click.option("--prediction-weight", type=float, default=0.0, show_default=True, help="Of matching predictions."),
    click.option("--rate-weight", type=float, default=0.0, show_default=True, help="Of the rate proxy (bits a pixel)."),
    click.option(
        "--simulated-qp",
        type=(float, float),
        default=None,
        metavar="LOW HIGH",
        help="Simulate coding at QPs from this range. [default: no coding]",
    ),
)
RESTORATION_OPTIONS = (
    click.option(
        "--bottleneck",
        default="auto",
        show_default=True,
        help="Checkpoint, name of a shipped bottleneck, none for latent features, or auto: the detector's shipped one.",
    ),
    layout_option,
    click.option(
        "--hidden", type=click.IntRange(1, 4096), help="Channels inside. [default: the coded tensor's, from 48 to 96]"
    ),
    click.option("--blocks", type=click.IntRange(0, 64), help="Residual blocks. [default: --start's, or 1]"),
    click.option("--feature-weight", type=float, default=0.3, show_default=True, help="Of feature matching."),
    click.option("--neck-weight", type=float, default=1.0, show_default=True, help="Of matching the neck's output."),
    click.option("--prediction-weight", type=float, default=0.3, show_default=True, help="Of matching predictions."),
    click.option(
        "--qp",
        type=(click.IntRange(0, 63), click.IntRange(0, 63)),
        default=(32, 44),
        show_default=True,
        metavar="LOW HIGH",
        help="QPs of the coding noise; it may be used at others.",
    ),
    click.option("--simulated", is_flag=True, help="Simulate coding, which is faster, instead of running VVC."),
    profile_option,
    preset_option,
    encoder_params_option,
    click.option("--start", type=PATH, help="Restoration to go on from, instead of one without effect."),
)
PLATE_OPTIONS = (
    click.option("--private", type=PATH, required=True, help="private.json of `featcodec scenes`."),
    click.option(
        "--images",
        type=PATH,
        multiple=True,
        required=True,
        help="Folder with its images. Repeated: the same images as an attacker reconstructed them, in any size.",
    ),
    click.option(
        "--held-out",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Images with readable plates that are not trained on and choose the best checkpoint.",
    ),
    click.option("--start", type=PATH, help="Plate reader to go on from, instead of random weights."),
)


def with_options(options: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
