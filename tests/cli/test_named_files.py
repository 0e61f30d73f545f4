"""Every option and argument that names a file: what is not a regular file is refused at once, in one line."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
from pathlib import Path

import click
import pytest
from pictures import save_texture
from toy_training import make_toy_set

from featcodec.cli.main import cli, main
from featcodec.networks.catalogue import SHIPPED_FOLDER

FILE = "FILE"
"""Stands for the name of the odd file."""
KINDS = ("pipe", "folder", "endless", "socket", "missing")

# "{}" is a folder with what the commands need; `out` is new.
SCENES = "--detector scenes --device cpu"
TRAIN = "-o out --detector scenes --steps 1 --held-out 0"
STREET = SHIPPED_FOLDER / "scenes-street.safetensors"
COMMANDS = {
    "encode SRC": f"encode FILE -o out {SCENES}",
    "encode --detector": "encode {}/in -o out --detector FILE",
    "encode --bottleneck": f"encode {{}}/in -o out {SCENES} --bottleneck FILE.safetensors",
    "encode --layout": f"encode {{}}/in -o out {SCENES} --layout FILE.safetensors",
    "decode SRC": f"decode FILE.266 -o out.json {SCENES}",
    "decode --annotations": f"decode {{}}/streams -o out.json {SCENES} --annotations FILE",
    "decode --restoration": f"decode {{}}/streams -o out.json {SCENES} --restoration FILE.safetensors",
    "evaluate DETECTIONS": "evaluate FILE --annotations {}/annotations.json",
    "evaluate --annotations": "evaluate {}/results.json --annotations FILE",
    "evaluate --streams": "evaluate {}/results.json --annotations {}/annotations.json --streams FILE.266",
    "inspect SRC": "inspect FILE.266",
    "invert SRC": f"invert FILE.266 -o out {SCENES}",
    "invert --recnet": f"invert {{}}/streams -o out {SCENES} --recnet FILE.safetensors",
    "invert --latent-recnet": f"invert {{}}/in -o out {SCENES} --latent-recnet FILE.safetensors",
    "invert --private": f"invert {{}}/in -o out {SCENES} --private FILE",
    "invert --plate-reader": f"invert {{}}/in -o out {SCENES} --private {{}}/private.json --plate-reader FILE",
    "audit SRC": f"audit FILE.266 -o out {SCENES} --originals {{}}/in",
    "audit --recnet": f"audit {{}}/in -o out {SCENES} --recnet FILE.safetensors",
    "audit --private": f"audit {{}}/in -o out {SCENES} --private FILE",
    "audit --direct-reader": f"audit {{}}/in -o out {SCENES} --private {{}}/private.json --direct-reader FILE",
    "audit --plate-reader": f"audit {{}}/in -o out {SCENES} --private {{}}/private.json --plate-reader FILE",
    "audit --annotations": f"audit {{}}/in -o out {SCENES} --points out.csv --annotations FILE",
    "sweep SRC": f"sweep FILE --annotations {{}}/annotations.json -o out.csv {SCENES}",
    "sweep --annotations": f"sweep {{}}/in --annotations FILE -o out.csv {SCENES}",
    "sweep --bottleneck": f"sweep {{}}/in --annotations {{}}/annotations.json -o out.csv {SCENES} --bottleneck FILE",
    "sweep --layout": f"sweep {{}}/in --annotations {{}}/annotations.json -o out.csv {SCENES} --layout FILE",
    "sweep --recnet": f"sweep {{}}/in --annotations {{}}/annotations.json -o out.csv {SCENES} --recnet FILE",
    "sweep --restoration": f"sweep {{}}/in --annotations {{}}/annotations.json -o out.csv {SCENES} --restoration FILE",
    "bd ANCHOR": "bd FILE {}/curve.csv",
    "bd TEST": "bd {}/curve.csv FILE",
    "report CSV": "report FILE -o out.html",
    "report --commands": "report {}/points.csv -o out.html --commands FILE",
    "train --annotations": f"train attack {TRAIN} --bottleneck none --annotations FILE --images {{}}/in",
    "train --data": f"train attack {TRAIN} --bottleneck none --data FILE",
    "train --unlabelled": f"train attack {TRAIN} --bottleneck none --unlabelled FILE",
    "train --detector": f"train attack {TRAIN} --bottleneck none --unlabelled {{}}/in --detector FILE",
    "train --bottleneck": f"train attack {TRAIN} --bottleneck FILE --unlabelled {{}}/in",
    "train --start": f"train recnet {TRAIN} --bottleneck none --start FILE --unlabelled {{}}/in",
    "train --recnet": f"train adversarial {TRAIN} --bottleneck {STREET} --unlabelled {{}}/in --recnet FILE "
    "--detection-weight 0",
    "train --private": "train plate-reader -o out --private FILE --images {}/in",
    "train direct-reader --private": f"train direct-reader {TRAIN} --bottleneck none --private FILE --images {{}}/in",
    "train layout SRC": "train layout FILE -o out.safetensors --detector scenes",
    "train layout --bottleneck": "train layout {}/in -o out.safetensors --detector scenes --bottleneck FILE",
    "serve --token-file": "serve --detector scenes --device cpu --port 0 --token-file FILE",
    "stream SOURCE": "stream FILE.mp4 --to ws://127.0.0.1:9 --detector scenes --device cpu",
    "stream --token-file": "stream {}/in --to ws://127.0.0.1:9 --detector scenes --device cpu --token-file FILE",
    "stream --model": "stream {}/in --to ws://127.0.0.1:9 --model FILE",
    "frigate --model": "frigate --to ws://127.0.0.1:9 --endpoint tcp://127.0.0.1:0 --model FILE",
    "frigate --labelmap": "frigate --to ws://127.0.0.1:9 --endpoint tcp://127.0.0.1:0 --detector scenes "
    "--labelmap FILE",
    "frigate --token-file": "frigate --to ws://127.0.0.1:9 --endpoint tcp://127.0.0.1:0 --detector scenes "
    "--token-file FILE",
    "export DETECTOR": "export FILE -o out",
    "export --verify": "export scenes -o out --verify FILE",
    "export --annotations": "export scenes -o out --verify {}/in --annotations FILE",
    "export --calibrate": "export scenes -o out --int8 --calibrate FILE",
}
QUICK = ("bd", "report", "evaluate", "inspect")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from report_rows import append_curve

    folder = make_toy_set(tmp_path_factory.mktemp("named"), 2)
    (folder / "results.json").write_text("[]")
    listed = [{"id": number, "file_name": f"{number}.png"} for number in range(2)]
    (folder / "private.json").write_text(json.dumps({"images": listed, "details": []}))
    (folder / "curve.csv").write_text("bpp,ap50\n0.1,30\n0.2,40\n0.4,50\n")
    append_curve(folder / "points.csv", "latent")
    save_texture(folder / "one/a.png", 64, 64)
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(f"encode {folder / 'one'} -o {folder / 'streams'} {SCENES} --image-size 64"))
    assert not stop.value.code
    return folder


def make(path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)


def refused(line: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(line))
    captured = capsys.readouterr()
    assert stop.value.code in (1, 2), line
    errors = [text for text in captured.err.splitlines() if named in text]
    assert errors, f"{line}: {captured.err}"
    assert "Traceback" not in captured.err


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name.split()[0] in QUICK else pytest.mark.slow) for name in COMMANDS]
)
def test_what_is_no_regular_file_is_refused_at_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    line = COMMANDS[name].format(*[folder] * COMMANDS[name].count("{}"))
    ending = next((part.removeprefix(FILE) for part in line.split() if part.startswith(FILE)), "")
    for kind in KINDS:
        make(tmp_path / f"{kind}{ending}", kind)
        refused(line.replace(FILE, kind), kind, capsys)
        made = {path.name for path in tmp_path.iterdir()} - {f"{each}{ending}" for each in KINDS}
        assert not {"out.json", "out.html", "out.csv", "out.safetensors"} & made


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("out/attack.csv", "report {}/points.csv -o out.html --attack out"),
        ("out/audit.csv", "report {}/points.csv -o out.html --attack out"),
        pytest.param("out/audit.csv", f"audit {{}}/in -o out {SCENES}", marks=pytest.mark.slow),
        pytest.param("out.csv", f"audit {{}}/in -o out {SCENES} --points out.csv", marks=pytest.mark.slow),
        pytest.param("out/attack.csv", f"invert {{}}/streams -o out {SCENES}", marks=pytest.mark.slow),
        pytest.param(
            "out.csv", f"sweep {{}}/in --annotations {{}}/annotations.json -o out.csv {SCENES}", marks=pytest.mark.slow
        ),
        pytest.param(
            "out/state.safetensors",
            "train attack -o out --bottleneck none --detector scenes --unlabelled {}/in --held-out 0 --resume",
            marks=pytest.mark.slow,
        ),
    ],
    ids=[
        "report --attack",
        "report --attack of an audit",
        "audit -o",
        "audit --points",
        "invert -o",
        "sweep -o",
        "train --resume",
    ],
)
def test_what_a_command_finds_in_its_folder_is_a_regular_file_too(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(place)
    for kind in KINDS[:3]:
        path.parent.mkdir(exist_ok=True)
        make(path, kind)
        refused(line.format(*[folder] * line.count("{}")), path.name, capsys)
        path.rmdir() if kind == "folder" else path.unlink()


@pytest.mark.parametrize(
    "line",
    [
        "bd curve.csv curve.csv --overwrite --mpeg-vcm curve.csv",
        "bd curve.csv curve.csv --overwrite --mpeg-vcm link.csv",
        f"decode a.266 -o annotations.json --annotations annotations.json --overwrite {SCENES}",
        f"decode . -o a.266 --format csv --overwrite {SCENES}",
        f"encode image.266 -o . --overwrite {SCENES}",
        "train layout in -o in/0.png --detector scenes --overwrite",
        "train layout in -o own.safetensors --detector scenes --bottleneck own.safetensors --overwrite",
    ],
)
def test_no_command_replaces_what_it_reads(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    Path("link.csv").symlink_to("curve.csv")
    Path("own.safetensors").write_bytes(STREET.read_bytes())
    shutil.copy(next(Path("streams").iterdir()), "a.266")
    words = shlex.split(line)
    shutil.copy("in/0.png", "image.266")  # an image may have any name
    output = Path(words[words.index("-o" if "-o" in words else "--mpeg-vcm") + 1])
    output = output / "image.266" if output.is_dir() else output
    before = output.read_bytes()
    refused(line, f"{output}: is read by this command; choose another", capsys)
    assert output.read_bytes() == before


def test_every_option_that_names_a_file_is_tested() -> None:
    """Options that name folders or outputs are left out here."""
    others = {"-o", "--images", "--originals", "--draw", "--markdown", "--mpeg-vcm", "--attack", "--points"}
    tested = {part for line in COMMANDS.values() for part in line.split() if part.startswith("-")}
    context = click.Context(cli)
    commands = [cli.get_command(context, name) for name in cli.list_commands(context)]
    for each in commands:
        if isinstance(each, click.Group):
            commands += each.commands.values()
    options = {
        option.opts[0]
        for each in commands
        for option in (each.params if each else ())
        if isinstance(option, click.Option) and isinstance(option.type, click.Path)
    }
    assert options - others <= tested
