# SPDX-License-Identifier: Apache-2.0
"""Shared memory: enough to start at all, and a Fast DDS profile that fits into it."""

from __future__ import annotations

import os
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ['fitting_profile', 'require_shared_memory', 'shrink_segments']

SHARED_MEMORY = Path('/dev/shm')
VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')  # newer, and to Jazzy
SPACE = '{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}'
SMALLEST = 64 << 10  # bytes; below, Fast DDS does without shared memory by itself


def require_shared_memory(shared_memory: Path = SHARED_MEMORY) -> None:
    """Check, before rclpy is imported, that shared memory is not full.

    rclpy's tracing maps a new file there; writing where no page is left ends a process with SIGBUS.

    Raises:
        OSError: it is full.

    """
    free = _free(shared_memory) if shared_memory.is_dir() else SMALLEST
    if free < SMALLEST:
        msg = (
            f'{shared_memory} is full ({free} bytes free) and ROS cannot start: delete what fills it or give '
            'more (docker run --shm-size=1g)'
        )
        raise OSError(msg)


def _free(shared_memory: Path) -> int:
    """Return the free bytes; a file system without a limit has 0 blocks, 0 of them free."""
    status = os.statvfs(shared_memory)
    return status.f_bavail * status.f_frsize if status.f_blocks else sys.maxsize


@contextmanager
def fitting_profile(shared_memory: Path = SHARED_MEMORY) -> Iterator[str]:
    """Have Fast DDS read a profile with a smaller segment where the machine cannot hold the profile's.

    Docker gives 64 MB; a segment that does not fit leaves the node without shared memory, or keeps it from
    starting. Half of what is free is taken: other processes need theirs. To be entered before the first node
    is made, and left after it.

    Args:
        shared_memory: where segments are made.

    Yields:
        What was done and what helps, to be logged; empty if the profile is used as it is, or there is none.

    """
    variable = next((name for name in VARIABLES if os.environ.get(name)), '')
    profile = Path(os.environ.get(variable, ''))
    if not profile.is_file() or not shared_memory.is_dir():
        yield ''
        return
    free = _free(shared_memory)
    smaller, was = shrink_segments(profile.read_text(), free, max(free // 2, SMALLEST))
    if not was:
        yield ''
        return
    with tempfile.NamedTemporaryFile('w', suffix='.xml') as file:
        file.write(smaller)
        file.flush()
        os.environ[variable] = file.name
        yield (
            f'{shared_memory} has {free / 2**20:.1f} MiB free, the segment of {profile} needs '
            f'{was / 2**20:.0f} MiB: it is {max(free // 2, SMALLEST) / 2**20:.1f} MiB instead, and larger '
            'images may be lost; give more (docker run --shm-size=1g)'
        )
        os.environ[variable] = str(profile)


def shrink_segments(profile: str, limit: int, size: int) -> tuple[str, int]:
    """Make the segments of a Fast DDS profile smaller that are larger than the limit.

    Args:
        profile: XML.
        limit: bytes that a segment may have to be kept as it is.
        size: bytes that the others get; a message gets at most half of it.

    Returns:
        The profile, and what the largest segment was, in bytes; 0 if none was too large or it is no XML.

    """
    try:
        root = ET.fromstring(profile)
    except ET.ParseError:  # Fast DDS says what it thinks of it
        return profile, 0
    largest = 0
    for transport in root.iter(f'{SPACE}transport_descriptor'):
        segment, message = (transport.find(f'{SPACE}{name}') for name in ('segment_size', 'maxMessageSize'))
        if segment is None or not (segment.text or '').strip().isdigit() or int(segment.text or 0) <= limit:
            continue
        largest = max(largest, int(segment.text or 0))
        segment.text = str(size)
        if message is not None and int(message.text or 0) > size // 2:
            message.text = str(size // 2)
    ET.register_namespace('', SPACE[1:-1])
    return ET.tostring(root, encoding='unicode'), largest
