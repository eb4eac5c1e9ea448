# SPDX-License-Identifier: Apache-2.0
"""Files that are read bounded, and appear whole under their name or not at all; folders of one writer."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    'lock_folder',
    'naming',
    'new_file',
    'new_folders',
    'open_regular',
    'read_regular',
    'regular_file',
    'write_atomically',
    'write_json',
    'write_text',
]

LOCK = '.lw_refinenet.lock'
LONGEST_PREFIX = 200  # bytes of the name that a temporary file begins with: a name has at most 255

_KINDS = (
    (stat.S_ISDIR, 'a folder'),
    (stat.S_ISFIFO, 'a pipe'),
    (stat.S_ISCHR, 'a character device'),
    (stat.S_ISBLK, 'a block device'),
    (stat.S_ISSOCK, 'a socket'),
)


def regular_file(path: Path | str) -> Path:
    """Return the path of a file that can be opened without waiting for ever and read to an end.

    To open a pipe waits for whoever writes to it, and /dev/zero has no end. Whoever hands a path to a library
    asks here first. Links are followed.

    Raises:
        ValueError: it is no regular file; names the path and what it is.
        OSError: there is nothing there, or it may not be looked at.

    """
    path = Path(path)
    _refuse_others(path, path.stat().st_mode)
    return path


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file for reading; see `regular_file`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_others(path, os.fstat(descriptor).st_mode)
    except ValueError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, 'rb')


def _refuse_others(path: Path | str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_one, name in _KINDS if is_one(mode)), 'something else')
        msg = f'{path} is {kind}, not a regular file'
        raise ValueError(msg)


def read_regular(path: Path | str, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`; a pipe or a device might never end.

    Raises:
        ValueError: it is not a regular file, or larger.
        OSError: it cannot be read.

    """
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        msg = f'{path} is larger than the {max_bytes} bytes that are read of such a file'
        raise ValueError(msg)
    return content


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path, then move that file to `path` in one step: see `new_file`."""
    with new_file(path) as temporary:
        write(temporary)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text; a file name that is none is written as JSON escapes it."""
    content = text.encode('utf-8', 'backslashreplace')
    write_atomically(path, lambda file: file.write_bytes(content))


def write_json(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write indented JSON, keys in the order given; NaN, which JSON does not have, is a ValueError."""
    write_text(path, _indented(data, '') + '\n')


def _indented(value: Any, indent: str) -> str:
    """Return JSON with a line per entry, but lists of plain values on one line."""
    inner = f'{indent}  '
    if isinstance(value, dict) and value:
        rows = [f'{_plain(str(key))}: {_indented(entry, inner)}' for key, entry in value.items()]
        return '{\n' + ',\n'.join(inner + row for row in rows) + f'\n{indent}}}'
    if isinstance(value, list | tuple) and any(isinstance(entry, dict | list | tuple) for entry in value):
        return '[\n' + ',\n'.join(inner + _indented(entry, inner) for entry in value) + f'\n{indent}]'
    return _plain(value)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@contextmanager
def new_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary file to write, which takes the place of `path` when the context ends without error.

    Whatever goes wrong, what was there before stays, and nothing is left beside it; after a kill there may be
    a hidden `.NAME.*.tmp`, never a part of the file under its name. A link is replaced, not followed. Missing
    folders are created, and removed again after an error.

    Args:
        path: of the file.

    Raises:
        OSError: of the disk, naming `path`; and what the body raises.

    """
    path = Path(path)
    start = os.fsdecode(os.fsencode(path.name)[:LONGEST_PREFIX])
    temporary = path.with_name(f'.{start}.{secrets.token_hex(8)}.tmp')
    with naming(path), new_folders(path.parent):
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        try:
            yield temporary
            temporary.chmod(mode)  # safetensors makes files that nobody else may read
            _flush(temporary)
            temporary.replace(path)
            with suppress(OSError):  # some file systems cannot flush a folder, some folders cannot be read
                _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folders(folder: Path) -> Iterator[None]:
    """Make a folder and those above it that are missing; after an error, remove them where still empty."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for each in missing:
            with suppress(OSError):  # not empty
                each.rmdir()
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise errors of the disk that name no file, or a temporary one, with the name of the file to write."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and '.tmp' not in str(error.filename):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _flush(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold an existing folder for this process alone; the lock ends with the process, however it ends.

    Raises:
        ValueError: another process holds it.
        OSError: the folder is missing or read-only, or its lock is a symbolic link.

    """
    path = folder / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), path.lstat()):
            raise BlockingIOError  # its last holder removed it meanwhile, and a third may have a new one
    except (BlockingIOError, FileNotFoundError) as error:
        os.close(descriptor)
        msg = f'{folder} is in use by another process: wait until that ends, or choose another folder'
        raise ValueError(msg) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
