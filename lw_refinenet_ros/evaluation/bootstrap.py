# SPDX-License-Identifier: Apache-2.0
"""A paired bootstrap: how certain the IoUs of evaluations of the same frames, and their differences, are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ['LEAST_DRAWN', 'Interval', 'interval', 'ious_of', 'resample', 'sum_blocks']

RESAMPLES = 2000
CONFIDENCE = 0.95
LEAST_DRAWN = 10  # frames or blocks: an interval of fewer would be too narrow, and of one has no width
SEED = 0  # the same files always have the same interval
CHUNK = 200  # resamples at a time: memory stays small with many frames

Interval = tuple['float | None', 'float | None']  # low and high


def ious_of(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Divide (..., 2, classes) into (..., classes); NaN for a class that does not occur."""
    parts, wholes = counts[..., 0, :].astype(np.float64), counts[..., 1, :]
    return np.where(wholes > 0, parts / np.maximum(wholes, 1), np.nan)


def sum_blocks(
    counts: npt.NDArray[np.int64], places: Sequence[tuple[str, int]], block_s: float
) -> npt.NDArray[np.int64]:
    """Sum the counts of the frames that are drawn together: of one recording, and of `block_s` seconds of it.

    Args:
        counts: (evaluations, frames, 2, classes).
        places: recording and stamp in ns of each frame.
        block_s: length; 0 draws single frames.

    Returns:
        (evaluations, blocks, 2, classes).
    """
    if not block_s:
        return counts
    first_ns: dict[str, int] = {}
    for recording, stamp_ns in places:
        first_ns[recording] = min(stamp_ns, first_ns.get(recording, stamp_ns))
    block_ns = max(1, round(block_s * 1e9))
    keys = [(recording, (ns - first_ns[recording]) // block_ns) for recording, ns in places]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    block = np.array([numbers[key] for key in keys])
    summed = np.zeros((len(counts), len(numbers), *counts.shape[2:]), np.int64)
    for side, of in zip(summed, counts):
        np.add.at(side, block, of)
    return summed


def resample(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Draw blocks with replacement, the same for all evaluations, and compute the IoUs of their sums.

    Args:
        counts: (evaluations, blocks, 2, classes), as `sum_blocks` returns them.

    Returns:
        (resamples, evaluations, classes + 1): IoU of each class, NaN where it does not occur, and their mean.
    """
    random = np.random.default_rng(SEED)
    evaluations, drawn = counts.shape[:2]
    flat = counts.reshape(evaluations, drawn, -1).astype(np.float64)
    resamples = []
    for _ in range(RESAMPLES // CHUNK):
        weights = random.multinomial(drawn, np.full(drawn, 1 / drawn), size=CHUNK).astype(np.float64)
        sums = (weights @ flat).reshape(evaluations, CHUNK, *counts.shape[2:])
        ious = ious_of(np.rint(sums).astype(np.int64))
        known = ~np.isnan(ious)
        means = np.where(known, ious, 0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)
        resamples.append(np.concatenate([ious, means[..., None]], axis=-1).swapaxes(0, 1))
    return np.concatenate(resamples)


def interval(values: npt.NDArray[np.float64]) -> Interval:
    """Return the middle 95 % of the values that are not NaN; None if there are none."""
    values = values[~np.isnan(values)]
    if not values.size:
        return None, None
    low, high = np.quantile(values, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)
