"""Messages: the library names parameters, the command line its options, and every option named exists."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from featcodec.cli.console import with_options
from featcodec.cli.main import COMMANDS

PACKAGE = Path(__file__).resolve().parents[2] / "featcodec"


def test_parameters_become_options() -> None:
    assert with_options("use `overwrite` or another `output`") == "use --overwrite or another -o"
    assert with_options("use a smaller `image_size`") == "use a smaller --image-size"
    assert with_options("check `encoder_parameters`") == "check --encoder-param"
    assert with_options("see `featcodec models`") == "see `featcodec models`"


def all_options() -> set[str]:
    commands: list[click.Command] = [importlib.import_module(f"featcodec.cli.{name}").command for name in COMMANDS]
    for command in list(commands):
        if isinstance(command, click.Group):
            commands += command.commands.values()
    return {
        name for command in commands for option in command.params for name in (*option.opts, *option.secondary_opts)
    }


def messages() -> Iterator[tuple[Path, int, str]]:
    """Texts of the library that are not docstrings."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] == "cli":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in lone:
                yield path, node.lineno, node.value


@pytest.fixture(scope="module")
def options() -> set[str]:
    return all_options()


def test_every_parameter_that_a_message_names_is_an_option(options: set[str]) -> None:
    named = {
        (path.name, line, option)
        for path, line, text in messages()
        for option in map(with_options, re.findall(r"`[a-z][a-z_]*`", text))
    }
    assert named
    assert [each for each in sorted(named) if each[2] not in options] == []


def test_no_message_of_the_library_speaks_of_options(options: set[str]) -> None:
    found = [
        (path.name, line, option)
        for path, line, text in messages()
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)
        if option in options and path.name != "vvenc.py"  # which passes options to another program
    ]
    assert found == []
