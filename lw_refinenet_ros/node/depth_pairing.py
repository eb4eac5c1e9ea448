# SPDX-License-Identifier: Apache-2.0
"""Pair segmented images with the depths of the same stamp, which may come before or after them."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ['KEPT', 'TOLERANCE_NS', 'DepthPairing']

# Stamps of one exposure that a driver stamped separately. Less than half the period of the fastest depth
# cameras (90 Hz), so that no two depth images are ever this near to one image.
TOLERANCE_NS = 5_000_000
KEPT = 8  # depths that wait for their image, and images that wait for their depth

D = TypeVar('D')
R = TypeVar('R')


class DepthPairing(Generic[D, R]):
    """Keeps depths and results until both of a stamp are there; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depths: OrderedDict[int, D] = OrderedDict()  # by stamp, the latest last
        self._expected: deque[int] = deque(maxlen=KEPT)  # stamps of images in progress or waiting
        self._results: OrderedDict[int, R] = OrderedDict()
        self._done: set[int] = set()  # stamps of depths that were returned
        self._used: set[int] = set()  # and of results

    @property
    def has_depth(self) -> bool:
        """Whether there is any depth."""
        return bool(self._depths)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._depths.clear()
            self._expected.clear()
            self._results.clear()
            self._done.clear()
            self._used.clear()

    def clear_depths(self) -> None:
        """Forget the depths; results go on waiting."""
        with self._lock:
            self._depths.clear()

    def expect(self, stamp_ns: int) -> None:
        """Keep the depth of an image that is about to be segmented, however long that takes."""
        with self._lock:
            self._expected.append(stamp_ns)

    def add_depth(self, stamp_ns: int, depth: D) -> bool:
        """Keep a depth; return whether results are there that it may belong to."""
        with self._lock:
            self._depths[stamp_ns] = depth
            self._depths.move_to_end(stamp_ns)
            needed = {_nearest(stamp, self._depths) for stamp in self._expected}
            for spare in [stamp for stamp in self._depths if stamp not in needed][:-KEPT]:
                del self._depths[spare]
            self._done &= self._depths.keys() - {stamp_ns}  # a stamp that comes again is another depth
            return bool(self._results)

    def add_result(self, stamp_ns: int, result: R) -> list[int | None]:
        """Keep a result.

        Returns:
            For each older result that is given up since too many wait, the distance in ns to the nearest
            depth; None if there is no depth.
        """
        distances = []
        with self._lock:
            self._results[stamp_ns] = result
            self._used.discard(stamp_ns)
            # An image that is sent again gets its depth again
            self._done = {each for each in self._done if abs(each - stamp_ns) > TOLERANCE_NS}
            while len(self._results) > KEPT:
                missed, _ = self._results.popitem(last=False)
                if missed not in self._used:
                    nearest = _nearest(missed, self._depths)
                    distances.append(None if nearest is None else abs(nearest - missed))
            self._used &= self._results.keys()
        return distances

    def pop_pairs(self, tolerance_ns: int = TOLERANCE_NS) -> list[tuple[R, D]]:
        """Return each depth that was not returned before with the nearest result.

        Stamps within `TOLERANCE_NS` are of one exposure. Others may be `tolerance_ns` apart: such a depth is
        returned once a result of its stamp or later has shown which one is the nearest.
        """
        pairs = []
        with self._lock:
            for stamp_ns, depth in self._depths.items():
                nearest = _nearest(stamp_ns, self._results)
                if nearest is None or stamp_ns in self._done:
                    continue
                apart = abs(nearest - stamp_ns)
                if apart <= TOLERANCE_NS or (apart <= tolerance_ns and max(self._results) >= stamp_ns):
                    pairs.append((self._results[nearest], depth))
                    self._done.add(stamp_ns)
                    self._used.add(nearest)
            if tolerance_ns <= TOLERANCE_NS:  # no other depth is as near
                for stamp_ns in self._used & self._results.keys():
                    del self._results[stamp_ns]
        return pairs


def _nearest(stamp_ns: int, stamps: Iterable[int]) -> int | None:
    return min(stamps, key=lambda s: abs(s - stamp_ns), default=None)
