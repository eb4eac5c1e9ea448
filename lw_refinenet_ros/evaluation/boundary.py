# SPDX-License-Identifier: Apache-2.0
"""Boundary F-score: how well predicted class boundaries match the true ones (Csurka et al., BMVC 2013)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.confusion import mean_of_known, ratio
from lw_refinenet_ros.evaluation.measure import Measure
from lw_refinenet_ros.image.frame import Pixels
from lw_refinenet_ros.labels import UNLABELLED

__all__ = ['BoundaryScore', 'reach_of']

TOLERANCE = 0.0075  # of the image's diagonal, as Csurka et al. have it
GROUP = 16  # classes whose outlines are widened at once: the bits of a uint16
CHUNK = 1 << 17  # pixels checked one by one per step: what fits into a core's cache


def reach_of(shape: tuple[int, ...]) -> int:
    """Return how far from an outline a pixel of an image of a shape (H, W) is still at it, in pixels."""
    return max(1, round(TOLERANCE * math.hypot(*shape)))


class BoundaryScore(Measure):
    """Outline pixels of each class, and those with one of the other image's within reach.

    A class's outline are its pixels that touch another class (4-neighbours). Neither the image's edge nor
    one to unlabelled pixels is an outline. Reach is 0.75 % of the diagonal, at least one pixel.

    Args:
        num_classes: C.

    Attributes:
        counts: int64 (4, C): met and all outline pixels of the predictions, then of the truths.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__((4, num_classes))

    def update(self, label: Pixels, truth: Pixels) -> None:
        """Count one image: predicted and true ids, uint8 (H, W)."""
        reach = reach_of(truth.shape)
        known = label | -(truth == UNLABELLED).view(np.uint8)  # -1 is 255: no truth, no prediction
        predicted, true = (_Outline(ids, reach, self.counts.shape[1]) for ids in (known, truth))
        self.counts += true.count_near(predicted), predicted.pixels, predicted.count_near(true), true.pixels

    @property
    def f_score(self) -> npt.NDArray[np.float64]:
        """Harmonic mean of precision and recall of each class's outline over all images, (C,).

        NaN for a class without an outline in truth and prediction.
        """
        right, all_predicted, met, all_true = self.counts
        precision, recall = ratio(right, all_predicted), ratio(met, all_true)
        with np.errstate(invalid='ignore'):
            score: npt.NDArray[np.float64] = 2 * precision * recall / (precision + recall)
        # An outline in only one of the two images is missed entirely; so is one out of reach
        score[np.isnan(score) & (all_predicted + all_true > 0)] = 0
        return score

    @property
    def mean(self) -> float:
        """Mean of the F-scores that have a value."""
        return mean_of_known(self.f_score)


class _Group(NamedTuple):
    """Outline pixels of up to 16 classes: where they are, their ids, and a bit for each class."""

    places: npt.NDArray[np.intp]
    ids: Pixels
    bits: npt.NDArray[np.uint16]


class _Outline:
    """The outline pixels of an image, and what lies within reach of them.

    The rows lie one after the other, with as many unlabelled pixels after each, and as many such rows above
    and below, as the reach is: wherever a pixel reaches to, it stays within the array and finds its own row.

    Attributes:
        groups: classes 0 to 15, 16 to 31, and so on.
        pixels: of each class, (C,).
    """

    def __init__(self, label: Pixels, reach: int, num_classes: int) -> None:
        padded = cv2.copyMakeBorder(label, reach, reach, 0, reach, cv2.BORDER_CONSTANT, value=UNLABELLED)
        self._size, self._width, self._reach = padded.size, padded.shape[1], reach
        rows = np.asarray(padded, np.uint8).reshape(-1)
        places = np.flatnonzero(_touches_another(rows, self._width))
        ids = rows[places]
        bits = np.left_shift(1, ids & (GROUP - 1), dtype=np.uint16)
        self.pixels = np.bincount(ids, minlength=num_classes)
        self.groups = [_Group(places, ids, bits)]
        if num_classes > GROUP:
            chosen = [ids // GROUP == group for group in range(-(-num_classes // GROUP))]
            self.groups = [_Group(places[which], ids[which], bits[which]) for which in chosen]

    def count_near(self, other: _Outline) -> npt.NDArray[np.int64]:
        """Count the outline pixels of another image that are within reach of the same class's here, (C,)."""
        counts = np.zeros(self.pixels.size, np.int64)
        for ours, theirs in zip(self.groups, other.groups):
            if ours.ids.size and theirs.ids.size:
                near = theirs.ids[self._reach_of(ours, theirs)]
                counts += np.bincount(near, minlength=counts.size)
        return counts

    def _reach_of(self, ours: _Group, theirs: _Group) -> npt.NDArray[np.bool_]:
        """Return for each pixel of theirs whether one of ours of the same class is within reach.

        Nearly all that have one have it in the square inside the disk, which is cheap to widen by; only for
        the others the rest of the disk is checked pixel by pixel.
        """
        marks = np.zeros(self._size, np.uint16)
        marks[ours.places] = ours.bits
        half, ring = _disk(self._reach, self._width)
        squares = _squares(marks, self._width, 2 * half + 1)
        near: npt.NDArray[np.bool_] = (squares[theirs.places - half * (self._width + 1)] & theirs.bits) != 0
        left, step = np.flatnonzero(~near), CHUNK // ring.size + 1
        for first in range(0, left.size, step):
            chosen = left[first : first + step]
            around = np.bitwise_or.reduce(marks[theirs.places[chosen] + ring], axis=0)
            near[chosen] = (around & theirs.bits[chosen]) != 0
        return near


@lru_cache(maxsize=16)
def _disk(reach: int, width: int) -> tuple[int, npt.NDArray[np.intp]]:
    """Return half the side, less one pixel, of the largest square in a disk, and where its other pixels are.

    These are distances to the middle in an array of rows of this width, (N, 1).
    """
    half = math.isqrt(reach**2 // 2)
    down, across = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    ring = (down**2 + across**2 <= reach**2) & (np.maximum(abs(down), abs(across)) > half)
    return half, (down * width + across)[ring][:, None]


def _squares(marks: npt.NDArray[np.uint16], width: int, side: int) -> npt.NDArray[np.uint16]:
    """Join the marks of the square of this side that begins at each pixel; each step doubles what is seen."""
    for step in (1, width):
        seen = 1
        while seen < side:
            more = min(seen, side - seen)
            marks = marks[more * step :] | marks[: -more * step]
            seen += more
    return marks


def _touches_another(label: Pixels, width: int) -> npt.NDArray[np.bool_]:
    """Return which pixels of a class touch another class; rows of this width lie one after the other."""
    known = label != UNLABELLED
    outline = np.zeros(label.shape, bool)
    for step in (1, width):
        differs = label[step:] != label[:-step]
        differs &= known[step:]
        differs &= known[:-step]
        outline[step:] |= differs
        outline[:-step] |= differs
    return outline
