"""Kill a command again and again, run it once more each time, and look for what was lost.

    python tests/fuzz/kills.py encode --times 250 --seed 0

The commands are encode, decode, sweep and train, on a few tiny pictures. This process imports everything once and
forks. The child then runs the real command line, so a run takes one or two seconds instead of five. Half of the kills
come at a random moment. The other half come at a random file event: just before the process makes, renames, removes or
writes a file or folder. Only the process itself is killed (SIGKILL), not the programs that it started.

After each kill, every file with a final name must be whole, and the programs must end by themselves. Then the command
runs again to its end. Its files must be those of a run that nobody disturbed, byte for byte except for times, and
nothing may be done twice.

One line of JSON says how it went. `lost` counts the kills after which something was wrong; stderr says what.
`leftovers` counts programs that ran on. `hidden_parts` counts hidden files *.part that the second run did not remove.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a process that forks should have one thread
sys.path.insert(0, str(Path(__file__).parents[1]))

from finished_files import TIMED, broken, contents, finished, hidden_parts, rows, saved_step
from make_checkpoints import make_yolov5, save_yolov5
from pictures import save_texture
from sweep_set import make_sweep_set
from toy_training import SIDE as TRAINING_SIDE
from toy_training import make_toy_set
from zygote import Zygote

COMMANDS = ("encode", "decode", "sweep", "train")
SIZES = ((96, 64), (64, 96), (96, 64), (90, 90), (64, 96))


@dataclass
class Variant:
    """A command line, and what it makes when nobody disturbs it.

    Attributes:
        arguments: the command line.
        output: the folder of its files.
        again: further arguments for the second run.
        replaces: whether there may be older files that the run replaces.
        seconds, events: how long a whole run takes, and its number of file events.
        files: what a whole run leaves, without times.
    """

    arguments: list[str]
    output: Path
    again: list[str] = field(default_factory=list)
    replaces: bool = False
    seconds: float = 0.0
    events: int = 0
    files: dict[str, bytes] = field(default_factory=dict)


def kill_often(command: str, folder: Path, times: int, seed: int) -> dict[str, Any]:
    """Kill a command so many times. Returns the summary. What is wrong is printed on stderr.

    Args:
        command: one of `COMMANDS`.
        folder: an empty folder for everything.
        times: number of kills.
        seed: seed of the moments.
    """
    zygote = Zygote(folder)
    variants = _VARIANTS[command](zygote)
    for variant in variants:
        _run_undisturbed(zygote, variant)
    found = dict.fromkeys(("kills", "lost", "leftovers", "hidden_parts"), 0)
    started, dice = time.monotonic(), random.Random(seed)
    while found["kills"] < times:
        variant = dice.choice(variants)
        older = variant.files if variant.replaces and dice.random() < 0.5 else {}
        _prepare(zygote, variant, older)
        if not _kill(zygote, variant, dice):
            continue
        programs = zygote.programs_left()
        wrong = [f"{programs} programs ran on"] if programs else []
        wrong += broken(variant.output)
        if older and not older.items() <= contents(variant.output).items():
            wrong.append("an older file is not whole")
        wrong += _finish(zygote, variant)
        parts = len(hidden_parts(variant.output))
        for name, count in (("kills", 1), ("lost", bool(wrong)), ("leftovers", programs), ("hidden_parts", parts)):
            found[name] += count
        for line in wrong:
            print(f"{command}, seed {seed}, kill {found['kills']}: {line}", file=sys.stderr)
    return {"command": command, "seed": seed, **found, "seconds": round(time.monotonic() - started, 1)}


def _run_undisturbed(zygote: Zygote, variant: Variant) -> None:
    for _ in range(2):  # the first run also warms caches, so only the second one is as fast as all later ones
        before = variant.files
        _prepare(zygote, variant, {})
        code, variant.seconds = zygote.run(variant.arguments)
        variant.events, variant.files = zygote.file_events(), contents(variant.output)
        if code:
            raise SystemExit(f"{variant.arguments}: exit code {code}: {zygote.printed.read_text()}")
    if before != variant.files:
        raise SystemExit(f"{variant.arguments}: two undisturbed runs made different files")


def _prepare(zygote: Zygote, variant: Variant, older: dict[str, bytes]) -> None:
    shutil.rmtree(variant.output, ignore_errors=True)
    shutil.rmtree(zygote.temporary)
    zygote.temporary.mkdir()
    for name, data in older.items():
        (variant.output / name).parent.mkdir(parents=True, exist_ok=True)
        (variant.output / name).write_bytes(data)


def _kill(zygote: Zygote, variant: Variant, dice: random.Random) -> bool:
    if dice.random() < 0.5:
        return zygote.kill_at_event(variant.arguments, dice.randint(1, variant.events))
    return zygote.kill_after(variant.arguments, dice.uniform(0, variant.seconds))


def _finish(zygote: Zygote, variant: Variant) -> list[str]:
    """Run the command again, and say what is wrong then."""
    state, table = variant.output / "state.safetensors", variant.output / TIMED
    streams = {path: _identity(path) for path in finished(variant.output) if path.suffix == ".266"}
    measured = rows(table) if table.exists() else []
    step = saved_step(state)
    code, _ = zygote.run([*variant.arguments, *variant.again])
    printed = zygote.printed.read_text()
    wrong = [f"the second run ended with {code}: {printed}"] if code else []
    now = contents(variant.output)
    names = sorted({*variant.files, *now})
    wrong += [f"{name} is not as it should be" for name in names if now.get(name) != variant.files.get(name)]
    wrong += [f"{path.name} was coded twice" for path, before in streams.items() if _identity(path) != before]
    if measured and rows(table)[: len(measured)] != measured:
        wrong.append("a point was measured twice")
    trained = [int(found) for found in re.findall(r"^step (\d+)/", printed, re.MULTILINE)]
    if any(number <= step for number in trained):
        wrong.append(f"steps {trained} were trained although the checkpoint had step {step}")
    return wrong


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _detector(folder: Path) -> list[str]:
    return ["--detector", str(save_yolov5(folder / "tiny.pt", make_yolov5()))]


def _encode(zygote: Zygote, output: str = "out") -> list[Variant]:
    folder = zygote.folder
    for number, size in enumerate(SIZES):
        save_texture(folder / f"in/{number // 3}/{number}.png", *size, seed=number)
    coding = ["--device", "cpu", "--image-size", "96", "--batch", "2", "--workers", "2", "--qp", "30"]
    arguments = ["encode", str(folder / "in"), "-o", str(folder / output), *_detector(folder), *coding]
    return [Variant(arguments, folder / output)]


def _decode(zygote: Zygote) -> list[Variant]:
    folder, output = zygote.folder, zygote.folder / "out"
    for variant in _encode(zygote, "streams"):
        zygote.run(variant.arguments)
    drawing = ["--images", str(folder / "in"), "--draw", str(output / "drawn"), "--draw-conf", "0"]
    outputs = [["found.json"], ["found.csv", *drawing], ["found"]]
    common = ["decode", str(folder / "streams"), *_detector(folder), "--device", "cpu", "--workers", "2", "--overwrite"]
    return [Variant([*common, "-o", str(output / name), *others], output, replaces=True) for name, *others in outputs]


def _sweep(zygote: Zygote) -> list[Variant]:
    folder = zygote.folder
    detector = _detector(folder)
    make_sweep_set(folder, Path(detector[1]))
    data = [str(folder / "in"), "--annotations", str(folder / "annotations.json"), "-o", str(folder / "out" / TIMED)]
    points = [
        "--method",
        "latent",
        "--method",
        "input-jpeg",
        "--qp",
        "30,40",
        "--quality",
        "20,40",
        "--bootstrap",
        "10",
    ]
    size = ["--device", "cpu", "--image-size", "96", "--workers", "2"]
    return [Variant(["sweep", *data, *detector, *points, *size], folder / "out")]


def _train(zygote: Zygote) -> list[Variant]:
    folder = make_toy_set(zygote.folder)
    data = ["--annotations", str(folder / "annotations.json"), "--images", str(folder / "in"), *_detector(folder)]
    size = f"--image-size {TRAINING_SIDE} --batch-size 2 --steps 5 --held-out 2 --warmup-steps 1 --workers 1".split()
    often = ["--save-every", "2", "--evaluate-every", "2", "--accelerator", "cpu"]
    stages = (("bottleneck",), ("restoration", "--bottleneck", "none", "--qp", "30", "40"))
    return [
        Variant(["train", *stage, *data, *size, *often, "-o", str(folder / "out")], folder / "out", ["--resume"])
        for stage in stages
    ]


_VARIANTS = dict(zip(COMMANDS, (_encode, _decode, _sweep, _train), strict=True))

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--times", type=int, default=250, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="featcodec-kills-") as name:
        summary = kill_often(options.command, Path(name), options.times, options.seed)
    print(json.dumps(summary))
    sys.exit(bool(summary["lost"]))
