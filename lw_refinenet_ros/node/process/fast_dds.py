# SPDX-License-Identifier: Apache-2.0
"""Fast DDS' shared memory: room to start at all, and a profile that fits into it."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

__all__ = [
    'SHARED_MEMORY',
    'SMALLEST',
    'VARIABLES',
    'fitting_profile',
    'free_bytes',
    'has_other_users',
    'largest',
    'own_segment',
    'remove_dead_segments',
    'require_shared_memory',
    'segment_sizes',
    'shrink_segments',
]

SHARED_MEMORY = Path('/dev/shm')
LOCKS = 'fast*_' + 16 * '[0-9a-f]' + '_el'  # of Fast DDS' segments; Humble's are called fastrtps
YOUNG_S = 10.0  # an owner has locked its segment by then
VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')  # newer, and to Jazzy
SMALLEST = 64 << 10  # bytes; below, Fast DDS does without shared memory by itself


def remove_dead_segments(folder: Path = SHARED_MEMORY) -> int:
    """Remove the segments of Fast DDS whose processes are gone, and return the number of bytes freed.

    A killed process leaves its segment, 134 MiB with our profile: after enough kills no node starts any more
    on that machine. A living process holds a lock on its segment, which tells the dead ones apart. Anybody
    may write into this folder: only regular files of this user are inspected, and no link is followed.
    """
    freed = 0
    for lock in folder.glob(LOCKS):
        segment = lock.with_name(lock.name.removesuffix('_el'))
        with suppress(OSError), _open_regular(lock) as file:  # gone by now, alive, or somebody else's
            if not _lock_of_dead(file):
                continue
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
        raise OSError(f'{path} is not a regular file of this user')
    return file


def _lock_of_dead(file: BinaryIO) -> bool:
    """Lock a segment's lock until it is closed; False if its owner lives, or may not have locked it yet."""
    if time.time() - os.fstat(file.fileno()).st_mtime < YOUNG_S:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_ours(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def segment_sizes() -> list[int]:
    """Return the sizes of all segments of Fast DDS on this machine, in bytes."""
    sizes = []
    for lock in SHARED_MEMORY.glob(LOCKS):
        with suppress(OSError):
            sizes.append(lock.with_name(lock.name.removesuffix('_el')).stat().st_size)
    return sizes


def own_segment() -> int:
    """Return the size of this process's segment, whose lock it holds open, in bytes; 0 if it has none."""
    for link in Path('/proc/self/fd').iterdir():
        with suppress(OSError):  # closed by now
            lock = link.readlink()
            if lock.parent == SHARED_MEMORY and lock.match(LOCKS):
                return lock.with_name(lock.name.removesuffix('_el')).stat().st_size
    return 0


def has_other_users() -> bool:
    """Return whether living processes of other users have segments, which they may not share with us."""
    for lock in SHARED_MEMORY.glob(LOCKS):
        try:
            if lock.lstat().st_uid == os.geteuid():
                continue
            with os.fdopen(os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), 'rb') as file:
                if _lock_of_dead(file):
                    continue
        except FileNotFoundError:  # by now
            continue
        except OSError:  # not even its lock may be looked at
            pass
        return True
    return False


def require_shared_memory() -> None:
    """Check, before rclpy is imported, that shared memory is not full.

    rclpy's tracing maps a new file there; writing where no page is left ends a process with SIGBUS.

    Raises:
        OSError: it is full.
    """
    free = free_bytes() if SHARED_MEMORY.is_dir() else SMALLEST
    if free < SMALLEST:
        raise OSError(
            f'{SHARED_MEMORY} is full ({free} bytes free) and ROS cannot start: delete what fills it or give '
            'more (docker run --shm-size=1g)'
        )


def free_bytes(shared_memory: Path = SHARED_MEMORY) -> int:
    """Return the free bytes; a file system without a limit has 0 blocks, 0 of them free."""
    status = os.statvfs(shared_memory)
    return status.f_bavail * status.f_frsize if status.f_blocks else sys.maxsize


