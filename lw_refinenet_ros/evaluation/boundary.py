# SPDX-License-Identifier: Apache-2.0
"""How well the outlines of the classes are met: the boundary F-score (Csurka et al., BMVC 2013)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.metrics import mean_of_known, ratio
from lw_refinenet_ros.image.labels import UNLABELLED

__all__ = ['BoundaryScore']

TOLERANCE = 0.0075  # of the image's diagonal, as Csurka et al. have it
GROUP = 16  # classes whose outlines are widened at once: the bits of a uint16


class BoundaryScore:
    """Outline pixels of each class, and those with one of the other image's within reach.

    A class's outline are its pixels that touch another class (4-neighbours). Neither the image's edge nor
    one to unlabelled pixels is an outline. Reach is 0.75 % of the diagonal, at least one pixel.

    Args:
        num_classes: C.

    Attributes:
        counts: int64 (4, C): found and all outline pixels of the predictions, then of the truths.
        f_score: harmonic mean of precision and recall of each class's outline over all images, (C,); NaN for
            a class without an outline in truth and prediction.
        mean: of the F-scores that have a value.

    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self.counts: npt.NDArray[np.int64] = np.zeros((4, num_classes), np.int64)

    def update(self, label: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> None:
        """Count one image: predicted and true ids, uint8 (H, W)."""
        reach = max(1, round(TOLERANCE * math.hypot(*truth.shape)))
        predicted = label.copy()
        predicted[truth == UNLABELLED] = UNLABELLED
        sides = [_Outline(ids, reach, self._num_classes) for ids in (predicted, truth)]
        for row, (ours, theirs) in zip((0, 2), (sides, sides[::-1])):
            self.counts[row] += theirs.count_near(ours)
            self.counts[row + 1] += ours.pixels

    @property
    def f_score(self) -> npt.NDArray[np.float64]:
        """See the class."""
        found, all_predicted, met, all_true = self.counts
        precision, recall = ratio(found, all_predicted), ratio(met, all_true)
        with np.errstate(invalid='ignore'):
            score: npt.NDArray[np.float64] = 2 * precision * recall / (precision + recall)
        # An outline on one side only is wholly missed; so is one that is nowhere near
        score[np.isnan(score) & (all_predicted + all_true > 0)] = 0
        return score

    @property
    def mean(self) -> float:
        """See the class."""
        return mean_of_known(self.f_score)


class _Outline:
    """The outline pixels of an image, and what lies within reach of them.

    Attributes:
        pixels: of each class, (C,).

    """

    def __init__(self, label: npt.NDArray[np.uint8], reach: int, num_classes: int) -> None:
        self._shape, self._reach, self._num_classes = label.shape, reach, num_classes
        self._places = np.flatnonzero(_touches_another(label))
        self._ids = label.ravel()[self._places]
        self.pixels = np.bincount(self._ids, minlength=num_classes)

    def count_near(self, other: _Outline) -> npt.NDArray[np.int64]:
        """Count the outline pixels of another image that are within reach of the same class's here, (C,)."""
        found = np.zeros(self._num_classes, np.int64)
        for first in range(0, self._num_classes, GROUP):
            chosen = (other._ids >= first) & (other._ids < first + GROUP)
            places, bits = other._places[chosen], other._ids[chosen] - first
            if places.size:
                near = (self._widened(first).ravel()[places] >> bits) & 1
                found += np.bincount(bits[near == 1] + first, minlength=self._num_classes)
        return found

    def _widened(self, first: int) -> npt.NDArray[np.uint16]:
        """Mark every pixel with a bit for each class of a group whose outline is within reach, (H, W).

        The disk is put together from rows: a row further from its middle is narrower.
        """
        chosen = (self._ids >= first) & (self._ids < first + GROUP)
        row = np.zeros(self._shape, np.uint16)
        row.ravel()[self._places[chosen]] = np.uint16(1) << (self._ids[chosen] - first).astype(np.uint16)
        outline, reach = row.copy(), self._reach
        disk = np.zeros_like(row)
        half = 0
        for across in range(reach, -1, -1):
            while half < math.isqrt(reach**2 - across**2):
                half += 1
                row[:, half:] |= outline[:, :-half]
                row[:, :-half] |= outline[:, half:]
            if across == 0:
                disk |= row
            else:
                disk[across:] |= row[:-across]
                disk[:-across] |= row[across:]
        return disk


def _touches_another(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tell which pixels of a class touch another class, (H, W)."""
    known = label != UNLABELLED
    outline = np.zeros(label.shape, bool)
    for one, other in (
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
    ):
        differs = label[one] != label[other]
        differs &= known[one]
        differs &= known[other]
        outline[one] |= differs
        outline[other] |= differs
    return outline
