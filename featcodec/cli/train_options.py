"""Options that the training stages share, as tuples that a stage combines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from featcodec.cli.options import (
    detector_option,
    encoder_params_option,
    ignore_exif_option,
    layout_option,
    preset_option,
    profile_option,
)

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)

bottleneck_or_auto_option = click.option(
    "--bottleneck",
    default="auto",
    show_default=True,
    help="Checkpoint, name of a shipped bottleneck, none for latent features, or auto: the one that ships for the "
    "detector.",
)


def _weight_option(loss: str, default: float, what: str) -> Callable[[F], F]:
    return click.option(f"--{loss}-weight", type=float, default=default, show_default=True, help=f"Weight of {what}.")


LABELLED_OPTIONS = (
    click.option("--annotations", type=PATH, help="COCO annotation file. Needs --images."),
    click.option("--images", type=PATH, help="Folder with the images of --annotations."),
    click.option("--data", type=PATH, help="ultralytics data YAML, instead of --annotations and --images."),
)
UNLABELLED_OPTIONS = (
    click.option("--unlabelled", multiple=True, metavar="SRC", help="Images without labels. May be repeated."),
)
IMAGE_SIZE_OPTION = click.option(
    "--image-size", type=int, default=512, show_default=True, help="Longest side of an image, in pixels."
)
SAMPLE_OPTIONS = (
    click.option(
        "--held-out",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Number of images that choose the best checkpoint and are not trained on (labelled images if there are "
        "any).",
    ),
    IMAGE_SIZE_OPTION,
    ignore_exif_option,
    click.option("--crop", type=int, help="Side of an augmented sample, in pixels. [default: --image-size]"),
    click.option(
        "--mosaic",
        type=click.FloatRange(0, 1),
        default=1.0,
        show_default=True,
        help="Share of samples that are mosaics of four images.",
    ),
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
"""Options of the stages that need a detector."""
LOOP_OPTIONS = (
    click.option("-o", "--output", type=PATH, required=True, help="Folder for checkpoints and logs."),
    click.option(
        "--epochs",
        type=click.FloatRange(0, min_open=True),
        help="Passes over the images. [default: as in the paper, else as in YOLOv5]",
    ),
    click.option("--steps", type=click.IntRange(1), help="Number of updates, instead of --epochs."),
    click.option(
        "--minutes",
        type=click.FloatRange(0, min_open=True),
        help="Time for the run, instead of --epochs. A short trial says how many steps fit; --save-every and "
        "--evaluate-every are chosen too.",
    ),
    click.option(
        "--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Images per step and device."
    ),
    click.option(
        "--learning-rate",
        type=float,
        default=1e-3,
        show_default=True,
        help="Peak learning rate. The rate then falls as a cosine.",
    ),
    click.option(
        "--warmup-steps",
        type=click.IntRange(0),
        default=100,
        show_default=True,
        help="Steps in which the learning rate rises to its peak.",
    ),
    click.option(
        "--optimizer",
        type=click.Choice(["adamw", "sgd"]),
        default="adamw",
        show_default=True,
        help="Optimizer. The paper uses sgd with learning rate 0.01.",
    ),
    click.option("--weight-decay", type=float, default=0.0, show_default=True, help="Weight decay of the optimizer."),
    click.option(
        "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of everything random."
    ),
    click.option("--resume", is_flag=True, help="Go on, bit for bit, where the run in -o stopped."),
    click.option(
        "--save-every", type=click.IntRange(1), default=200, show_default=True, help="Steps between checkpoints."
    ),
    click.option(
        "--evaluate-every",
        type=click.IntRange(1),
        default=500,
        show_default=True,
        help="Steps between evaluations on the held-out images.",
    ),
    click.option("--accelerator", default="auto", show_default=True, help="auto, cpu, cuda or mps."),
    click.option(
        "--devices",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Number of devices of this machine. Under torchrun, leave it out.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["32-true", "16-mixed", "bf16-mixed"]),
        default="32-true",
        show_default=True,
        help="Number format of the networks' computations.",
    ),
    click.option("--threads", type=click.IntRange(1), help="CPU threads for a network. [default: as torch chooses]"),
)
OBJECTIVE_OPTIONS = (
    _weight_option("detection", 1.0, "L_obj, the detector's own loss. With 0, no labelled images are needed"),
    _weight_option("feature", 0.0, "feature matching"),
    _weight_option("neck", 0.0, "matching the neck's output"),
    _weight_option("prediction", 0.0, "matching the predictions"),
    _weight_option("rate", 0.0, "the rate proxy (bits per pixel)"),
    click.option(
        "--simulated-qp",
        type=(float, float),
        default=None,
        metavar="LOW HIGH",
        help="Simulate coding at QPs from this range. [default: no coding]",
    ),
)
PRIVACY_OPTIONS = (
    click.option(
        "--privacy-weight", type=float, default=0.1, show_default=True, help="Weight of L_rec, the paper's w."
    ),
    click.option(
        "--privacy-share",
        type=float,
        help="Choose the weight so that the gradient of the privacy term is this share of the objective's gradient, "
        "at AE's output. [default: use --privacy-weight]",
    ),
    click.option(
        "--privacy-blur",
        type=float,
        help="Stop where a reconstruction is as bad as the picture blurred by a Gaussian of so many pixels. "
        "[default: never stop]",
    ),
    click.option(
        "--privacy-squared",
        is_flag=True,
        help="Squared errors in place of absolute ones, for the attackers' loss and for the privacy term.",
    ),
    _weight_option("privacy-colour", 1.0, "L1 in the privacy term"),
    _weight_option("privacy-edge", 5.0, "edges in the privacy term and in L_rec, the paper's beta"),
    click.option(
        "--partners",
        type=click.IntRange(0, 8),
        default=0,
        show_default=True,
        help="Number of strong RecNets to train against at once, instead of one RecNet of the paper.",
    ),
    click.option(
        "--fresh-every",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="With --partners: steps after which one of them, in turn, starts afresh. 0 means never.",
    ),
    click.option(
        "--head-start",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="With --partners: steps at the beginning in which only they learn.",
    ),
    click.option(
        "--attacker-steps",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Steps of the attackers for each step of the bottleneck. --steps counts those of the attackers.",
    ),
    click.option(
        "--recnet-learning-rate", type=float, help="The attackers' peak learning rate. [default: --learning-rate]"
    ),
)
_CODING_OPTIONS = (
    _weight_option("feature", 0.3, "feature matching"),
    _weight_option("neck", 1.0, "matching the neck's output"),
    _weight_option("prediction", 0.3, "matching the predictions"),
    click.option(
        "--qp",
        type=(click.IntRange(0, 63), click.IntRange(0, 63)),
        default=(32, 44),
        show_default=True,
        metavar="LOW HIGH",
        help="QPs of the coding noise to learn from. The network may be used at other QPs too.",
    ),
    click.option("--simulated", is_flag=True, help="Simulate coding instead of running VVC. This is faster."),
    profile_option,
    preset_option,
    encoder_params_option,
)
"""Options of the stages that train a network behind the wire."""
LATENT_SPLIT_OPTION = click.option(
    "--split",
    type=click.IntRange(0),
    help="For latent coding: last layer of the front-end (see featcodec models NAME --splits). [default: 4]",
)
RESTORATION_OPTIONS = (
    bottleneck_or_auto_option,
    LATENT_SPLIT_OPTION,
    layout_option,
    click.option(
        "--hidden",
        type=click.IntRange(1, 4096),
        help="Channels inside the restoration. [default: as in --start, or as in the tensor, but from 48 to 96]",
    ),
    click.option(
        "--blocks", type=click.IntRange(0, 64), help="Number of residual blocks. [default: as in --start, or 1]"
    ),
    *_CODING_OPTIONS,
    click.option("--start", type=PATH, help="Restoration to go on from, instead of a new one, which has no effect."),
)
DECODER_OPTIONS = (
    click.option("--bottleneck", required=True, help="Checkpoint, or name of a shipped bottleneck. Its AE stays."),
    layout_option,
    click.option("--hidden", type=click.IntRange(1, 4096), help="Channels inside AD. [default: as in --bottleneck]"),
    click.option(
        "--blocks", type=click.IntRange(1, 64), help="Number of residual blocks of AD. [default: as in --bottleneck]"
    ),
    *_CODING_OPTIONS,
    click.option(
        "--uncoded",
        type=click.FloatRange(0, 1),
        default=0.25,
        show_default=True,
        help="Share of tensors that are not coded.",
    ),
)
PRIVATE_OPTION = click.option("--private", type=PATH, required=True, help="private.json from `featcodec scenes`.")
HELD_OUT_PLATES_OPTION = click.option(
    "--held-out",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Number of images with readable plates that choose the best checkpoint and are not trained on.",
)
PLATE_OPTIONS = (
    PRIVATE_OPTION,
    click.option(
        "--images",
        type=PATH,
        multiple=True,
        required=True,
        help="Folder with the images of --private. Repeat the option for folders with the same images as an attacker "
        "reconstructed them, in any size.",
    ),
    HELD_OUT_PLATES_OPTION,
    click.option("--start", type=PATH, help="Plate reader to go on from, instead of random weights."),
)
DIRECT_OPTIONS = (
    LATENT_SPLIT_OPTION,
    PRIVATE_OPTION,
    click.option("--images", type=PATH, required=True, help="Folder with the images of --private."),
    HELD_OUT_PLATES_OPTION,
    IMAGE_SIZE_OPTION,
    click.option("--start", type=PATH, help="Direct reader to go on from, instead of random weights."),
)
