"""featcodec train: every stage from the command line, help, refusals in one line, and a run that is killed."""

from __future__ import annotations

import csv
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pictures import save_texture
from refusals import assert_refused
from toy_training import results, rows, steps_done

from featcodec.cli.main import main
from featcodec.cli.train_run import note_slow_precision
from featcodec.detectors import read_detector
from featcodec.networks.bottleneck import load_bottleneck
from featcodec.networks.restoration import load_restoration
from featcodec.privacy.recnet import load_recnet

STAGES = ("detector", "bottleneck", "recnet", "adversarial", "attack", "decoder", "restoration")
ENTRY = [sys.executable, "-c", "from featcodec.cli.main import main; main()"]


@pytest.fixture(scope="module")
def labelled(toy_set: Path) -> list[object]:
    """Where the pictures with boxes are."""
    return ["--annotations", toy_set / "annotations.json", "--images", toy_set / "in"]


@pytest.fixture(scope="module")
def toy(tiny_yolov5: Path) -> list[object]:
    """What makes a run small."""
    return (
        f"--detector {tiny_yolov5} --image-size 64 --batch-size 2 --steps 4 --save-every 2 --evaluate-every 2 "
        "--held-out 2 --warmup-steps 1 --accelerator cpu"
    ).split()  # type: ignore[return-value]


@pytest.fixture(scope="module")
def bottleneck(tmp_path_factory: pytest.TempPathFactory, toy: list[object], labelled: list[object]) -> Path:
    """The checkpoint of stage 1."""
    folder = tmp_path_factory.mktemp("stage1")
    with pytest.raises(SystemExit) as stop:
        main(["train", "bottleneck", *map(str, [*toy, *labelled]), "-o", str(folder)])
    assert stop.value.code == 0
    return folder / "last-bottleneck.safetensors"


@pytest.fixture(scope="module")
def recnet(
    tmp_path_factory: pytest.TempPathFactory, toy: list[object], labelled: list[object], bottleneck: Path
) -> Path:
    """The checkpoint of stage 2."""
    folder = tmp_path_factory.mktemp("stage2")
    arguments = [*toy, *labelled, "--bottleneck", bottleneck, "-o", folder]
    with pytest.raises(SystemExit) as stop:
        main(["train", "recnet", *map(str, arguments)])
    assert stop.value.code == 0
    return folder / "last-recnet.safetensors"


def assert_trained(result: tuple[int, str, str], written: Path) -> None:
    """Exit code 0, the checkpoint on stdout, the rest on stderr. Attacks of 4 steps fail, and the last line says so."""
    code, out, err = result
    assert (code, out) == (0, f"{written}\n")
    lines = [line for line in err.splitlines() if "no instructions for bfloat16" not in line]
    if lines[-1].startswith("featcodec: note: the attack failed: "):
        lines.pop()
    assert all(line.startswith(("step ", "featcodec: lowest loss on the held-out images: ")) for line in lines), err
    best = written.with_name(written.name.replace("last-", "best-"))
    assert lines[-1] == f"featcodec: lowest loss on the held-out images: {best}"
    assert best.is_file()
    assert lines[0].startswith("step 1/4  loss ")
    assert "step 4/4  held-out loss " in err


# Help


def test_help_names_the_stages_in_order(run: Any) -> None:
    code, out, _ = run("train", "--help")
    assert code == 0
    lines = out.splitlines()
    places = [next(place for place, line in enumerate(lines) if line.startswith(f"│ {name} ")) for name in STAGES]
    assert places == sorted(places)


