"""The stages of `featcodec train` for readers of number plates: on pictures, and on tensors."""

from __future__ import annotations

from typing import Any

import rich_click as click

from featcodec.cli.options import detector_option, together
from featcodec.cli.train_inputs import bottleneck_path
from featcodec.cli.train_options import DIRECT_OPTIONS, LOOP_OPTIONS, PLATE_OPTIONS
from featcodec.cli.train_run import run_stage


@click.command("plate-reader")
@together(*PLATE_OPTIONS)
@together(*LOOP_OPTIONS)
def plate_reader_command(**options: Any) -> None:
    """Optional: train a reader of number plates, which measures how much private text an attack recovers.

    The reader learns from degraded originals. It gets stronger if it also learns from what an attack leaves: give the
    folder of reconstructions from `featcodec invert` as a second --images.
    """
    from featcodec.training.plate_reader import PlateData, PlateReaderTask, train_plate_reader

    data = PlateData.read(options["private"], options["images"], options["held_out"])
    task = PlateReaderTask(start=options["start"])
    run_stage(lambda loop: train_plate_reader(task, data, loop), options, data, epochs=80)


@click.command("direct-reader")
@detector_option
@click.option("--bottleneck", required=True, help="Checkpoint whose tensors are read, or none for latent features.")
@together(*DIRECT_OPTIONS)
@together(*LOOP_OPTIONS)
def direct_reader_command(**options: Any) -> None:
    """Optional: train a reader of number plates on the tensors themselves, without a picture in between.

    It shows what text the edge lets through, whatever a reconstruction shows. `featcodec audit --private` uses it.
    """
    from featcodec.training.direct_reader import DirectReaderTask, PlateWindowData, train_direct_reader

    data = PlateWindowData.read(options["private"], options["images"], options["held_out"], options["image_size"])
    task = DirectReaderTask(
        options["detector"], bottleneck_path(options["bottleneck"]), start=options["start"], split=options["split"]
    )
    run_stage(lambda loop: train_direct_reader(task, data, loop), options, data, epochs=40)


READER_COMMANDS = (plate_reader_command, direct_reader_command)
