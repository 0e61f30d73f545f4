"""featcodec train: the stages, from L_obj to the final attack."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from featcodec.cli.console import complain, training_progress

if TYPE_CHECKING:
    from featcodec.training.loop import LoopOptions
    from featcodec.training.setup import TrainingData

F = TypeVar("F", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)

_OF_THE_LOOP = (
    *("output", "batch_size", "learning_rate", "warmup_steps", "optimizer", "weight_decay", "seed", "resume"),
    *("save_every", "evaluate_every", "accelerator", "devices", "precision"),
)
_DATA_OPTIONS = (
    click.option("--detector", default="yolov5n", show_default=True, help="Name or path of a YOLOv5 checkpoint (.pt)."),
    click.option("--annotations", type=_PATH, help="COCO annotation file; needs --images."),
    click.option("--images", type=_PATH, help="Folder with the images of --annotations."),
    click.option("--data", type=_PATH, help="ultralytics data YAML, instead of --annotations and --images."),
    click.option("--unlabelled", multiple=True, metavar="SRC", help="Photographs without labels; may be repeated."),
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
_LOOP_OPTIONS = (
    click.option("-o", "--output", type=_PATH, required=True, help="Folder for checkpoints and logs."),
    click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Passes over the images. [default: paper]"),
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
_OBJECTIVE_OPTIONS = (
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


def _with(options: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


class _Stages(click.RichGroup):
    """Lists the stages in the order in which they follow each other."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group("train", cls=_Stages)
def command() -> None:
    """Train a bottleneck and attackers: bottleneck, recnet, adversarial, then attack.

    Every stage writes last-*.safetensors, best-*.safetensors (lowest loss on --held-out), log.csv, held-out.csv and
    tensorboard/ into its folder. The detector is never changed.
    """


@command.command("bottleneck")
@_with(_DATA_OPTIONS)
@_with(_OBJECTIVE_OPTIONS)
@click.option("--split", type=click.IntRange(0, 4), default=4, show_default=True, help="Last layer of the front-end.")
@click.option(
    "--channels", type=click.IntRange(1, 4096), help="Of the coded tensor. [default: a third of the features']"
)
@click.option("--hidden", type=click.IntRange(1, 4096), help="Channels inside AE and AD. [default: two thirds]")
@click.option(
    "--clip",
    type=(float, float),
    default=None,
    metavar="LOW HIGH",
    help="Range of the coded tensor. [default: --start's, or -3 3]",
)
@click.option("--start", type=_PATH, help="Bottleneck to go on from, instead of random weights.")
@_with(_LOOP_OPTIONS)
def bottleneck_command(**options: Any) -> None:
    """Stage 1: AE and AD on the detector's own loss."""
    from featcodec.bottleneck import load_bottleneck
    from featcodec.training.bottleneck import PAPER_CLIP, BottleneckTask, train_bottleneck

    data = _data(options)
    clip = options["clip"]
    if clip is None and options["start"] is not None:
        config = load_bottleneck(options["start"]).config
        clip = config.clip_low, config.clip_high
    clip = clip or PAPER_CLIP
    task = BottleneckTask(
        detector=options["detector"],
        split=options["split"],
        channels=options["channels"],
        hidden_channels=options["hidden"],
        clip=clip,
        start=options["start"],
        **_objective(options, data, clip),
    )
    _run(lambda loop: train_bottleneck(task, data, loop), options, data, epochs=50)


@command.command("recnet")
@_with(_DATA_OPTIONS)
@click.option("--bottleneck", required=True, help="Checkpoint of stage 1, or none for latent features.")
@click.option("--start", type=_PATH, help="RecNet to go on from, instead of random weights.")
@_with(_LOOP_OPTIONS)
def recnet_command(**options: Any) -> None:
    """Stage 2: the attacker on L_rec, with the bottleneck fixed."""
    from featcodec.training.recnet import RecNetTask, train_recnet

    data = _data(options)
    task = RecNetTask(options["detector"], _bottleneck(options["bottleneck"]), start=options["start"])
    _run(lambda loop: train_recnet(task, data, loop), options, data, epochs=20)


@command.command("adversarial")
@_with(_DATA_OPTIONS)
@_with(_OBJECTIVE_OPTIONS)
@click.option("--bottleneck", type=_PATH, required=True, help="Checkpoint of stage 1.")
@click.option("--recnet", type=_PATH, help="Checkpoint of stage 2. [default: random weights]")
@click.option("--privacy-weight", type=float, default=0.1, show_default=True, help="The paper's w, of L_rec in L_tot.")
@click.option("--recnet-learning-rate", type=float, help="RecNet's own peak. [default: --learning-rate]")
@_with(_LOOP_OPTIONS)
def adversarial_command(**options: Any) -> None:
    """Stage 3: the bottleneck on L_obj - w * L_rec, against a RecNet that learns along."""
    from featcodec.bottleneck import load_bottleneck
    from featcodec.training.adversarial import AdversarialTask, train_adversarial

    data = _data(options)
    config = load_bottleneck(options["bottleneck"]).config
    task = AdversarialTask(
        detector=options["detector"],
        bottleneck=options["bottleneck"],
        recnet=options["recnet"],
        privacy_weight=options["privacy_weight"],
        recnet_learning_rate=options["recnet_learning_rate"],
        **_objective(options, data, (config.clip_low, config.clip_high)),
    )
    _run(lambda loop: train_adversarial(task, data, loop)[0], options, data, epochs=40)


