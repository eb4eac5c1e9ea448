# SPDX-License-Identifier: Apache-2.0
"""How steady labels are from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ['Stability']

LONGEST_GAP_NS = 500_000_000  # frames further apart are not consecutive


@dataclass
class Stability:
    """Pixels compared with the frame before, and with the two before.

    Attributes:
        pairs: consecutive frames that were compared.
        compared, same: their pixels, and those with the same label in both.
        threes, flickers: pixels of three consecutive frames, and those with another label in the middle one
            and the same in the others.
        before: stamp (ns) and ids of the last one or two frames.

    """

    pairs: int = 0
    compared: int = 0
    same: int = 0
    threes: int = 0
    flickers: int = 0
    before: list[tuple[int, npt.NDArray[np.uint8]]] = field(default_factory=list)

    def update(self, stamp_ns: int, label: npt.NDArray[np.uint8]) -> None:
        """Take the next frame's ids, uint8 (H, W)."""
        if self.before:
            stamp_before, last = self.before[-1]
            if label.shape != last.shape or not 0 < stamp_ns - stamp_before <= LONGEST_GAP_NS:
                self.before.clear()
        if self.before:
            changed = label != self.before[-1][1]
            self.pairs += 1
            self.compared += label.size
            self.same += label.size - int(np.count_nonzero(changed))
            if len(self.before) == 2:
                self.threes += label.size
                self.flickers += int(np.count_nonzero(changed & (label == self.before[0][1])))
        self.before = [*self.before[-1:], (stamp_ns, label)]

    @property
    def consistency(self) -> float | None:
        """Share of the pixels with the label they had in the frame before; None without such frames."""
        return self.same / self.compared if self.compared else None

    @property
    def flicker(self) -> float | None:
        """Share of the pixels with the label of two frames before and another in between."""
        return self.flickers / self.threes if self.threes else None
