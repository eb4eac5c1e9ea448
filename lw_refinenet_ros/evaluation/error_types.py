# SPDX-License-Identifier: Apache-2.0
"""What kinds of errors the wrong pixels of a frame are, and how well small and large objects are met."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.boundary import reach_of
from lw_refinenet_ros.labels import UNLABELLED

__all__ = ['ErrorTypes', 'boundary_window', 'error_types']

SMALL = 0.01  # of the image: an object of fewer pixels is small

Ids = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


class ErrorTypes(NamedTuple):
    """Pixels of a frame, counted."""

    known: int  #: with truth
    boundary: int  #: wrong, at an outline of the truth
    inside: int  #: wrong, away from outlines
    missed: int  #: wrong, where the truth is thinner than a boundary is wide: poles, wires
    invented: int  #: wrong, in predicted objects that meet nothing of their class
    #: Of small objects of the truth, and those of them that are right
    small: int
    small_right: int
    #: Of all others
    large: int
    large_right: int


def error_types(label: Ids, truth: Ids) -> ErrorTypes:
    """Count the pixels of a frame by predicted and true ids, uint8 (H, W); each wrong one has one type."""
    window = boundary_window(truth.shape)
    pure = (cv2.erode(truth, window) == cv2.dilate(truth, window)).view(np.uint8)
    thin = cv2.dilate(pure, window) == 0  # no window of one class covers the pixel
    known, right = truth != UNLABELLED, label == truth
    wrong = known & ~right
    missed = wrong & thin
    invented = wrong & ~missed & _invented(label, truth, wrong)
    boundary = wrong & ~missed & ~invented & (pure == 0)
    inside = int(wrong.sum() - missed.sum() - invented.sum() - boundary.sum())
    small = _small(truth)
    counts = (known, boundary, missed, invented, small, small & right, known & ~small, known & ~small & right)
    pixels, at_boundary, thin_missed, made_up, *objects = (int(np.count_nonzero(each)) for each in counts)
    return ErrorTypes(pixels, at_boundary, inside, thin_missed, made_up, *objects)


def boundary_window(shape: tuple[int, ...]) -> Ids:
    """Return a square of ones, uint8, as wide as a boundary in an image of this shape, (H, W)."""
    side = 2 * reach_of(shape) + 1
    return np.ones((side, side), np.uint8)


def _invented(label: Ids, truth: Ids, wrong: Mask) -> Mask:
    """Return the pixels of predicted objects that meet nothing of their class in the truth."""
    objects, count = _numbered(label, label[wrong & (label != UNLABELLED)])
    meets_nothing = np.ones(count, bool)
    meets_nothing[0] = False
    meets_nothing[objects[label == truth]] = False
    return meets_nothing[objects]


def _small(truth: Ids) -> Mask:
    """Return the pixels of small objects."""
    objects, _ = _numbered(truth, truth[truth != UNLABELLED])
    is_small = np.bincount(objects.ravel()) < SMALL * truth.size
    is_small[0] = False
    return is_small[objects]


def _numbered(ids: Ids, wanted: Ids) -> tuple[npt.NDArray[np.int32], int]:
    """Return the number of each pixel's connected object of one wanted id, and how many numbers there are.

    Objects are numbered from 1; pixels of other ids have 0.
    """
    numbers, count = np.zeros(ids.shape, np.int32), 1
    for index in np.flatnonzero(np.bincount(wanted)):
        mask = ids == index
        found, objects = cv2.connectedComponents(mask.view(np.uint8))  # found counts what is not of the mask
        np.copyto(numbers, objects + (count - 1), where=mask)
        count += found - 1
    return numbers, count
