"""Writes folders whole or not at all."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from featcodec.errors import OutputError, in_one_line
from featcodec.system.files import exists_error, explained
from featcodec.system.leftovers import beside
from featcodec.system.paths import resolved
from featcodec.system.renaming import exchange


@contextlib.contextmanager
def atomic_folder(path: Path, replaceable: tuple[str, ...], *, overwrite: bool = False) -> Iterator[Path]:
    """Make a folder that appears under `path` only when the block ends without an exception.

    An empty folder of that name is always replaced. Where the system can do it, the older folder and the new folder
    change places in one step.

    Args:
        path: the folder. If it is a link, the link stays and the folder behind it is replaced.
        replaceable: file name endings; an older folder is replaced only if all its files have one of these endings.
        overwrite: replace an older folder that holds files.

    Raises:
        ExistsError: the older folder holds files at the end of the block, and `overwrite` is False.
        OutputError: the folder cannot be written, or the older folder holds other files.
    """
    target = resolved(path)
    if not target.name:
        raise OutputError(f"{path}: holds all other folders; choose another `output`")
    part = beside(target)
    _refuse_other_things(path, target, replaceable)
    try:
        with explained(path):
            part.mkdir(parents=True)
        try:
            yield part
        except OutputError as error:
            raise type(error)(str(error).replace(in_one_line(str(part)), in_one_line(str(path)))) from None
        with explained(path):
            _put_in_place(part, path, target, replaceable, overwrite=overwrite)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _put_in_place(part: Path, path: Path, target: Path, replaceable: tuple[str, ...], *, overwrite: bool) -> None:
    """Give a finished folder its name. Afterwards, `part` is the older folder, or it is gone."""
    try:
        part.rename(target)  # replaces an empty folder, and no other
        return
    except OSError:
        if not target.is_dir() or not any(target.iterdir()):
            raise
    if not overwrite:
        raise exists_error(path)
    _refuse_other_things(path, target, replaceable)
    try:
        exchange(part, target)
    except OSError:
        _replace_in_two_steps(part, target)
        return
    try:
        # Somebody may have put a file there since the last look.
        _refuse_other_things(path, part, replaceable)
    except OutputError:
        exchange(part, target)
        raise


def _replace_in_two_steps(part: Path, target: Path) -> None:
    """Move the older folder aside, then the new folder into its place. If that fails, the older folder comes back."""
    # If this process is killed between the steps, the older folder is found again under a name that is easy to see.
    older = target.with_name(f"{target.name[:32]}.older-{secrets.token_hex(4)}")
    target.rename(older)
    try:
        part.rename(target)
    except OSError:
        older.rename(target)
        raise
    older.rename(part)


def _refuse_other_things(path: Path, folder: Path, replaceable: tuple[str, ...]) -> None:
    others = [file for file in folder.rglob("*") if not file.is_dir() and file.suffix not in replaceable]
    if others or (folder.exists() and not folder.is_dir()):
        raise OutputError(f"{path}: holds other things ({(others or [path])[0].name}); choose another `output`")
