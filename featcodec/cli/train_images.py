"""The commands of `featcodec train` that work on images alone and train nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from featcodec.cli.console import complain
from featcodec.cli.options import detector_option, ignore_exif_option, overwrite_option, sources_argument, together
from featcodec.cli.train_inputs import training_images
from featcodec.cli.train_options import (
    IMAGE_SIZE_OPTION,
    LABELLED_OPTIONS,
    LATENT_SPLIT_OPTION,
    PATH,
    UNLABELLED_OPTIONS,
    bottleneck_or_auto_option,
)


@click.command("layout")
@sources_argument
@detector_option
@bottleneck_or_auto_option
@together(LATENT_SPLIT_OPTION)
@click.option("-o", "--output", type=PATH, required=True, help="Checkpoint to write (.safetensors).")
@click.option("--image-size", type=int, default=512, show_default=True, help="Longer side of an image, in pixels.")
@overwrite_option
def layout_command(
    sources: tuple[str, ...],
    detector: str,
    bottleneck: str,
    split: int | None,
    output: Path,
    image_size: int,
    overwrite: bool,
) -> None:
    """Optional: find a layout from images: order, sign, gray level and step of the channels in the frame.

    SRC are image files, folders (searched recursively) or glob patterns. A few hundred images without labels are
    enough. Give the checkpoint to `encode --layout` and `decode --layout`.
    """
    from featcodec.images.reading import IMAGE_SUFFIXES
    from featcodec.system.files import check_new
    from featcodec.system.paths import expand_sources
    from featcodec.training.layout import LayoutTask, find_layout

    images = [source.path for source in expand_sources(sources, IMAGE_SUFFIXES, "images")]
    check_new(output, overwrite=overwrite, inputs=[*images, Path(detector), Path(bottleneck)])
    find_layout(LayoutTask(detector, bottleneck, image_size, split=split), images, output, overwrite=overwrite)
    click.echo(str(output))


@click.command("shrink")
@together(detector_option, *LABELLED_OPTIONS, *UNLABELLED_OPTIONS, IMAGE_SIZE_OPTION, ignore_exif_option)
@click.option("-o", "--output", type=PATH, required=True, help="New folder to write.")
@click.option(
    "--megabytes",
    type=click.FloatRange(0, min_open=True),
    default=50,
    show_default=True,
    help="Room for all images, in MiB. The best quality of JPEG that fits is chosen.",
)
def shrink_command(**options: Any) -> None:
    """Optional: make a small copy of the training images, to carry to another machine.

    Give images/ and annotations.json of the copy to --images and --annotations of the stages, and unlabelled/ to
    --unlabelled. The same images are held out as before.
    """
    from featcodec.detectors import load_detector
    from featcodec.training.data.shrinking import shrink_images

    images = [image for kind in training_images(options) for image in kind]
    quality = shrink_images(
        images,
        load_detector(options["detector"], device="cpu").names,
        options["output"],
        image_size=options["image_size"],
        limit=int(options["megabytes"] * 2**20),
    )
    complain(f"note: {len(images)} images as JPEG of quality {quality}")
    click.echo(str(options["output"]))


IMAGE_COMMANDS = (layout_command, shrink_command)
