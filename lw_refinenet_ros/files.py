# SPDX-License-Identifier: Apache-2.0
"""Bounded reading, atomic writing, and folder locks."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    'write_bytes',
    'write_csv',
    'write_json',
    'write_text',
]

LOCK = '.lw_refinenet.lock'
LFS = b'version https://git-lfs.github.com/spec/v1\n'  # begins a pointer
LONGEST_PREFIX = 200  # bytes of the name in a temporary file's name; a name has at most 255

_KINDS = (
    (stat.S_ISDIR, 'a folder'),
    (stat.S_ISFIFO, 'a pipe'),
    (stat.S_ISCHR, 'a character device'),
    (stat.S_ISBLK, 'a block device'),
    (stat.S_ISSOCK, 'a socket'),
)


def regular_file(path: Path | str) -> Path:
    """Return the path of a regular file, which can be opened without blocking and read to its end.

    Opening a pipe blocks until there is a writer, and /dev/zero has no end. Call this before handing a path
    to a library. Links are followed.

    Raises:
        ValueError: the path is not a regular file, whose type is named, or a Git LFS pointer to a file.
        OSError: the path does not exist or is not accessible.
    """
    path = Path(path)
    _refuse_others(path, path.stat().st_mode)
    open_regular(path).close()
    return path


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file for reading; see `regular_file`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_others(path, os.fstat(descriptor).st_mode)
        if os.pread(descriptor, len(LFS), 0) == LFS:
            raise ValueError(f'{path} is a Git LFS pointer, not the file itself: run git lfs pull')
    except (ValueError, OSError):
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, 'rb')


def _refuse_others(path: Path | str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_one, name in _KINDS if is_one(mode)), 'something else')
        raise ValueError(f'{path} is {kind}, not a regular file')


def read_regular(path: Path | str, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`; a pipe or a device might never end.

    Raises:
        ValueError: it is not a regular file, or larger.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f'{path} is larger than the {max_bytes} bytes that are read of such a file')
    return content


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path, then move that file to `path` in one step: see `new_file`."""
    with new_file(path) as temporary:
        write(temporary)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a file: see `new_file`."""
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text; a file name that is none is written as JSON escapes it."""
    write_bytes(path, text.encode('utf-8', 'backslashreplace'))


def write_csv(path: str | Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write a table of comma-separated values; None is an empty cell."""
    text = io.StringIO(newline='')
    csv.writer(text, lineterminator='\n').writerows(rows)
    write_text(path, text.getvalue())


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
    """Yield a temporary file to write; it replaces `path` if the context ends without an error.

    On any failure the earlier file is kept and nothing is left beside it. A kill may leave a hidden
    `.NAME.*.tmp`, but never a partial file under the name. A link is replaced, not followed. Missing
    folders are created, and removed again after an error.

    Args:
        path: the file.

    Raises:
        OSError: a disk error, naming `path`; also whatever the body raises.
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
            temporary.chmod(mode)  # safetensors creates files that only their owner may read
            _flush(temporary)
            temporary.replace(path)
            with suppress(OSError):  # some file systems cannot flush folders, and some folders are unreadable
                _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folders(folder: Path) -> Iterator[None]:
    """Create a folder and its missing parents; after an error, remove those that are empty."""
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
    """Re-raise disk errors with the name of the file to write instead of none or a temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and '.tmp' not in str(error.filename):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _flush(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock an existing folder for this process; the lock ends with the process, however that ends.

    Raises:
        ValueError: another process holds it.
        OSError: the folder is missing or read-only, or its lock is a symbolic link.
    """
    path = folder / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), path.lstat()):
            raise BlockingIOError  # removed by its last holder; another process may have a new one
    except (BlockingIOError, FileNotFoundError) as error:
        os.close(descriptor)
        raise ValueError(
            f'{folder} is in use by another process: wait for it to end, or choose another folder'
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
