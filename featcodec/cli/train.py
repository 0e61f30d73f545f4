"""featcodec train: the training stages, from the detector to the final attack."""

from __future__ import annotations

from typing import Any

import rich_click as click

from featcodec.cli.options import together
from featcodec.cli.train_images import IMAGE_COMMANDS
from featcodec.cli.train_inputs import (
    bottleneck_path,
    class_names,
    matching_weights,
    objective_of,
    profile_of,
    training_data,
)
from featcodec.cli.train_options import (
    DATA_OPTIONS,
    DECODER_OPTIONS,
    LABELLED_OPTIONS,
    LATENT_SPLIT_OPTION,
    LOOP_OPTIONS,
    OBJECTIVE_OPTIONS,
    PATH,
    PRIVACY_OPTIONS,
    RESTORATION_OPTIONS,
    SAMPLE_OPTIONS,
)
from featcodec.cli.train_readers import READER_COMMANDS
from featcodec.cli.train_run import in_one_voice, run_stage


class _Stages(click.RichGroup):
    """Lists the stages in the order in which they follow each other, and runs one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        with in_one_voice():
            return super().invoke(ctx)


@click.group("train", cls=_Stages)
def command() -> None:
    """Train a bottleneck and attackers, stage by stage; train a detector of your own first, if you need one.

    The order of the stages is bottleneck, recnet, adversarial, attack. Every stage writes into its folder:
    last-*.safetensors, best-*.safetensors (lowest loss on --held-out), log.csv, held-out.csv and tensorboard/. Only the
    stage `detector` changes the detector.
    """


@command.command("detector")
@together(*LABELLED_OPTIONS)
@together(*SAMPLE_OPTIONS)
@click.option(
    "--architecture",
    metavar="NAME",
    help="One of ultralytics' detectors for boxes: yolov8n, yolov9t, yolov10n, yolo11n, yolo12n, yolo26n and their "
    "larger sizes. [default: as in --start, or YOLOv5 by --depth and --width]",
)
@click.option(
    "--depth",
    type=float,
    help="Multiple of YOLOv5's repeated blocks. [default: as in --start, or 0.33 as in yolov5n]",
)
@click.option(
    "--width", type=float, help="Multiple of YOLOv5's channels. [default: as in --start, or 0.25 as in yolov5n]"
)
@click.option("--start", type=PATH, help="Detector from this stage to go on from, instead of random weights.")
@together(*LOOP_OPTIONS)
def detector_command(**options: Any) -> None:
    """Stage 0: train your own detector on labelled images, as YOLOv5 or as one of ultralytics' later families.

    Give it to any --detector.
    """
    from featcodec.training.detector import DetectorTask, train_detector

    names = class_names(options)
    data = training_data({**options, "unlabelled": ()}, names)
    task = DetectorTask(names, options["depth"], options["width"], options["start"], options["architecture"])
    run_stage(lambda loop: train_detector(task, data, loop), options, data, epochs=300)


@command.command("bottleneck")
@together(*DATA_OPTIONS)
@together(*OBJECTIVE_OPTIONS)
@click.option(
    "--split",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    help="Last layer of the front-end (featcodec models NAME --splits).",
)
@click.option(
    "--channels",
    type=click.IntRange(1, 4096),
    help="Channels of the tensor. [default: a third of the feature channels; of levels, as many as the finest has]",
)
@click.option(
    "--hidden",
    type=click.IntRange(1, 4096),
    help="Channels inside AE and AD. [default: two thirds of the feature channels; of levels, twice the tensor's]",
)
@click.option(
    "--fusion-scale",
    type=click.IntRange(0, 5),
    help="Where several levels cross: how often the tensor's sides are half those of the finest level. [default: 1]",
)
@click.option(
    "--clip",
    type=(float, float),
    default=None,
    metavar="LOW HIGH",
    help="Clip range of the tensor. [default: as in --start, or -3 3]",
)
@click.option("--start", type=PATH, help="Bottleneck to go on from, instead of random weights.")
@together(*LOOP_OPTIONS)
def bottleneck_command(**options: Any) -> None:
    """Stage 1: train a bottleneck (AE and AD) on the detector's own loss."""
    from featcodec.networks.bottleneck import load_bottleneck
    from featcodec.training.bottleneck import PAPER_CLIP, BottleneckTask, train_bottleneck

    data = training_data(options)
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
        fusion_scale=options["fusion_scale"],
        clip=clip,
        start=options["start"],
        **objective_of(options, data, clip),
    )
    run_stage(lambda loop: train_bottleneck(task, data, loop), options, data, epochs=50)


@command.command("recnet")
@together(*DATA_OPTIONS)
@click.option("--bottleneck", required=True, help="Checkpoint from stage 1, or none for latent features.")
@click.option("--start", type=PATH, help="RecNet to go on from, instead of random weights.")
@together(LATENT_SPLIT_OPTION)
@together(*LOOP_OPTIONS)
def recnet_command(**options: Any) -> None:
    """Stage 2: train the attacker (RecNet) on L_rec, its reconstruction loss, with the bottleneck fixed."""
    from featcodec.training.recnet import RecNetTask, train_recnet

    data = training_data(options)
    task = RecNetTask(
        options["detector"], bottleneck_path(options["bottleneck"]), start=options["start"], split=options["split"]
    )
    run_stage(lambda loop: train_recnet(task, data, loop), options, data, epochs=20)


