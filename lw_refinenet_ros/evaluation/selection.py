# SPDX-License-Identifier: Apache-2.0
"""Selection of the frames of a source to evaluate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ['ALL', 'Selection']


@dataclass(frozen=True)
class Selection:
    """Frames by their time and number."""

    every: int = 1  # the first of as many frames is taken
    start_s: float = 0.0  # seconds after the first frame; earlier ones are left out
    end_s: float = math.inf  # and those from here on

    def choose(self, stamps_ns: Sequence[int]) -> list[int]:
        """Return the indices of the selected frames, ascending; stamps are in the order of the frames."""
        elapsed_s = ((stamp_ns - stamps_ns[0]) / 1e9 for stamp_ns in stamps_ns)
        inside = [index for index, at_s in enumerate(elapsed_s) if self.start_s <= at_s < self.end_s]
        return inside[:: self.every]

    def __str__(self) -> str:
        """Return the selection as text, '' for all."""
        parts = [f'one frame of every {self.every}'] if self.every > 1 else []
        if self.start_s:
            parts.append(f'from {self.start_s:g} s')
        if math.isfinite(self.end_s):
            parts.append(f'to {self.end_s:g} s')
        return ' '.join(parts)


ALL = Selection()
