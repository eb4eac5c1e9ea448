# SPDX-License-Identifier: Apache-2.0
"""The folder for the checkpoints of an evaluation; nothing but what an evaluation wrote is ever removed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lw_refinenet_ros.files import lock_folder, write_text

__all__ = ['clear_parts', 'part_of', 'parts_of', 'refuse_link', 'state_folder', 'state_of']

NAME = 'lw_refinenet_state'  # of the folder, below the one that the user names
MARKER = 'README.txt'
MADE = 'Made by `lw_refinenet evaluate --resume`, which removes it when the evaluation is done.\n'
MADE_ABOVE = 'The folder above was made for it, and goes with it if nothing else is there.\n'
PART = re.compile(r'[0-9]{6}\.mcap')
TEMPORARY = re.compile(r'\..*\.tmp')  # of files and bags that a killed process was writing


def state_of(folder: Path, name: str) -> Path:
    """Return the file that holds the checkpoint of a recording."""
    return folder / f'{name}.npz'


def parts_of(folder: Path, name: str) -> Path:
    """Return the folder that holds the parts of the results of a recording."""
    return folder / f'{name}.parts'


def part_of(parts: Path, index: int) -> Path:
    """Return the bag that is one of the parts."""
    return parts / f'{index:06}.mcap'


@contextmanager
def state_folder(above: Path, names: Sequence[str]) -> Iterator[Path]:
    """Hold a folder for the checkpoints of recordings, for one process at a time.

    When the context ends without an error, or nothing was kept, what belongs to these recordings is removed,
    and the folder with it once it is empty. After an error it stays.

    Args:
        above: the folder that the user names, made if it is missing; what else is in it stays as it is.
        names: of the recordings.

    Raises:
        ValueError: the folder is a link, was made by something else, or is in use.
    """
    folder = above / NAME
    refuse_link(folder)
    text = MADE if above.exists() else MADE + MADE_ABOVE
    folder.mkdir(parents=True, exist_ok=True)
    kept = made_above = False
    try:
        with lock_folder(folder):
            _mark(folder, text)
            made_above = MADE_ABOVE in (folder / MARKER).read_text(errors='replace')
            try:
                yield folder
            except BaseException:
                kept = any(state_of(folder, name).is_file() for name in names)
                raise
            finally:
                if not kept:
                    _remove(folder, names)
    finally:
        if not kept:
            with suppress(OSError):  # it holds other checkpoints, or the one above other files
                folder.rmdir()
                if made_above:
                    above.rmdir()


def _mark(folder: Path, text: str) -> None:
    """Put the marker into a new folder; refuse one that is not new and has none."""
    marker = folder / MARKER
    refuse_link(marker)
    names = {path.name for path in folder.iterdir() if path.suffix != '.lock'}
    if all(TEMPORARY.fullmatch(name) for name in names):
        write_text(marker, text)
    elif not (marker.is_file() and marker.read_text(errors='replace').startswith(MADE)):
        raise ValueError(f'{folder} was not made by an evaluation: give --resume another folder')


def refuse_link(path: Path) -> None:
    """Refuse a link: an evaluation makes none, and following it would lead to files of others.

    Raises:
        ValueError: it is one.
    """
    if path.is_symlink():
        raise ValueError(
            f'{path} is a link, which no evaluation makes: remove it, or give --resume another folder'
        )


def clear_parts(parts: Path, done: int) -> None:
    """Remove all parts but the first `done`, and what a killed process was writing.

    Raises:
        ValueError: the folder or something in it is a link.
    """
    refuse_link(parts)
    if not parts.exists():
        return
    for path in parts.iterdir():
        refuse_link(path)
        if TEMPORARY.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif PART.fullmatch(path.name) and int(path.stem) >= done:
            path.unlink()


def _remove(folder: Path, names: Sequence[str]) -> None:
    """Remove what belongs to these recordings and, if no other is left, the marker."""
    for name in names:
        parts = parts_of(folder, name)
        with suppress(ValueError, OSError):  # a link, or something else is in it: it stays
            clear_parts(parts, 0)
            parts.rmdir()
        if not state_of(folder, name).is_symlink():
            state_of(folder, name).unlink(missing_ok=True)
    for path in folder.iterdir():
        if TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()
    left = {path.name for path in folder.iterdir() if path.suffix != '.lock'}
    if left == {MARKER}:
        (folder / MARKER).unlink()