@command.command("attack")
@_with(_DATA_OPTIONS)
@click.option("--bottleneck", required=True, help="Checkpoint to attack, or none for RecNet-latent.")
@_with(_LOOP_OPTIONS)
def attack_command(**options: Any) -> None:
    """Stage 4: a fresh RecNet with L1 alone on a finished codec, for `featcodec invert`."""
    from featcodec.training.attack import train_attack

    data = _data(options)
    bottleneck = _bottleneck(options["bottleneck"])
    _run(lambda loop: train_attack(options["detector"], bottleneck, data, loop), options, data, epochs=20)


def _bottleneck(name: str) -> Path | None:
    from featcodec.weights import SHIPPED

    shipped = {each.name: each.path for each in SHIPPED}
    return None if name == "none" else shipped.get(name, Path(name))


def _data(options: Mapping[str, Any]) -> TrainingData:
    from featcodec.data.training_samples import Augmentation
    from featcodec.data.training_set import hold_out, read_coco, read_data_yaml, read_unlabelled
    from featcodec.detectors import load_detector
    from featcodec.errors import InputError
    from featcodec.training.setup import TrainingData

    if bool(options["annotations"]) != bool(options["images"]):
        raise InputError("--annotations and --images belong together; give both, or --data")
    labelled, unlabelled = [], []
    if options["annotations"] or options["data"]:
        names = load_detector(options["detector"], device="cpu").names
        if options["annotations"]:
            labelled += read_coco(options["annotations"], options["images"], names)
        if options["data"]:
            labelled += read_data_yaml(options["data"], names)
    if options["unlabelled"]:
        unlabelled = read_unlabelled(options["unlabelled"])
    if not labelled and not unlabelled:
        raise InputError("no images; give --annotations with --images, --data or --unlabelled")
    known = {image.path.resolve() for image in labelled}
    unlabelled = [image for image in unlabelled if image.path.resolve() not in known]
    if labelled:
        labelled, held_out = hold_out(labelled, options["held_out"])
    else:
        unlabelled, held_out = hold_out(unlabelled, options["held_out"])
    varying = ("image_size", "crop", "mosaic", "scale")
    hue, saturation, value = options["hsv"]
    augmentation = Augmentation(**{name: options[name] for name in varying}, hsv_h=hue, hsv_s=saturation, hsv_v=value)
    return TrainingData([*labelled, *unlabelled], held_out, augmentation, options["workers"])


def _objective(options: Mapping[str, Any], data: TrainingData, clip: tuple[float, float]) -> dict[str, Any]:
    from featcodec.errors import InputError
    from featcodec.training.objective import ObjectiveWeights
    from featcodec.training.simulated_coding import SimulatedCoding

    weights = ObjectiveWeights(
        detection=options["detection_weight"],
        features=options["feature_weight"],
        neck=options["neck_weight"],
        predictions=options["prediction_weight"],
        rate=options["rate_weight"],
    )
    if weights == ObjectiveWeights(detection=0) and not options.get("privacy_weight"):
        raise InputError("all weights are 0, so that nothing would be learned; give one of them")
    if weights.detection and not any(image.labelled for image in data.images):
        raise InputError("L_obj needs labelled images; give --annotations or --data, or --detection-weight 0")
    if options["simulated_qp"] is None:
        if weights.rate:
            raise InputError("--rate-weight is measured in simulated coding; give --simulated-qp too")
        return {"weights": weights, "simulation": None}
    low, high = options["simulated_qp"]
    return {"weights": weights, "simulation": SimulatedCoding(*clip, qp_low=low, qp_high=high)}


def _run(train: Callable[[LoopOptions], Path], options: Mapping[str, Any], data: TrainingData, epochs: float) -> None:
    import torch

    from featcodec.errors import InputError
    from featcodec.training.loop import LoopOptions

    if options["threads"]:
        torch.set_num_threads(options["threads"])
    images = options["batch_size"] * options["devices"]
    epochs = options["epochs"] or epochs
    if not math.isfinite(epochs):
        raise InputError(f"{epochs} epochs never end; give a number")
    steps = options["steps"] or math.ceil(epochs * len(data.images) / images)
    with training_progress(steps) as report:
        loop = LoopOptions(steps=steps, report=report, **{name: options[name] for name in _OF_THE_LOOP})
        written = train(loop)
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return  # lightning-fabric starts the other processes with this very command
    if (best := written.with_name(written.name.replace("last-", "best-"))).exists():
        complain(f"lowest loss on the held-out images: {best}")
    click.echo(str(written))
