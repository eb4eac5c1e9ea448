# SPDX-License-Identifier: Apache-2.0
"""Labels and confidence at the image's size from logits at the network's stride.

Between the centres of four neighbouring logits lies a cell of pixels. Where the four agree on the
class of the highest logit, so does every bilinear blend of them; and where all four are certain of
it, so is every blend, since the logarithm of a softmax is concave in the logits. Only the other cells
are interpolated, a cache's worth at a time: logits of the image's size never exist.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.image.frame import Pixels
from lw_refinenet_ros.inference.engine import CLASSES

__all__ = ['upsample']

CHUNK = 1 << 16  # pixels blended at a time: 256 kB as float32
CERTAIN = 254.6 / 255  # rounds to 255, with room for rounding on the way


class _Axis(NamedTuple):
    """How the pixels of one axis lie between the logits of the same axis.

    Cell c lies between the logits c - 1 and c; beyond the border the nearest logit stands for both.
    """

    cell: npt.NDArray[np.intp]  # of each pixel
    pixels: npt.NDArray[np.intp]  # (most per cell, cells), of each cell; in shorter ones the last repeats
    part: npt.NDArray[np.float32]  # of the same shape: each pixel's way from the one logit to the next
    occupied: npt.NDArray[np.bool_]  # which cells have pixels at all
    before: npt.NDArray[np.intp]  # the logit of each cell that lies before it
    after: npt.NDArray[np.intp]  # and behind it


@lru_cache(maxsize=64)
def _axis(pixels: int, logits: int) -> _Axis:
    """Place pixels between logits, both with half-pixel centres; in whole numbers, so without rounding."""
    position = (2 * np.arange(pixels) + 1) * logits + pixels  # (pixel + 0.5) * logits / pixels + 0.5, times:
    unit = 2 * pixels
    cell = position // unit
    counts = np.bincount(cell, minlength=logits + 1)
    first = np.cumsum(counts) - counts
    members = first + np.minimum(np.arange(counts.max())[:, None], np.maximum(counts - 1, 0))
    members = np.minimum(members, pixels - 1)
    part = ((position % unit) / unit).astype(np.float32)[members]
    cells = np.arange(logits + 1)
    before, after = np.maximum(cells - 1, 0), np.minimum(cells, logits - 1)
    return _Axis(cell, members, part, counts > 0, before, after)


def upsample(
    logits: npt.NDArray[np.float32],
    nearest: Pixels,
    label: Pixels,
    confidence: Pixels | None = None,
    temperature: float = 1.0,
    ids: Pixels = CLASSES,
) -> None:
    """Write argmax and confidence of the bilinearly upsampled logits (half-pixel centres).

    Args:
        logits: float32 (C, h, w).
        nearest: uint8 (h, w), their argmax over the classes.
        label: uint8 (H, W), C-contiguous, of any size; the class ids are written there.
        confidence: the same for round(255 max softmax(logits / temperature)); None if it is not wanted.
        temperature: of the softmax.
        ids: uint8 (256,), what is written for each class.
    """
    rows, columns = (_axis(*sizes) for sizes in zip(label.shape, nearest.shape))
    padded = np.pad(nearest, 1, mode='edge')
    corner = padded[:-1, :-1]
    np.take(np.take(ids[corner], columns.cell, 1), rows.cell, 0, out=label, mode='clip')
    open_ = (corner != padded[:-1, 1:]) | (corner != padded[1:, :-1]) | (corner != padded[1:, 1:])
    if confidence is not None:
        logits = logits / np.float32(temperature)
        confidence.fill(255)
        uncertain = np.pad(_confidence(logits) < CERTAIN, 1, mode='edge')
        open_ |= uncertain[:-1, :-1] | uncertain[:-1, 1:] | uncertain[1:, :-1] | uncertain[1:, 1:]
    open_ &= rows.occupied[:, None] & columns.occupied
    i, j = np.nonzero(open_)
    step = max(CHUNK // (len(rows.pixels) * len(columns.pixels)), 1)
    for first in range(0, i.size, step):
        chunk = slice(first, first + step)
        _blend(logits, rows, columns, i[chunk], j[chunk], label, confidence, ids)


def _confidence(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Compute the highest softmax of logits (C, h, w)."""
    best, total = logits.max(0), np.zeros(logits.shape[1:], np.float32)
    for plane in logits:
        total += cv2.exp(plane - best)
    return np.asarray(1 / total)


def _blend(
    logits: npt.NDArray[np.float32],
    rows: _Axis,
    columns: _Axis,
    i: npt.NDArray[np.intp],
    j: npt.NDArray[np.intp],
    label: Pixels,
    confidence: Pixels | None,
    ids: Pixels,
) -> None:
    """Write the pixels of the cells (i, j), blending their corners."""
    classes, _, width = logits.shape
    above, below = rows.before[i] * width, rows.after[i] * width
    left, right = columns.before[j], columns.after[j]
    corners = np.stack([above + left, below + left, above + right, below + right])
    values = np.take(logits.reshape(classes, -1), corners, axis=1)  # (C, 4, cells)
    down, across = np.take(rows.part, i, 1), np.take(columns.part, j, 1)
    top, bottom = values[:, ::2, None], values[:, 1::2, None]
    edges = top + (bottom - top) * down  # (C, 2, rows, cells)
    start, slope = edges[:, 0, :, None], (edges[:, 1] - edges[:, 0])[:, :, None]
    best = slope[0] * across + start[0]  # (rows, columns, cells)
    winner = np.full(best.shape, ids[0])
    blended, higher = np.empty_like(best), np.empty(best.shape, np.bool_)
    for index in range(1, classes):
        np.multiply(slope[index], across, out=blended)
        np.add(blended, start[index], out=blended)
        np.greater(blended, best, out=higher)
        np.putmask(winner, higher, ids[index])
        np.maximum(best, blended, out=best)
    offsets = (np.take(rows.pixels, i, 1) * label.shape[1])[:, None] + np.take(columns.pixels, j, 1)
    label.reshape(-1)[offsets] = winner
    if confidence is None:
        return
    total = np.zeros_like(best)
    for index in range(classes):
        np.multiply(slope[index], across, out=blended)
        np.add(blended, start[index], out=blended)
        np.subtract(blended, best, out=blended)
        total += cv2.exp(blended, dst=blended)
    confidence.reshape(-1)[offsets] = np.rint(255 / total).astype(np.uint8)
