# SPDX-License-Identifier: Apache-2.0
"""The confusion matrix and the figures that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.measure import Measure
from lw_refinenet_ros.image.frame import Pixels
from lw_refinenet_ros.labels import UNLABELLED

__all__ = ['Confusion', 'count_pairs', 'id_list', 'mean_of_known', 'ratio']

MOST_IDS = 10  # that a message names
MOST_COUNTED = 1 << 24  # pixels at a time: OpenCV returns float32 counts, which hold no more exactly


class Confusion(Measure):
    """Pixels counted by true class (rows) and predicted class (columns).

    Pixels whose truth is unlabelled (255) do not count. A prediction of 255 has the last
    column to itself: it misses the true class and is no class's false positive. Ratios are
    fractions of 1, and NaN where there is nothing to divide by.

    Args:
        num_classes: C, from 1 to 255.

    Attributes:
        counts: the matrix, int64 (C, C + 1).
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= UNLABELLED:
            raise ValueError(f'num_classes is {num_classes}; labels of 8 bits allow 1 to {UNLABELLED}')
        super().__init__((num_classes, num_classes + 1))

    def update(self, label: Pixels, truth: Pixels) -> Confusion:
        """Count one image and return its own counts; on a ValueError nothing of it is counted.

        Args:
            label: predicted ids, uint8 (H, W).
            truth: true ids, uint8 (H, W).

        Raises:
            ValueError: the shapes differ, or an id is neither a class nor 255.
        """
        if label.shape != truth.shape:
            raise ValueError(f'the label is {label.shape}, its truth {truth.shape}; they must have one shape')
        for what, ids in (('label', label), ('truth', truth)):
            if ids.dtype != np.uint8:
                raise ValueError(f'the {what} is {ids.dtype}, not uint8')
        classes = len(self.counts)
        # Every pair of 8-bit ids has a cell, so that counting and checking take one pass over the pixels.
        pairs = count_pairs(truth, label)
        for what, counts in (('label', pairs.sum(axis=0)), ('truth', pairs.sum(axis=1))):
            strays = np.flatnonzero(counts[classes:UNLABELLED]) + classes
            if strays.size:
                named = id_list(strays.tolist())
                raise ValueError(f'the {what} holds {named}; there are {classes} classes, and {UNLABELLED}')
        image = Confusion(classes)
        image.counts[:, :classes] = pairs[:classes, :classes]
        image.counts[:, classes] = pairs[:classes, UNLABELLED]
        self += image
        return image

    @property
    def intersection(self) -> npt.NDArray[np.int64]:
        """Pixels of each class in both truth and prediction, (C,)."""
        return np.diagonal(self.counts)

    @property
    def union(self) -> npt.NDArray[np.int64]:
        """Pixels of each class in truth or prediction, (C,)."""
        return np.asarray(self._true + self._predicted - self.intersection)

    @property
    def _true(self) -> npt.NDArray[np.int64]:
        return np.asarray(self.counts.sum(axis=1))

    @property
    def _predicted(self) -> npt.NDArray[np.int64]:
        return np.asarray(self.counts[:, :-1].sum(axis=0))

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union of each class, (C,); NaN for a class in neither truth nor prediction."""
        return ratio(self.intersection, self.union)

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """Share of each class's predicted pixels that are right, (C,); NaN for a class never predicted."""
        return ratio(self.intersection, self._predicted)

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """Share of each class's true pixels that are right, (C,); NaN for a class not in the truth."""
        return ratio(self.intersection, self._true)

    @property
    def miou(self) -> float:
        """Mean of the IoUs that have a value."""
        return mean_of_known(self.iou)

    @property
    def mean_accuracy(self) -> float:
        """Mean recall of the classes in the truth."""
        return mean_of_known(self.recall)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels that are right."""
        return float(ratio(self.intersection.sum(), self.counts.sum()))

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean IoU weighted by each class's share of the true pixels."""
        weighted = self._true * np.nan_to_num(self.iou)
        return float(ratio(weighted.sum(), self.counts.sum()))


def id_list(ids: Sequence[int]) -> str:
    """Return class ids as text, abbreviated if there are many."""
    more = f' and {len(ids) - MOST_IDS} more' if len(ids) > MOST_IDS else ''
    return f'{"id" if len(ids) == 1 else "ids"} {", ".join(map(str, ids[:MOST_IDS]))}{more}'


def count_pairs(
    first: Pixels, second: Pixels, where: npt.NDArray[np.bool_] | None = None, *, seconds: int = 256
) -> npt.NDArray[np.int64]:
    """Count the pixels of two images by their values in both, (256, seconds).

    Args:
        first: uint8 (H, W).
        second: of the same.
        where: bool (H, W), which pixels count; None: all.
        seconds: how many values of `second` count, from 0 on; pixels of others do not.
    """
    pairs = np.zeros((256, seconds), np.int64)
    rows = max(1, MOST_COUNTED // max(1, first.shape[1]))
    for top in range(0, first.size and first.shape[0], rows):
        band = slice(top, top + rows)
        images = [np.ascontiguousarray(image[band]) for image in (first, second)]
        mask = None if where is None else np.ascontiguousarray(where[band]).view(np.uint8)
        pairs += cv2.calcHist(images, [0, 1], mask, pairs.shape, [0, 256, 0, seconds]).astype(np.int64)
    return pairs


def ratio(part: npt.NDArray[Any], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Divide element by element; 0 / 0 is NaN."""
    with np.errstate(invalid='ignore'):
        return np.asarray(np.divide(part, whole, dtype=np.float64))


def mean_of_known(values: npt.NDArray[np.float64]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float('nan')
