# SPDX-License-Identifier: Apache-2.0
"""Files that are read bounded, and appear whole under their name or not at all; folders of one writer."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ['lock_folder', 'read_regular', 'write_atomically']

LOCK = '.lock'


def read_regular(path: Path | str, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`; a pipe or a device might never end.

    Raises:
        ValueError: it is not a regular file, or larger.
        OSError: it cannot be read.

    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        msg = f'{path} is not a regular file'
        raise ValueError(msg)
    with os.fdopen(descriptor, 'rb') as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        msg = f'{path} is larger than the {max_bytes} bytes that are read of such a file'
        raise ValueError(msg)
    return content


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then put it in its place in one step.

    Whatever goes wrong, what was there before stays, and nothing is left beside it.

    Args:
        path: of the file, in an existing folder.
        write: is given the path to write to.

    Raises:
        OSError: of the disk, naming `path`; and what `write` raises.

    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp')
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors makes files that nobody else may read
        temporary.replace(path)
    except OSError as error:  # that the disk is full is said without a name, all else with the temporary one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


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
