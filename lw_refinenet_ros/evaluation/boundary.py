# SPDX-License-Identifier: Apache-2.0
"""How well the outlines of the classes are met: the boundary F-score (Csurka et al., BMVC 2013)."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.metrics import mean_of_known, ratio
from lw_refinenet_ros.image.labels import UNLABELLED

__all__ = ['BoundaryScore']

TOLERANCE = 0.0075  # of the image's diagonal, as Csurka et al. have it


class BoundaryScore:
    """Outline pixels of each class, and those with one of the other image's within reach.

    A class's outline are its pixels that touch another class (4-neighbours). Neither the image's edge nor
    one to unlabelled pixels is an outline. Reach is 0.75 % of the diagonal, at least one pixel.

    Args:
        num_classes: C.

    Attributes:
        f_score: harmonic mean of precision and recall of each class's outline over all images, (C,); NaN for
            a class without an outline in truth and prediction.
        mean: of the F-scores that have a value.

    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        # Found and all outline pixels of the prediction, then of the truth
        self._counts: npt.NDArray[np.int64] = np.zeros((4, num_classes), np.int64)

    def update(self, label: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> None:
        """Count one image: predicted and true ids, uint8 (H, W)."""
        reach = max(1, round(TOLERANCE * math.hypot(*truth.shape)))
        across = np.arange(-reach, reach + 1)
        disk = (across**2 + across[:, None] ** 2 <= reach**2).astype(np.uint8)
        predicted = _outlines(np.where(truth == UNLABELLED, UNLABELLED, label))
        true = _outlines(truth)
        present = np.bincount(predicted.ravel(), minlength=256) + np.bincount(true.ravel(), minlength=256)
        for index in np.flatnonzero(present[: self._num_classes]):
            ours, theirs = (predicted == index).view(np.uint8), (true == index).view(np.uint8)
            self._counts[:, index] += (
                cv2.countNonZero(ours & cv2.dilate(theirs, disk)),
                cv2.countNonZero(ours),
                cv2.countNonZero(theirs & cv2.dilate(ours, disk)),
                cv2.countNonZero(theirs),
            )

    @property
    def f_score(self) -> npt.NDArray[np.float64]:
        """See the class."""
        found, all_predicted, met, all_true = self._counts
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


def _outlines(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Keep the ids of pixels that touch another class; all others become 255."""
    known = label != UNLABELLED
    outline = np.zeros(label.shape, bool)
    for one, other in (
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
    ):
        differs = (label[one] != label[other]) & known[one] & known[other]
        outline[one] |= differs
        outline[other] |= differs
    return np.where(outline, label, np.uint8(UNLABELLED))
