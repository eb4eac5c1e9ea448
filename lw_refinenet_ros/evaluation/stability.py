# SPDX-License-Identifier: Apache-2.0
"""How steady labels are from frame to frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ['Stability']

LONGEST_GAP_NS = 500_000_000  # frames further apart are not consecutive


class Stability:
    """Pixels compared with the frame before, and with the two before.

    Attributes:
        pairs: consecutive frames that were compared.

    """

    def __init__(self) -> None:
        self.pairs = 0
        self._compared = self._same = self._threes = self._flickers = 0
        self._before: list[tuple[int, npt.NDArray[np.uint8]]] = []

    def update(self, stamp_ns: int, label: npt.NDArray[np.uint8]) -> None:
        """Take the next frame's ids, uint8 (H, W)."""
        if self._before:
            stamp_before, last = self._before[-1]
            if label.shape != last.shape or not 0 < stamp_ns - stamp_before <= LONGEST_GAP_NS:
                self._before.clear()
        if self._before:
            changed = label != self._before[-1][1]
            self.pairs += 1
            self._compared += label.size
            self._same += label.size - int(np.count_nonzero(changed))
            if len(self._before) == 2:
                self._threes += label.size
                self._flickers += int(np.count_nonzero(changed & (label == self._before[0][1])))
        self._before = [*self._before[-1:], (stamp_ns, label)]

    @property
    def consistency(self) -> float | None:
        """Share of the pixels with the label they had in the frame before; None without such frames."""
        return self._same / self._compared if self._compared else None

    @property
    def flicker(self) -> float | None:
        """Share of the pixels with the label of two frames before and another in between."""
        return self._flickers / self._threes if self._threes else None
