"""The `featcodec` program: its commands, and the only place where errors become exit codes."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any

import rich_click as click

from featcodec.cli.console import complain
from featcodec.errors import FeatcodecError
from featcodec.version import __version__

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

COMMANDS = (
    "demo",
    "encode",
    "decode",
    "stream",
    "frigate",
    "serve",
    "evaluate",
    "sweep",
    "bd",
    "report",
    "audit",
    "invert",
    "train",
    "scenes",
    "inspect",
    "export",
    "models",
    "doctor",
    "benchmark",
)


class _LazyGroup(click.RichGroup):
    """Loads a command's module only when it is needed, so that a command starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"featcodec.cli.{cmd_name}").command
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="featcodec")
def cli() -> None:
    """Code what a detector needs from an image instead of the image itself.

    featcodec splits a YOLO detector. `encode` runs the front-end and codes its feature tensor as one VVC or HEVC
    picture. `decode` finishes the detection from the bitstream. Start with `featcodec demo`.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit: 0 when every input succeeded, 1 when something failed, 2 on wrong usage."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _terminate)
    code = _run(arguments)
    try:
        if sys.stdout is not None:  # None if it is closed
            sys.stdout.flush()
    except OSError as error:
        # Without this, Python would complain while flushing once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # A BrokenPipeError means that the program that reads the output (head, less) has ended.
        if not code and not isinstance(error, BrokenPipeError):
            _complain_of(error)
        code = code or EXIT_FAILED
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    """Run the command. Returns the exit code; what went wrong is printed."""
    try:
        given = sys.argv[1:] if arguments is None else arguments
        result: Any = cli.main(args=given, prog_name="featcodec", standalone_mode=False, obj=given)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FeatcodecError as error:
        complain(str(error))
        return EXIT_FAILED
    except (KeyboardInterrupt, click.Abort):
        complain(
            "interrupted; no file is half written; run encode or sweep again to go on, or train with --resume; other "
            "commands start anew"
        )
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAILED
    except OSError as error:
        _complain_of(error)
        return EXIT_FAILED
    return result if isinstance(result, int) else 0


def _complain_of(error: OSError) -> None:
    where = f"{error.filename}: " if error.filename else ""
    complain(f"{where}{error.strerror or error}; check the path, its permissions and the disk")


def _terminate(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
