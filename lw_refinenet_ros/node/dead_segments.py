# SPDX-License-Identifier: Apache-2.0
"""Shared memory that killed processes left behind."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ['remove_dead_segments']

SHARED_MEMORY = Path('/dev/shm')
LOCKS = 'fast*_' + 16 * '[0-9a-f]' + '_el'  # of Fast DDS' segments; Humble's are called fastrtps
YOUNG_S = 10.0  # an owner has locked its segment by then


def remove_dead_segments(folder: Path = SHARED_MEMORY) -> int:
    """Remove the segments of Fast DDS whose processes are gone; give how many bytes that freed.

    A killed process leaves its segment, 134 MiB with our profile: after enough kills no node starts any more
    on that machine. A living process holds a lock on its segment, which tells the dead ones apart. Anybody
    may write into this folder: only regular files of this user are looked at, and no link is followed.
    """
    freed = 0
    for lock in folder.glob(LOCKS):
        segment = lock.with_name(lock.name.removesuffix('_el'))
        with suppress(OSError), _open_regular(lock) as file:  # gone by now, alive, or somebody else's
            if time.time() - os.fstat(file.fileno()).st_mtime < YOUNG_S:
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                status = segment.lstat()
                if not _is_ours(status):
                    continue
                segment.unlink()
                freed += status.st_blocks * 512
            lock.unlink()
    return freed


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file of this user, without following a link or waiting for a writer.

    Raises:
        OSError: it is something else.

    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), 'rb')
    if not _is_ours(os.fstat(file.fileno())):
        file.close()
        msg = f'{path} is no regular file of this user'
        raise OSError(msg)
    return file


def _is_ours(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
