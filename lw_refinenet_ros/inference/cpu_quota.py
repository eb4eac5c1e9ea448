# SPDX-License-Identifier: Apache-2.0
"""The CPU quota of this process, as containers and services have it."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

__all__ = ['threads_within_quota']


def threads_within_quota(
    groups: Path = Path('/proc/self/cgroup'), root: Path = Path('/sys/fs/cgroup')
) -> int:
    """Return how many threads the CPU quota keeps busy, rounded up; 0 without a quota.

    More threads use the quota up early in each period, and all of them wait for its end: with a quota of one
    of two cores, two threads segment three quarters of the frames that one does.

    Args:
        groups: the control groups of this process.
        root: where their file systems are mounted; in a container, often its own group.
    """
    quotas = []
    with suppress(OSError, ValueError):
        for line in groups.read_text().splitlines():
            _, controllers, path = line.split(':', 2)
            if 'cpu' in controllers.split(',') or not controllers:
                base = root / 'cpu' if controllers else root
                folder = base / path.lstrip('/')
                quotas += [_quota(each) for each in (folder, *folder.parents) if each.is_relative_to(base)]
    least = min(quotas, default=math.inf)
    return math.ceil(least) if least < math.inf else 0


def _quota(group: Path) -> float:
    """Return the cores that a group may use; infinity without a limit."""
    with suppress(OSError, ValueError):
        file = group / 'cpu.max'  # of version 2 of control groups
        texts = (
            file.read_text().split()
            if file.is_file()
            else [(group / f'cpu.cfs_{name}_us').read_text() for name in ('quota', 'period')]
        )
        quota, period = map(float, texts)  # 'max' is none
        if quota > 0:
            return quota / period
    return math.inf