@pytest.mark.parametrize("stage", STAGES)
def test_help_of_every_stage_explains_every_option(run: Any, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = run("train", stage, "--help")
    assert code == 0
    command = importlib.import_module("featcodec.cli.train").command.commands[stage]
    assert command.help
    for parameter in command.params:
        assert parameter.help, f"{stage} {parameter.opts} has no help text"
        assert parameter.opts[0] in out


@pytest.mark.slow
def test_help_needs_no_torch_and_is_fast() -> None:
    calls = [["train", "--help"], *(["train", stage, "--help"] for stage in STAGES)]
    code = "import sys; from featcodec.cli.main import main\n"
    code += f"for call in {calls}:\n    try: main(call)\n    except SystemExit as stop: assert not stop.code\n"
    code += "print([name for name in ('torch', 'ultralytics', 'cv2', 'lightning_fabric') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.splitlines()[-1] == "[]"


def test_defaults_are_those_of_the_library() -> None:
    """The command line repeats them, because it must not import torch for --help."""
    from featcodec.cli.train import command
    from featcodec.training.adversarial import PRIVACY_WEIGHT, AdversarialTask
    from featcodec.training.bottleneck import BottleneckTask
    from featcodec.training.data.samples import Augmentation
    from featcodec.training.decoder import DecoderTask
    from featcodec.training.loop_options import LoopOptions
    from featcodec.training.losses.objective import ObjectiveWeights
    from featcodec.training.losses.privacy import PrivacyTerm
    from featcodec.training.partners import StrongPartners
    from featcodec.training.real_coding import QpRange
    from featcodec.training.restoration import RestorationTask
    from featcodec.video import choose_profile

    defaults = {
        name: {parameter.name: parameter.default for parameter in command.commands[name].params} for name in STAGES
    }
    library = LoopOptions(Path(), 1)
    for options in defaults.values():
        for name in ("batch_size", "learning_rate", "optimizer", "weight_decay", "seed", "save_every"):
            assert options[name] == getattr(library, name), name
        for name in ("evaluate_every", "accelerator", "devices", "precision", "warmup_steps"):
            assert options[name] == getattr(library, name), name
        assert Augmentation(options["image_size"], mosaic=options["mosaic"]) == Augmentation()
    for name in ("bottleneck", "adversarial"):
        weights = [defaults[name][f"{term}_weight"] for term in ("detection", "feature", "neck", "prediction", "rate")]
        assert ObjectiveWeights(*weights) == ObjectiveWeights()
    task = BottleneckTask("yolov5n")
    assert (defaults["bottleneck"]["split"], defaults["bottleneck"]["clip"]) == (task.split, task.clip)
    assert defaults["adversarial"]["privacy_weight"] == PRIVACY_WEIGHT
    restoration = RestorationTask("yolov5n")
    weights = [defaults["restoration"][f"{term}_weight"] for term in ("feature", "neck", "prediction")]
    assert ObjectiveWeights(0, *weights) == restoration.weights
    assert QpRange(*defaults["restoration"]["qp"]) == restoration.qps
    assert defaults["restoration"]["bottleneck"] == restoration.bottleneck
    assert defaults["restoration"]["layout"] == restoration.layout
    encoder = (defaults["restoration"]["profile"], defaults["restoration"]["preset"])
    assert choose_profile(*encoder) == restoration.profile
    decoder = DecoderTask("yolov5n", "compact")
    for name in ("feature_weight", "neck_weight", "prediction_weight", "qp", "layout", "profile", "preset"):
        assert defaults["decoder"][name] == defaults["restoration"][name]
    assert (decoder.weights, decoder.qps, decoder.profile) == (
        restoration.weights,
        restoration.qps,
        restoration.profile,
    )
    assert (defaults["decoder"]["uncoded"], defaults["decoder"]["layout"]) == (decoder.uncoded, decoder.layout)
    assert defaults["adversarial"]["attacker_steps"] == AdversarialTask("yolov5n", "compact", None).attacker_steps
    partners = StrongPartners()
    privacy = [defaults["adversarial"][f"privacy_{name}"] for name in ("colour_weight", "edge_weight")]
    assert PrivacyTerm(None, *privacy) == PrivacyTerm()
    assert (defaults["adversarial"]["fresh_every"], defaults["adversarial"]["head_start"]) == (
        *(partners.fresh_every, partners.head_start),
    )


# Stages


@pytest.fixture(scope="module")
def small(toy: list[object]) -> list[object]:
    """What makes the run of a detector small: there is no --detector."""
    return [*toy[2:], "--width", "0.1"]


@pytest.mark.slow
def test_an_architecture_of_ultralytics_is_trained(
    run: Any, tmp_path: Path, toy: list[object], labelled: list[object]
) -> None:
    output = tmp_path / "yolo26n"
    result = run("train", "detector", *toy[2:], *labelled, "--architecture", "yolo26n", "-o", output)
    assert_trained(result, output / "last-detector.safetensors")
    config, _ = read_detector(output / "last-detector.safetensors")
    assert (len(config.names), config.training["architecture"]) == (2, "yolo26n")
    for given, message in (
        (["--architecture", "yolo26q"], "there is no architecture 'yolo26q'"),
        (["--architecture", "yolo26n", "--width", 0.5], "has its own sizes"),
        (["--architecture", "yolo11n", "--start", output / "last-detector.safetensors"], "is not a yolo11n"),
    ):
        assert_refused(run("train", "detector", *toy[2:], *labelled, *given, "-o", tmp_path / "out"), message)


@pytest.mark.slow
def test_a_detector_and_a_bottleneck_behind_it(
    run: Any, tmp_path: Path, toy: list[object], small: list[object], labelled: list[object], toy_set: Path
) -> None:
    output = tmp_path / "detector"
    result = run("train", "detector", *small, *labelled, "--depth", 0.5, "--weight-decay", 0.01, "-o", output)
    assert_trained(result, output / "last-detector.safetensors")
    config, _ = read_detector(output / "last-detector.safetensors")
    assert (config.names, config.depth_multiple, config.width_multiple) == (("newt", "cat"), 0.5, 0.1)
    assert config.training["weight_decay"] == 0.01

    detector = ["--detector", output / "best-detector.safetensors"]
    result = run("train", "bottleneck", *toy[2:], *labelled, *detector, "-o", tmp_path / "bottleneck")
    assert_trained(result, tmp_path / "bottleneck/last-bottleneck.safetensors")
    model = [*detector, "--bottleneck", tmp_path / "bottleneck/last-bottleneck.safetensors"]
    assert run("encode", toy_set / "in/0.png", "-o", tmp_path / "streams", *model, "--image-size", 64)[0] == 0
    assert run("decode", tmp_path / "streams", "-o", tmp_path / "d.json", *model)[0] == 0
    assert isinstance(json.loads((tmp_path / "d.json").read_text()), list)


@pytest.mark.slow
def test_a_detector_goes_on_from_another_and_keeps_its_classes(
    run: Any, tmp_path: Path, small: list[object], labelled: list[object]
) -> None:
    (tmp_path / "labels").mkdir()
    for number in range(4):
        save_texture(tmp_path / f"images/{number}.png", 64, 64, seed=number)
        (tmp_path / f"labels/{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\n")
    both = [*labelled, "--data", tmp_path / "data.yaml"]
    assert run("train", "detector", *small, *both, "-o", tmp_path / "first")[0] == 0
    start = tmp_path / "first/last-detector.safetensors"
    assert read_detector(start)[0].names == ("newt", "cat")
    arguments = [*small[:-2], "--data", tmp_path / "data.yaml", "--start", start]
    assert run("train", "detector", *arguments, "-o", tmp_path / "second")[0] == 0
    config, _ = read_detector(tmp_path / "second/last-detector.safetensors")
    assert (config.names, config.width_multiple) == (("newt", "cat"), 0.1)
    assert config.training["data"]["images"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no images; give --annotations with --images, or --data"),
        (["--images", "{set}/in"], "--annotations and --images belong together"),
        (["--data", "{set}/absent.yaml"], "absent.yaml: "),
        (["{labelled}", "--width", "0"], "width multiple 0.0 is not above 0 and up to 1.5"),
        (["{labelled}", "--depth", "nan"], "depth multiple nan is not above 0"),
        (["{labelled}", "--start", "{set}/absent.safetensors"], "absent.safetensors: no such file"),
        (["{labelled}", "--start", "{bottleneck}"], "not a detector of featcodec"),
        (["{labelled}", "--learning-rate", "-1"], "Invalid learning rate: -1.0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_detector_is_refused_in_one_line(
    run: Any,
    tmp_path: Path,
    small: list[object],
    labelled: list[object],
    names: dict[str, Path],
    arguments: list[str],
    message: str,
) -> None:
    given: list[object] = []
    for argument in arguments:
        given += labelled if argument == "{labelled}" else [argument.format(**names)]
    assert_refused(run("train", "detector", *small, "-o", tmp_path / "out", *given), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_stages_in_a_row(
    run: Any, tmp_path: Path, toy: list[object], labelled: list[object], bottleneck: Path, recnet: Path
) -> None:
    output = tmp_path / "adversarial"
    arguments = [*toy, *labelled, "--bottleneck", bottleneck, "--recnet", recnet, "--privacy-weight", 0.5]
    result = run("train", "adversarial", *arguments, "-o", output, "--recnet-learning-rate", 1e-4)
    assert_trained(result, output / "last-bottleneck.safetensors")
    final = load_bottleneck(output / "last-bottleneck.safetensors")
    assert final.config.training["privacy_weight"] == 0.5
    assert load_recnet(output / "last-recnet.safetensors").config.training["stage"] == "adversarial"
    assert {"L_rec", "objective", "detection"} <= set(rows(output / "log.csv")[0])

    output = tmp_path / "attack"
    attacked = tmp_path / "adversarial/last-bottleneck.safetensors"
    result = run("train", "attack", *toy, *labelled, "--bottleneck", attacked, "-o", output)
    assert_trained(result, output / "last-recnet.safetensors")
    attacker = load_recnet(output / "last-recnet.safetensors")
    assert attacker.config.training["bottleneck"] == final.fingerprint().hex()
    assert set(attacker.config.training["metrics"]) == {"loss", "PSNR", "edge-PSNR"}

    output = tmp_path / "latent"
    result = run("train", "attack", *toy, *labelled, "--bottleneck", "none", "-o", output)
    assert_trained(result, output / "last-recnet.safetensors")
    assert load_recnet(output / "last-recnet.safetensors").config.channels == 0


@pytest.mark.slow
def test_stage_1_with_every_option(run: Any, tmp_path: Path, toy: list[object], labelled: list[object]) -> None:
    output = tmp_path / "out"
    options = "--split 3 --channels 3 --hidden 5 --clip -2 4 --simulated-qp 30 40 --rate-weight 0.1 --feature-weight 1 "
    options += "--neck-weight 0.5 --prediction-weight 0.25 --detection-weight 2 --optimizer sgd --learning-rate 0.01 "
    options += "--weight-decay 0.001 --seed 3 --workers 1 --crop 32 --mosaic 0.5 --precision bf16-mixed --threads 1"
    result = run("train", "bottleneck", *toy, *labelled, *options.split(), "-o", output)
    assert_trained(result, output / "last-bottleneck.safetensors")
    config = load_bottleneck(output / "last-bottleneck.safetensors").config
    assert (config.split, config.channels, config.hidden_channels, config.clip_high) == (3, 3, 5, 4)
    training = config.training
    assert training["weights"] == {"detection": 2, "features": 1, "neck": 0.5, "predictions": 0.25, "rate": 0.1}
    assert (training["simulation"]["qp_low"], training["simulation"]["qp_high"]) == (30, 40)
    assert (training["simulation"]["clip_low"], training["simulation"]["clip_high"]) == (-2, 4)
    assert training["data"]["augmentation"]["crop"] == 32
    assert (training["optimizer"], training["seed"], training["precision"]) == ("sgd", 3, "bf16-mixed")


def test_stage_1_leaves_what_the_help_says(bottleneck: Path, toy_set: Path) -> None:
    folder = bottleneck.parent
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "last-bottleneck.safetensors",
        "best-bottleneck.safetensors",
        "state.safetensors",
        "log.csv",
        "held-out.csv",
        "tensorboard",
    }
    with (folder / "log.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "4"]
    training = load_bottleneck(bottleneck).config.training
    assert training["data"] == {
        "images": 3,
        "labelled": 3,
        "held_out": 2,
        "augmentation": training["data"]["augmentation"],
    }
    assert training["detector"] == "tiny_yolov5.pt"
    for path in folder.glob("*.safetensors"):
        assert str(folder).encode() not in path.read_bytes()
        assert str(toy_set).encode() not in path.read_bytes()


def test_tensorboard_has_scalars_and_pictures(recnet: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(recnet.parent / "tensorboard"), {"images": 0, "scalars": 0})
    board.Reload()
    assert [event.step for event in board.Scalars("loss")] == [1, 4]
    held_out = {name for name in board.Tags()["scalars"] if "PSNR" in name}
    assert len(held_out) == 2
    for name in held_out:
        assert [event.step for event in board.Scalars(name)] == [2, 4]
    (name,) = board.Tags()["images"]
    pictures = board.Images(name)
    assert [picture.step for picture in pictures] == [2, 4]
    # Two originals and two reconstructions in one picture.
    assert {picture.width * picture.height for picture in pictures} == {4 * 64 * 64}


@pytest.mark.slow
def test_photographs_without_labels_will_do(run: Any, tmp_path: Path, toy: list[object], toy_set: Path) -> None:
    photographs = ["--unlabelled", toy_set / "in"]
    weights = ["--detection-weight", 0, "--feature-weight", 1]
    result = run("train", "bottleneck", *toy, *photographs, *weights, "-o", tmp_path / "a")
    assert_trained(result, tmp_path / "a/last-bottleneck.safetensors")
    result = run("train", "recnet", *toy, *photographs, "--bottleneck", "none", "-o", tmp_path / "b")
    assert_trained(result, tmp_path / "b/last-recnet.safetensors")
    training = load_recnet(tmp_path / "b/last-recnet.safetensors").config.training
    assert (training["data"]["labelled"], training["data"]["images"]) == (0, 3)


@pytest.mark.slow
def test_an_ultralytics_data_set_and_photographs_together(
    run: Any, tmp_path: Path, toy: list[object], toy_set: Path
) -> None:
    for number in range(4):
        save_texture(tmp_path / f"set/images/{number}.png", 64, 64, seed=number)
        (tmp_path / "set/labels").mkdir(exist_ok=True)
        (tmp_path / f"set/labels/{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (tmp_path / "set/data.yaml").write_text("train: images\nnames: [cat]\n")
    data = ["--data", tmp_path / "set/data.yaml", "--unlabelled", toy_set / "in/0.png", "--unlabelled"]
    result = run("train", "bottleneck", *toy, *data, toy_set / "in/1.png", "-o", tmp_path / "out")
    assert_trained(result, tmp_path / "out/last-bottleneck.safetensors")
    described = load_bottleneck(tmp_path / "out/last-bottleneck.safetensors").config.training["data"]
    assert (described["images"], described["labelled"], described["held_out"]) == (4, 2, 2)


@pytest.mark.slow
def test_epochs_become_steps(run: Any, tmp_path: Path, toy: list[object], labelled: list[object]) -> None:
    """3 images kept, 2 a step: 2.5 epochs are 3.75 steps."""
    without_steps = [*toy[: toy.index("--steps")], *toy[toy.index("--steps") + 2 :]]
    arguments = [*without_steps, *labelled, "--epochs", "2.5", "-o", tmp_path / "out"]
    result = run("train", "bottleneck", *arguments)
    assert_trained(result, tmp_path / "out/last-bottleneck.safetensors")
    assert steps_done(tmp_path / "out") == 4


@pytest.mark.slow
def test_a_small_copy_of_the_images_trains_as_they_do(
    run: Any, tmp_path: Path, toy: list[object], labelled: list[object], tiny_yolov5: Path
) -> None:
    copy = tmp_path / "copy"
    shrink = ["train", "shrink", "--detector", tiny_yolov5, *labelled, "--image-size", 48]
    code, out, err = run(*shrink, "-o", copy)
    assert (code, out) == (0, f"{copy}\n")
    assert "images as JPEG of quality 95" in err
    of_copy = ["--annotations", copy / "annotations.json", "--images", copy / "images"]
    result = run("train", "bottleneck", *toy, *of_copy, "-o", tmp_path / "run")
    assert_trained(result, tmp_path / "run/last-bottleneck.safetensors")

    code, _, err = run(*shrink, "-o", copy)
    assert code == 1
    assert "holds other things" in err
    code, _, err = run(*shrink, "-o", tmp_path / "small", "--megabytes", 0.0001)
    assert code == 1
    assert "do not fit into 104 bytes; give a smaller size, fewer images, or more room" in err


@pytest.mark.slow
def test_a_budget_of_minutes_becomes_steps(
    run: Any, tmp_path: Path, toy: list[object], labelled: list[object], bottleneck: Path
) -> None:
    without_steps = [*toy[: toy.index("--steps")], *toy[toy.index("--steps") + 2 :]]
    arguments = [*without_steps, *labelled, "--bottleneck", bottleneck, "-o", tmp_path / "out", "--strong"]
    code, out, err = run("train", "attack", *arguments, "--minutes", 0.002)
    assert (code, out) == (0, f"{tmp_path / 'out/last-recnet.safetensors'}\n")
    steps = steps_done(tmp_path / "out")
    assert f"note: {steps} steps fit into 0.002 minutes" in err
    # Again, with another budget: the run is finished, and keeps its steps.
    assert run("train", "attack", *arguments, "--minutes", 5, "--resume")[0] == 0
    assert steps_done(tmp_path / "out") == steps
    code, _, err = run(
        "train", "attack", *toy, *labelled, "--bottleneck", "none", "-o", tmp_path / "no", "--minutes", 1
    )
    assert code == 2
    assert "give only one" in " ".join(err.split())


@pytest.mark.slow
def test_a_decoder_that_knows_the_qp(
    run: Any, tmp_path: Path, toy: list[object], labelled: list[object], bottleneck: Path, toy_set: Path
) -> None:
    """Trained through VVC; then a bitstream is decoded by it, and an old attacker still attacks it."""
    attacker = tmp_path / "attack/last-recnet.safetensors"
    attack = ["--bottleneck", bottleneck, "--strong", "-o", attacker.parent]
    assert_trained(run("train", "attack", *toy, *labelled, *attack), attacker)
    written = tmp_path / "decoder/last-bottleneck.safetensors"
    arguments = [*toy, *labelled, "--bottleneck", bottleneck, "--hidden", 12, "--blocks", 2, "-o", written.parent]
    assert_trained(run("train", "decoder", *arguments), written)
    before, after = load_bottleneck(bottleneck), load_bottleneck(written)
    assert (after.config.decoder_hidden_channels, after.config.decoder_blocks) == (12, 2)
    assert after.config.decoder_knows_qp
    assert after.edge_fingerprint() == before.edge_fingerprint()
    model = [*toy[:2], "--bottleneck", written]
    assert run("encode", toy_set / "in/0.png", "-o", tmp_path / "streams", *model, "--image-size", 64)[0] == 0
    assert run("decode", tmp_path / "streams", "-o", tmp_path / "d.json", *model)[0] == 0
    assert run("invert", tmp_path / "streams", "-o", tmp_path / "seen", *model, "--recnet", attacker)[0] == 0
    refused = run("train", "decoder", *toy, *labelled, "--bottleneck", "none", "-o", tmp_path / "no")
    assert refused[0] == 2
    assert "latent coding has no AD" in " ".join(refused[2].split())


@pytest.mark.slow
def test_a_restoration_of_real_and_of_simulated_coding(
    run: Any, tmp_path: Path, toy: list[object], labelled: list[object], bottleneck: Path, toy_set: Path
) -> None:
    arguments = [*toy, *labelled, "--bottleneck", bottleneck, "--qp", 38, 44]
    first = tmp_path / "simulated/last-restoration.safetensors"
    result = run("train", "restoration", *arguments, "--simulated", "--hidden", 8, "--blocks", 2, "-o", first.parent)
    assert_trained(result, first)
    written = tmp_path / "real/last-restoration.safetensors"
    real = ["--start", first, "--encoder-param", "ISP=3", "--preset", "fast", "-o", written.parent]
    assert_trained(run("train", "restoration", *arguments, *real), written)
    config = load_restoration(written).config
    assert (config.channels, config.hidden_channels, config.blocks) == (
        load_bottleneck(bottleneck).config.channels,
        *(8, 2),
    )
    assert config.training["qps"] == {"low": 38, "high": 44}
    assert config.training["encoder"] == {"preset": "fast", "parameters": {"ISP": "3"}}
    assert config.training["start"]["simulated"] is True
    model = [*toy[:2], "--bottleneck", bottleneck]
    assert run("encode", toy_set / "in/0.png", "-o", tmp_path / "streams", *model, "--image-size", 64)[0] == 0
    assert run("decode", tmp_path / "streams", "-o", tmp_path / "d.json", *model, "--restoration", written)[0] == 0


# Resuming


@pytest.mark.slow
def test_an_existing_run_is_refused_and_a_finished_one_is_only_named(
    run: Any, toy: list[object], labelled: list[object], bottleneck: Path
) -> None:
    folder = bottleneck.parent
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    arguments = ["train", "bottleneck", *toy, *labelled, "-o", folder]
    assert_refused(run(*arguments), f"{folder}: holds a training run; go on with --resume, or give another folder")
    code, out, err = run(*arguments, "--resume")
    assert (code, out) == (0, f"{bottleneck}\n")
    assert err == f"featcodec: lowest loss on the held-out images: {folder / 'best-bottleneck.safetensors'}\n"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--learning-rate", "0.1"], "was made with learning_rate 0.001, not 0.1"),
        (["--channels", "3"], "was made with channels None, not 3"),
        (["--clip", "-6", "6"], "was made with clip [-3.0, 3.0], not [-6.0, 6.0]"),
        (["--steps", "5"], "was made with steps 4, not 5"),
        (["--held-out", "1"], "was made with data "),
        (["--neck-weight", "1"], "was made with weights "),
        (["--simulated-qp", "30", "40"], "was made with simulation None, not "),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_resuming_with_other_settings_is_refused_by_name(
    run: Any, toy: list[object], labelled: list[object], bottleneck: Path, change: list[str], message: str
) -> None:
    before = results(bottleneck.parent)
    arguments = ["train", "bottleneck", *toy, *labelled, *change, "-o", bottleneck.parent, "--resume"]
    assert_refused(run(*arguments), message, "resume with the same settings")
    assert results(bottleneck.parent) == before


def test_resuming_as_another_stage_is_refused(
    run: Any, toy: list[object], labelled: list[object], bottleneck: Path
) -> None:
    arguments = [*toy, *labelled, "--bottleneck", "none", "-o", bottleneck.parent, "--resume"]
    assert_refused(run("train", "attack", *arguments), "resume with the same settings")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["detector", "bottleneck", "adversarial"])
def test_a_killed_run_resumes_bit_for_bit(
    run: Any,
    tmp_path: Path,
    toy: list[object],
    small: list[object],
    labelled: list[object],
    bottleneck: Path,
    stage: str,
) -> None:
    """A real process, killed behind its first checkpoint, goes on in this one."""
    start = small if stage == "detector" else toy
    arguments = ["train", stage, *start, *labelled, "--steps", 24, "--save-every", 3, "--evaluate-every", 4]
    if stage != "detector":
        arguments += ["--simulated-qp", 30, 40, "--rate-weight", 0.1, "--neck-weight", 1]
    if stage == "adversarial":
        arguments += ["--bottleneck", bottleneck]
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    command = [*ENTRY, *map(str, arguments), "-o", str(cut)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (cut / "state.safetensors").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.kill()
    process.communicate(timeout=20)
    assert 3 <= steps_done(cut) < 24
    for path in cut.glob(".*.part"):
        path.unlink()  # what was being written when it was killed
    code, out, _ = run(*arguments, "-o", cut, "--resume")
    kind = "detector" if stage == "detector" else "bottleneck"
    assert (code, out) == (0, f"{cut / f'last-{kind}.safetensors'}\n")
    assert run(*arguments, "-o", whole)[0] == 0
    expected, found = results(whole), results(cut)
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []
    assert {"log.csv", "held-out.csv", "state.safetensors"} < expected.keys()


# Refusals


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no images; give --annotations with --images, --data or --unlabelled"),
        (["--annotations", "{set}/annotations.json"], "--annotations and --images belong together"),
        (["--images", "{set}/in"], "--annotations and --images belong together"),
        (["--annotations", "{set}/absent.json", "--images", "{set}/in"], "absent.json: "),
        (
            ["--annotations", "{set}/annotations.json", "--images", "{set}/absent"],
            "absent: cannot be read (No such file",
        ),
        (["--data", "{set}/absent.yaml"], "absent.yaml: "),
        (["--unlabelled", "{set}/nothing"], "nothing"),
        (["--unlabelled", "{set}/in"], "L_obj needs labelled images"),
        (["{labelled}", "--held-out", "5"], "cannot hold out 5 of 5 images"),
        (["{labelled}", "--held-out", "99"], "cannot hold out 99 of 5 images"),
        (["{labelled}", "--rate-weight", "0.1"], "--rate-weight is measured in simulated coding; give --simulated-qp"),
        (["{labelled}", "--detection-weight", "0"], "all weights are 0"),
        (["{labelled}", "--simulated-qp", "40", "30"], "QP range [40.0, 30.0] is empty"),
        (["{labelled}", "--clip", "3", "-3"], "clip range [3.0, -3.0] is empty"),
        (["{labelled}", "--image-size", "100"], "image size 100 is not a multiple of 32"),
        (["{labelled}", "--crop", "96"], "crop 96 is larger than the image size 64"),
        (["{labelled}", "--learning-rate", "-1"], "Invalid learning rate: -1.0"),
        (["{labelled}", "--learning-rate", "nan"], "Invalid learning rate: nan"),
        (["{labelled}", "--weight-decay", "-1"], "Invalid weight_decay value"),
        (["{labelled}", "--accelerator", "abacus"], "cannot train here"),
        (["{labelled}", "--detector", "{set}/absent.pt"], "absent.pt"),
        (["{labelled}", "--start", "{set}/absent.safetensors"], "absent.safetensors: no such file"),
        (["{labelled}", "--start", "{set}/annotations.json"], "not a safetensors checkpoint"),
        (["{labelled}", "--start", "{recnet}"], "not a bottleneck of featcodec"),
        (["{labelled}", "-o", "{set}/annotations.json"], "annotations.json: cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_stage_1_refuses_in_one_line(
    run: Any,
    tmp_path: Path,
    toy: list[object],
    toy_set: Path,
    labelled: list[object],
    recnet: Path,
    arguments: list[str],
    message: str,
) -> None:
    output = tmp_path / "out"
    given: list[object] = []
    for argument in arguments:
        if argument == "{labelled}":
            given += labelled
        else:
            given.append(argument.replace("{set}", str(toy_set)).replace("{recnet}", str(recnet)))
    assert_refused(run("train", "bottleneck", *toy, "-o", output, *given), message)
    assert not output.exists()


@pytest.fixture
def names(toy_set: Path, bottleneck: Path, recnet: Path, tiny_yolov5u: Path) -> dict[str, Path]:
    return {"set": toy_set, "bottleneck": bottleneck, "recnet": recnet, "other": tiny_yolov5u}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "arguments", "message"),
    [
        ("recnet", ["--bottleneck", "{set}/absent"], "absent: no such file"),
        ("recnet", ["--bottleneck", "{recnet}"], "not a bottleneck of featcodec"),
        ("recnet", ["--bottleneck", "none", "--start", "{bottleneck}"], "not a recnet of featcodec"),
        ("recnet", ["--bottleneck", "none", "--start", "{recnet}"], "train a RecNet for this model"),
        ("recnet", ["--bottleneck", "{bottleneck}", "--detector", "{other}"], "trained behind the detector"),
        ("attack", ["--bottleneck", "{bottleneck}", "--detector", "{other}"], "trained behind the detector"),
        ("attack", ["--bottleneck", "{bottleneck}", "--start", "{bottleneck}"], "not a recnet of featcodec"),
        (
            "attack",
            ["--bottleneck", "{bottleneck}", "--strong", "--start", "{recnet}"],
            "is the paper's RecNet, but a strong RecNet is trained here; start from one of that kind",
        ),
        ("adversarial", ["--bottleneck", "{bottleneck}", "--detector", "{other}"], "trained behind the detector"),
        ("adversarial", ["--bottleneck", "{bottleneck}", "--recnet", "{bottleneck}"], "not a recnet of featcodec"),
        ("adversarial", ["--bottleneck", "{bottleneck}", "--rate-weight", "1"], "give --simulated-qp too"),
        ("adversarial", ["--bottleneck", "{bottleneck}", "--recnet-learning-rate", "-1"], "Invalid learning rate"),
        ("restoration", ["--bottleneck", "{set}/absent"], "absent: no such file"),
        ("restoration", ["--bottleneck", "{recnet}"], "not a bottleneck of featcodec"),
        ("restoration", ["--bottleneck", "compact"], "was trained behind another detector"),
        ("restoration", ["--start", "{bottleneck}"], "not a restoration of featcodec"),
        ("restoration", ["--qp", "40", "30"], "QP range [40, 30] is empty"),
        ("restoration", ["--encoder-param", "QP"], "not of the form NAME=VALUE"),
        ("restoration", ["--encoder-param", "QP=3"], "encoder parameter QP is not allowed"),
        ("restoration", ["--encoder-param", "Spam=3"], "encoder parameter Spam is not allowed"),
        (
            "restoration",
            ["--feature-weight", "0", "--neck-weight", "0", "--prediction-weight", "0"],
            "all weights are 0",
        ),
        ("attack", ["--bottleneck", "none", "--precision", "16-mixed", "--accelerator", "cuda"], "cannot train here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_other_stages_refuse_in_one_line(
    run: Any,
    tmp_path: Path,
    toy: list[object],
    labelled: list[object],
    names: dict[str, Path],
    stage: str,
    arguments: list[str],
    message: str,
) -> None:
    given = [argument.format(**names) for argument in arguments]
    assert_refused(run("train", stage, *toy, *labelled, "-o", tmp_path / "out", *given), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "nonsense"],
        ["train", "bottleneck"],
        ["train", "bottleneck", "-o", "x", "--split", "-1"],
        ["train", "bottleneck", "-o", "x", "--steps", "0"],
        ["train", "bottleneck", "-o", "x", "--channels", "0"],
        ["train", "bottleneck", "-o", "x", "--optimizer", "lion"],
        ["train", "bottleneck", "-o", "x", "--simulated-qp", "30"],
        ["train", "bottleneck", "-o", "x", "--held-out", "-1"],
        ["train", "bottleneck", "-o", "x", "--precision", "8-bit"],
        ["train", "bottleneck", "-o", "x", "--seed", str(2**70)],
        ["train", "detector"],
        ["train", "detector", "-o", "x", "--detector", "yolov5n"],
        ["train", "detector", "-o", "x", "--unlabelled", "x"],
        ["train", "recnet", "-o", "x"],
        ["train", "attack", "-o", "x"],
        ["train", "adversarial", "-o", "x"],
        ["train", "restoration", "-o", "x", "--qp", "30", "64"],
        ["train", "restoration", "-o", "x", "--rate-weight", "1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(run: Any, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err


@pytest.mark.slow
def test_a_run_that_diverges_is_one_line_and_keeps_its_checkpoint(
    run: Any, tmp_path: Path, toy: list[object], labelled: list[object]
) -> None:
    arguments = [*toy, *labelled, "--learning-rate", "1e30", "--save-every", 1, "--held-out", 0, "-o", tmp_path / "a"]
    code, out, err = run("train", "bottleneck", *arguments)
    assert (code, out) == (1, "")
    assert [line for line in err.splitlines() if not line.startswith("step ")] == [
        f"featcodec: {tmp_path / 'a'}: the loss of the bottleneck is not finite; the last checkpoint is kept: train "
        "again into another folder with a lower learning rate"
    ]
    assert steps_done(tmp_path / "a") >= 1
    load_bottleneck(tmp_path / "a/last-bottleneck.safetensors")


@pytest.mark.slow
def test_what_is_trained_fits_the_codec(
    run: Any, tmp_path: Path, tiny_yolov5: Path, toy_set: Path, bottleneck: Path
) -> None:
    model = ["--detector", tiny_yolov5, "--bottleneck", bottleneck]
    image = toy_set / "in/0.png"
    assert run("encode", image, "-o", tmp_path / "streams", *model, "--image-size", 64)[0] == 0
    assert run("decode", tmp_path / "streams", "-o", tmp_path / "d.json", *model)[0] == 0
    assert isinstance(json.loads((tmp_path / "d.json").read_text()), list)


@pytest.mark.parametrize("is_fast", [True, False])
def test_a_precision_that_is_slow_here_is_said(
    is_fast: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("featcodec.system.devices.has_fast_bfloat16", lambda device: is_fast)
    note_slow_precision("bf16-mixed", "cpu")
    note_slow_precision("32-true", "cpu")
    said = capsys.readouterr().err
    assert said.count("note: this CPU has no instructions for bfloat16") == (not is_fast)
