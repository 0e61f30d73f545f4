"""featcodec export: the networks of an edge and of a cloud as ONNX files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from featcodec.cli.console import complain, print_json, progress
from featcodec.cli.option_values import edge_precision, load_codec
from featcodec.cli.options import (
    LocalPath,
    PathOrAddress,
    bits_option,
    image_size_option,
    json_option,
    layout_option,
    overwrite_option,
    restoration_option,
    square_option,
)

if TYPE_CHECKING:
    from featcodec.export.folder import Exported
    from featcodec.export.verification import Agreement

_DRAWN = 4
"""Pictures that are drawn, if none are given."""
_MOST_COMPARED, _MOST_CALIBRATING = 16, 32
"""Of the pictures that are given, so many are compared sample by sample, and so many find the ranges of int8."""


@click.command("export")
@click.argument("detector")
@click.option("-o", "--output", type=LocalPath(), required=True, help="Folder for the model; it is written whole.")
@click.option(
    "--bottleneck",
    default="auto",
    show_default=True,
    help="Checkpoint (.safetensors), name of a shipped bottleneck (see `featcodec models`), none (code the features "
    "directly), or auto: the bottleneck that ships for the detector.",
)
@click.option(
    "--split",
    type=click.IntRange(0),
    default=None,
    help="Last detector layer that runs at the edge (see featcodec models NAME --splits). "
    "[default: the bottleneck's own, or 4]",
)
@layout_option
@restoration_option
@click.option(
    "--clip",
    type=(float, float),
    default=None,
    metavar="LOW HIGH",
    help="Clip range in feature units, after the layout is applied. [default: the bottleneck's own, or -0.2786 3]",
)
@bits_option
@image_size_option
@square_option
@click.option(
    "--nms/--no-nms",
    default=True,
    help="--no-nms takes the branch of YOLOv10 and YOLO26 that needs no non-maximum suppression.",
)
@click.option(
    "--qp", type=click.IntRange(0, 63), default=38, show_default=True, help="QP of an edge that is not given one."
)
@click.option(
    "--verify",
    multiple=True,
    metavar="SRC",
    help="Images on which ONNX is compared with PyTorch (files, folders, patterns). May be repeated. "
    "[default: street scenes are drawn]",
)
@click.option(
    "--annotations", type=PathOrAddress(), default=None, help="COCO annotations of --verify: AP50 is compared, too."
)
@click.option(
    "--int8",
    is_flag=True,
    help="Quantize the edge to 8-bit integers, and say what that costs. Streams name the same networks.",
)
@click.option(
    "--calibrate",
    multiple=True,
    metavar="SRC",
    help="With --int8: images like those of the camera, to find ranges with; up to 32 of them are taken. May be "
    "repeated. [default: those of --verify]",
)
@overwrite_option
@json_option
def command(
    detector: str,
    output: Path,
    bottleneck: str,
    split: int | None,
    layout: str,
    restoration: str,
    clip: tuple[float, float] | None,
    bits: int,
    image_size: int,
    square: bool,
    nms: bool,
    qp: int,
    verify: tuple[str, ...],
    annotations: Path | None,
    int8: bool,
    calibrate: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
) -> int:
    """Export both halves of a codec as ONNX files.

    DETECTOR is a name (see `featcodec models`) or a checkpoint. The folder gets edge.onnx (letterboxed picture to
    packed frame), cloud.onnx (decoded frame and QP to predictions) and model.json (what else an edge must know).
    Height, width and batch are free. Both files are compared with PyTorch first; if they differ, nothing is written.
    """
    from featcodec.evaluation.dataset import open_dataset
    from featcodec.export.folder import Trial, drawn_pictures, export_codec
    from featcodec.images.annotations import read_annotations
    from featcodec.images.reading import IMAGE_SUFFIXES, read_image
    from featcodec.system.paths import expand_sources

    if annotations is not None and not verify:
        raise click.UsageError("--annotations are those of --verify; give --verify too")
    if calibrate and not int8:
        raise click.UsageError("--calibrate is for --int8; give --int8 too")
    if int8 and not (calibrate or verify):
        raise click.UsageError("--int8 needs images like those of the camera; give --calibrate or --verify")
    sources = expand_sources(verify, IMAGE_SUFFIXES, "images") if verify else []
    dataset = None
    if annotations is not None:
        dataset = open_dataset(sources, read_annotations(annotations, complain), note=complain)
    compared = [read_image(source.path) for source in sources[:_MOST_COMPARED]]
    pictures = compared or drawn_pictures(_DRAWN)
    calibration = None
    if int8:
        listed = expand_sources(calibrate, IMAGE_SUFFIXES, "images") if calibrate else sources
        step = -(-len(listed) // _MOST_CALIBRATING)
        calibration = [read_image(source.path) for source in listed[::step]]
    codec = load_codec(
        detector,
        bottleneck,
        layout,
        "cpu",
        None,
        precision=edge_precision("float32"),
        restoration=restoration,
        split=split,
        clip=clip,
        bits=bits,
        image_size=image_size,
        square=square,
        nms=nms,
    )
    exported = export_codec(
        codec,
        output,
        Trial(pictures, dataset, calibration),
        detector=Path(detector).stem,
        default_qp=qp,
        overwrite=overwrite,
        watch=lambda images: progress(images, len(images), "verify"),
    )
    if as_json:
        print_json(_as_json(exported, output))
    else:
        _show(exported, output)
    return 0


def _as_json(exported: Exported, output: Path) -> dict[str, object]:
    return {
        "output": str(output),
        "fingerprint": exported.model.fingerprint,
        "bytes": exported.sizes,
        "precision": exported.model.precision,
        "samples": _figures(exported.agreement),
        "int8_samples": _figures(exported.int8_agreement),
        "int8_speed": exported.int8_speed,
        "ap50": None if exported.accuracy is None else asdict(exported.accuracy),
    }


def _figures(agreement: Agreement | None) -> dict[str, object] | None:
    return None if agreement is None else {**asdict(agreement), "share": agreement.share}


def _show(exported: Exported, output: Path) -> None:
    from featcodec.export.accuracy import PYTORCH
    from featcodec.export.folder import FLOAT32
    from featcodec.export.int8 import INT8

    agreement, accuracy = exported.agreement, exported.accuracy
    files = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in exported.sizes.items() if name.endswith(".onnx"))
    click.echo(f"{output}: {files}; networks {exported.model.fingerprint}")
    click.echo(
        f"samples of {agreement.pictures} pictures: {agreement.differing} of {agreement.samples:,} differ from PyTorch "
        f"({agreement.share:.4%}), by at most {agreement.largest}"
    )
    if (other := exported.int8_agreement) is not None:
        click.echo(
            f"int8: {other.share:.1%} of the samples differ, by {other.mean:.2f} in the mean and at most "
            f"{other.largest}; {exported.int8_speed:.2f} times as fast as float32 on one core of this machine"
        )
    if accuracy is not None:
        names = {PYTORCH: "PyTorch", FLOAT32: "ONNX", INT8: "int8"}
        for what, values in (
            ("AP50, not coded", accuracy.uncoded),
            (f"AP50 at QP {exported.model.default_qp} (HEVC)", accuracy.coded),
        ):
            click.echo(f"{what}: " + ", ".join(f"{value:.2f} by {names[name]}" for name, value in values.items()))