@contextmanager
def fitting_profile(variables: Sequence[str], shared_memory: Path = SHARED_MEMORY) -> Iterator[str]:
    """Shrink the segment in the Fast DDS profile to what the machine can hold.

    Docker gives 64 MB; a segment that does not fit leaves the node without shared memory, or keeps it from
    starting. Half of the free memory is taken: other processes need theirs. Enter it before the first node
    is made, and leave it after that.

    Args:
        variables: names of the environment variables that Fast DDS reads here, the preferred one first.
        shared_memory: its folder.

    Yields:
        The change and its remedy, to be logged; empty if the profile is used as it is, or there is none.
    """
    variable = next((name for name in variables if os.environ.get(name)), '')
    profile = Path(os.environ.get(variable, ''))
    if not profile.is_file() or not shared_memory.is_dir():
        yield ''
        return
    free = free_bytes(shared_memory)
    smaller, was = shrink_segments(profile, free, max(free // 2, SMALLEST))
    if not was:
        yield ''
        return
    with _writable(shared_memory) as file:
        file.write(smaller)
        file.flush()
        os.environ[variable] = file.name
        yield (
            f'{shared_memory} has {free / 2**20:.1f} MiB free, the segment of {profile} needs '
            f'{was / 2**20:.0f} MiB: it is {max(free // 2, SMALLEST) / 2**20:.1f} MiB instead, and larger '
            'images may be lost; give more (docker run --shm-size=1g)'
        )
        os.environ[variable] = str(profile)


def _writable(shared_memory: Path) -> IO[bytes]:
    """Open a temporary file; where nothing else can be written, in shared memory."""
    try:
        return tempfile.NamedTemporaryFile(suffix='.xml')
    except OSError:
        return tempfile.NamedTemporaryFile(suffix='.xml', dir=shared_memory)


def largest(profile: Path, *elements: str) -> int:
    """Return the largest size, in bytes, that a Fast DDS profile gives one of these elements; 0 for none."""
    root = _read(profile)
    # Fast DDS takes any namespace, and none
    found = (
        [each for name in elements for each in root.iterfind(f'.//{{*}}{name}')] if root is not None else []
    )
    return max(map(_bytes_of, found), default=0)


def shrink_segments(profile: Path, limit: int, size: int) -> tuple[bytes, int]:
    """Shrink those segments of a Fast DDS profile that are larger than a limit.

    Args:
        profile: an XML file.
        limit: the largest segment that is kept as it is, in bytes.
        size: of the others from now on, in bytes; a message gets at most half of it.

    Returns:
        The new profile in UTF-8, and the size that the largest segment had, in bytes; 0 if none was too large
        or the profile cannot be read.
    """
    root = _read(profile)
    if root is None:
        return b'', 0
    largest = 0
    for transport in root.iterfind('.//{*}transport_descriptor'):
        segment, message = (transport.find(f'{{*}}{name}') for name in ('segment_size', 'maxMessageSize'))
        if segment is None or _bytes_of(segment) <= limit:
            continue
        largest = max(largest, _bytes_of(segment))
        segment.text = str(size)
        if message is not None and _bytes_of(message) > size // 2:
            message.text = str(size // 2)
    if root.tag.startswith('{'):
        ET.register_namespace('', root.tag[1:].split('}')[0])
    return ET.tostring(root, encoding='UTF-8'), largest


def _read(profile: Path) -> ET.Element | None:
    """Parse a profile; None if it is no XML or cannot be read, which Fast DDS itself reports."""
    try:
        return ET.fromstring(profile.read_bytes())
    except (OSError, ET.ParseError, ValueError, LookupError):  # the last two: of its encoding
        return None


def _bytes_of(element: ET.Element) -> int:
    """Return the number in an element; 0 if there is none."""
    text = (element.text or '').strip()
    return int(text) if text.isdecimal() else 0