@command.command("adversarial")
@together(*DATA_OPTIONS)
@together(*OBJECTIVE_OPTIONS)
@click.option("--bottleneck", required=True, help="Checkpoint from stage 1, or the name of a shipped bottleneck.")
@click.option("--recnet", type=PATH, help="Checkpoint from stage 2. [default: random weights]")
@together(*PRIVACY_OPTIONS)
@together(*LOOP_OPTIONS)
def adversarial_command(**options: Any) -> None:
    """Stage 3: train the bottleneck on L_obj - w * L_rec, against a RecNet that learns at the same time."""
    from featcodec.networks.bottleneck import load_bottleneck
    from featcodec.training.adversarial import AdversarialTask, train_adversarial
    from featcodec.training.losses.privacy import PrivacyTerm
    from featcodec.training.partners import StrongPartners
    from featcodec.training.recnet import RECNET_FILE, notes_on_attack

    data = training_data(options)
    path = bottleneck_path(options["bottleneck"])
    if path is None:
        raise click.UsageError("--bottleneck none: there is nothing to train; give a checkpoint from stage 1")
    config = load_bottleneck(path).config
    partners, term = (
        None,
        PrivacyTerm(*(options[f"privacy_{name}"] for name in ("blur", "colour_weight", "edge_weight", "squared"))),
    )
    if options["partners"]:
        partners = StrongPartners(
            count=options["partners"], fresh_every=options["fresh_every"], head_start=options["head_start"]
        )
    task = AdversarialTask(
        detector=options["detector"],
        bottleneck=path,
        recnet=options["recnet"],
        privacy_weight=options["privacy_weight"],
        privacy_share=options["privacy_share"],
        edge_weight=term.edge_weight,
        term=None if term == PrivacyTerm(edge_weight=term.edge_weight) else term,
        recnet_learning_rate=options["recnet_learning_rate"],
        partners=partners,
        attacker_steps=options["attacker_steps"],
        **objective_of(options, data, (config.clip_low, config.clip_high)),
    )
    run_stage(
        lambda loop: train_adversarial(task, data, loop)[0],
        options,
        data,
        epochs=40,
        notes=lambda written: notes_on_attack(written.with_name(f"last-{RECNET_FILE}"), data),
    )


@command.command("attack")
@together(*DATA_OPTIONS)
@click.option("--bottleneck", required=True, help="Checkpoint to attack, or none for RecNet-latent.")
@together(LATENT_SPLIT_OPTION)
@click.option(
    "--strong",
    is_flag=True,
    help="Train the strong RecNet: wider, linear output, L1 with edges and SSIM, on tensors coded at random QPs.",
)
@click.option(
    "--start",
    type=PATH,
    help="RecNet of that kind to go on from, such as the attack on a similar bottleneck, instead of random weights.",
)
@together(*LOOP_OPTIONS)
def attack_command(**options: Any) -> None:
    """Stage 4: train a RecNet with L1 alone on finished networks, for `featcodec audit`."""
    from featcodec.training.attack import train_attack
    from featcodec.training.recnet import StrongAttack, notes_on_attack

    data = training_data(options)
    bottleneck = bottleneck_path(options["bottleneck"])
    strong = StrongAttack() if options["strong"] else None
    run_stage(
        lambda loop: train_attack(
            options["detector"], bottleneck, data, loop, strong, options["start"], options["split"]
        ),
        options,
        data,
        epochs=20,
        notes=lambda written: notes_on_attack(written, data),
    )


@command.command("decoder")
@together(*DATA_OPTIONS)
@together(*DECODER_OPTIONS)
@together(*LOOP_OPTIONS)
def decoder_command(**options: Any) -> None:
    """Optional: train AD alone, behind an AE that stays as it is. Neither bits nor privacy depend on AD.

    AD may be larger than AE, because it runs in the cloud, and it learns to undo what VVC does to the tensor. It needs
    no labels.
    """
    from featcodec.training.decoder import DecoderTask, train_decoder
    from featcodec.training.real_coding import QpRange

    data = training_data(options)
    path = bottleneck_path(options["bottleneck"])
    if path is None:
        raise click.UsageError("--bottleneck none: latent coding has no AD; give a bottleneck")
    task = DecoderTask(
        detector=options["detector"],
        bottleneck=path,
        layout=options["layout"],
        hidden_channels=options["hidden"],
        blocks=options["blocks"],
        weights=matching_weights(options),
        qps=QpRange(*options["qp"]),
        uncoded=options["uncoded"],
        simulated=options["simulated"],
        profile=profile_of(options),
    )
    run_stage(lambda loop: train_decoder(task, data, loop), options, data, epochs=20)


@command.command("restoration")
@together(*DATA_OPTIONS)
@together(*RESTORATION_OPTIONS)
@together(*LOOP_OPTIONS)
def restoration_command(**options: Any) -> None:
    """Optional: train a restoration, a light network that undoes coding noise in the decoder. Streams do not change.

    The restoration learns from what VVC really does to the tensor, or from simulated coding. It needs no labels.
    """
    from featcodec.training.real_coding import QpRange
    from featcodec.training.restoration import RestorationTask, train_restoration

    data = training_data(options)
    task = RestorationTask(
        detector=options["detector"],
        bottleneck=options["bottleneck"],
        layout=options["layout"],
        hidden_channels=options["hidden"],
        blocks=options["blocks"],
        weights=matching_weights(options),
        qps=QpRange(*options["qp"]),
        simulated=options["simulated"],
        profile=profile_of(options),
        start=options["start"],
        split=options["split"],
    )
    run_stage(lambda loop: train_restoration(task, data, loop), options, data, epochs=20)


for other_command in (*IMAGE_COMMANDS, *READER_COMMANDS):
    command.add_command(other_command)
