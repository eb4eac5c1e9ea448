# SPDX-License-Identifier: Apache-2.0
"""How long the rest of a run will take, from how long its parts took so far."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

__all__ = ['Pace', 'shown_duration']

LATEST = 1000  # of each kind that count


class Pace:
    """Measures the parts of a run by kind, such as steps and validations, and predicts those to come.

    The first of each kind is left out as soon as there are more: it allocates memory and chooses kernels.

    Args:
        clock: returns seconds.

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

    def left_s(self, counts: Mapping[str, int]) -> float:
        """Predict the seconds that so many parts of each kind take; of kinds not yet measured, none."""
        return sum(count * self._mean_s(kind) for kind, count in counts.items())

    def _mean_s(self, kind: str) -> float:
        taken = list(self._taken_s[kind])
        settled = taken[1:] or taken
        return sum(settled) / max(len(settled), 1)


def shown_duration(seconds: float) -> str:
    """Return a duration in words: 45 s, 12 min or 3.4 h."""
    if seconds < 100:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 100 * 60 else f'{seconds / 3600:.1f} h'
