# SPDX-License-Identifier: Apache-2.0
"""Temporal stability of labels."""

from __future__ import annotations

import numpy as np

from lw_refinenet_ros.evaluation.measure import Arrays, Measure
from lw_refinenet_ros.image.frame import Pixels

__all__ = ['Stability']

LONGEST_GAP_NS = 500_000_000  # frames further apart are not consecutive


class Stability(Measure):
    """Compares each frame's labels with those of the frame before and of the two before.

    Of two recordings that are added up, no frames are compared across the end of the first.

    Attributes:
        counts: int64 (5,): pairs of consecutive frames; their pixels, and those with the same label in both;
            pixels of three consecutive frames, and those with another label in the middle one and the same in
            the others.
    """

    NOT_STORED = ('_before',)

    def __init__(self) -> None:
        super().__init__((5,))
        self._before: list[tuple[int, Pixels]] = []  # stamp (ns) and ids of the last two frames

    def update(self, stamp_ns: int, label: Pixels) -> None:
        """Count the next frame: its ids, uint8 (H, W)."""
        if self._before:
            stamp_before, last = self._before[-1]
            if label.shape != last.shape or not 0 < stamp_ns - stamp_before <= LONGEST_GAP_NS:
                self._before.clear()
        if self._before:
            changed = label != self._before[-1][1]
            self.counts[:3] += np.array((1, label.size, label.size - np.count_nonzero(changed)))
            if len(self._before) == 2:
                flickers = changed & (label == self._before[0][1])
                self.counts[3:] += np.array((label.size, np.count_nonzero(flickers)))
        self._before = [*self._before[-1:], (stamp_ns, label)]

    @property
    def pairs(self) -> int:
        """How many consecutive frames were compared."""
        return int(self.counts[0])

    @property
    def consistency(self) -> float | None:
        """Share of the pixels with the label they had in the frame before; None without such frames."""
        _, pixels, same, *_ = self.counts.tolist()
        return same / pixels if pixels else None

    @property
    def flicker(self) -> float | None:
        """Share of the pixels with the label of two frames before and another in between."""
        *_, pixels, flickers = self.counts.tolist()
        return flickers / pixels if pixels else None

    def to_arrays(self) -> Arrays:
        """Return the counts, and what the next frame is compared with."""
        stamps_ns = np.array([stamp_ns for stamp_ns, _ in self._before], np.int64)
        labels = {f'label {index}': label for index, (_, label) in enumerate(self._before)}
        return {**super().to_arrays(), 'stamps_ns': stamps_ns, **labels}

    def restore(self, arrays: Arrays) -> None:
        """Restore what `to_arrays` returned."""
        super().restore(arrays)
        stamps_ns = arrays['stamps_ns'].tolist()
        self._before = [(stamp_ns, arrays[f'label {index}']) for index, stamp_ns in enumerate(stamps_ns)]
