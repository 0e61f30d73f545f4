"""What the options of `featcodec train` name: images, class names, a bottleneck, the objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcodec.cli.console import complain

if TYPE_CHECKING:
    from featcodec.training.data.datasets import LabelledImage
    from featcodec.training.losses.objective import ObjectiveWeights
    from featcodec.training.setup import TrainingData
    from featcodec.video.profiles import Profile


def bottleneck_path(name: str) -> Path | None:
    from featcodec.networks.catalogue import SHIPPED_BOTTLENECKS

    shipped = {each.name: each.path for each in SHIPPED_BOTTLENECKS}
    return None if name == "none" else shipped.get(name, Path(name))


def class_names(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names of a detector to train: those of --start, else all names in the data, in their order."""
    from featcodec.detectors import read_detector
    from featcodec.images.annotations import read_annotations
    from featcodec.training.data.yolo import read_class_names

    if options["start"]:
        return read_detector(options["start"])[0].names
    names: list[str] = []
    if options["annotations"]:
        names += read_annotations(options["annotations"]).names
    if options["data"]:
        names += read_class_names(options["data"])
    return tuple(dict.fromkeys(names))


def training_data(options: Mapping[str, Any], names: Sequence[str] | None = None) -> TrainingData:
    """The images that the options name, without those that are held out, and how they vary; see `training_images`."""
    from featcodec.training.data.datasets import hold_out
    from featcodec.training.data.samples import Augmentation
    from featcodec.training.setup import TrainingData

    labelled, unlabelled = training_images(options, names)
    if labelled:
        labelled, held_out = hold_out(labelled, options["held_out"])
    else:
        unlabelled, held_out = hold_out(unlabelled, options["held_out"])
    varying = ("image_size", "crop", "mosaic", "scale")
    hue, saturation, value = options["hsv"]
    augmentation = Augmentation(**{name: options[name] for name in varying}, hsv_h=hue, hsv_s=saturation, hsv_v=value)
    return TrainingData([*labelled, *unlabelled], held_out, augmentation, options["workers"])


def training_images(
    options: Mapping[str, Any], names: Sequence[str] | None = None
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """The labelled images that the options name, and the others.

    Labels become numbers of the given class names, or of those of --detector.
    """
    from featcodec.detectors import load_detector
    from featcodec.errors import InputError
    from featcodec.system.paths import resolved
    from featcodec.training.data.coco import read_coco
    from featcodec.training.data.datasets import read_unlabelled
    from featcodec.training.data.yolo import read_data_yaml

    if bool(options["annotations"]) != bool(options["images"]):
        raise InputError("--annotations and --images belong together; give both, or --data")
    labelled, unlabelled = [], []
    if options["annotations"] or options["data"]:
        if names is None:
            names = load_detector(options["detector"], device="cpu").names
        if options["annotations"]:
            labelled += read_coco(
                options["annotations"], options["images"], names, complain, ignore_exif=options["ignore_exif"]
            )
        if options["data"]:
            labelled += read_data_yaml(options["data"], names, note=complain, ignore_exif=options["ignore_exif"])
    if options["unlabelled"]:
        found = read_unlabelled(options["unlabelled"])
        unlabelled = [replace(image, ignore_exif=options["ignore_exif"]) for image in found]
    if not labelled and not unlabelled:
        or_photographs = "--data or --unlabelled" if "detector" in options else "or --data"
        raise InputError(f"no images; give --annotations with --images, {or_photographs}")
    known = {resolved(image.path) for image in labelled}
    return labelled, [image for image in unlabelled if resolved(image.path) not in known]


def objective_of(options: Mapping[str, Any], data: TrainingData, clip: tuple[float, float]) -> dict[str, Any]:
    from featcodec.errors import InputError
    from featcodec.training.losses.objective import ObjectiveWeights
    from featcodec.training.simulated_coding import SimulatedCoding

    weights = ObjectiveWeights(
        detection=options["detection_weight"],
        features=options["feature_weight"],
        neck=options["neck_weight"],
        predictions=options["prediction_weight"],
        rate=options["rate_weight"],
    )
    if weights == ObjectiveWeights(detection=0) and not options.get("privacy_weight"):
        raise InputError("all weights are 0, so nothing would be learned; give at least one weight above 0")
    if weights.detection and not any(image.labelled for image in data.images):
        raise InputError("L_obj needs labelled images; give --annotations or --data, or --detection-weight 0")
    if options["simulated_qp"] is None:
        if weights.rate:
            raise InputError("--rate-weight is measured in simulated coding; give --simulated-qp too")
        return {"weights": weights, "simulation": None}
    low, high = options["simulated_qp"]
    return {"weights": weights, "simulation": SimulatedCoding(*clip, qp_low=low, qp_high=high)}


def matching_weights(options: Mapping[str, Any]) -> ObjectiveWeights:
    """The weights of the stages that train a network behind the wire."""
    from featcodec.training.losses.objective import ObjectiveWeights

    return ObjectiveWeights(
        detection=0,
        features=options["feature_weight"],
        neck=options["neck_weight"],
        predictions=options["prediction_weight"],
    )


def profile_of(options: Mapping[str, Any]) -> Profile:
    """The settings of the real encoder."""
    from featcodec.video import choose_profile
    from featcodec.video.settings import parse_parameters

    return choose_profile(options["profile"], options["preset"], parse_parameters(options["encoder_params"]))
