# SPDX-License-Identifier: Apache-2.0
"""Predict the remaining time of a run from the time of its parts so far."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

__all__ = ['Pace', 'shown_duration']

LATEST = 1000  # most recent parts of each kind that count


class Pace:
    """Measures the parts of a run by kind, such as steps and validations, and predicts the remaining ones.

    The first part of each kind is ignored once there are more, since it allocates memory and selects kernels.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken_s: dict[str, deque[float]] = defaultdict(partial(deque, maxlen=LATEST))

    @contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Measure one part."""
        started = self._clock()
        yield
        self._taken_s[kind].append(self._clock() - started)

    def knows(self, kind: str) -> bool:
        """Return whether a part of this kind was measured."""
        return bool(self._taken_s[kind])

    def left_s(self, counts: Mapping[str, int]) -> float:
        """Return the predicted seconds of the given numbers of parts; kinds not yet measured count as 0."""
        return sum(count * self.mean_s(kind) for kind, count in counts.items())

    def mean_s(self, kind: str) -> float:
        """Return the mean seconds of a part; 0 before the first."""
        taken = list(self._taken_s[kind])
        settled = taken[1:] or taken
        return sum(settled) / max(len(settled), 1)


def shown_duration(seconds: float) -> str:
    """Return a duration as text: 45 s, 12 min or 3.4 h."""
    if seconds < 100:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 100 * 60 else f'{seconds / 3600:.1f} h'
