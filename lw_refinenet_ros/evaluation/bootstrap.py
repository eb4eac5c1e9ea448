# SPDX-License-Identifier: Apache-2.0
"""A paired bootstrap: how certain the difference between two evaluations of the same frames is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ['Interval', 'bootstrap', 'ious_of', 'sum_blocks']

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 0  # the same two files always have the same interval
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
        counts: (2, frames, 2, classes).
        places: recording and stamp in ns of each frame.
        block_s: length; 0 draws single frames.

    Returns:
        (2, blocks, 2, classes).

    """
    if not block_s:
        return counts
    first_ns: dict[str, int] = {}
    for recording, stamp_ns in places:
        first_ns[recording] = min(stamp_ns, first_ns.get(recording, stamp_ns))
    keys = [(recording, (ns - first_ns[recording]) // round(block_s * 1e9)) for recording, ns in places]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    block = np.array([numbers[key] for key in keys])
    summed = np.zeros((2, len(numbers), *counts.shape[2:]), np.int64)
    for side, of in zip(summed, counts):
        np.add.at(side, block, of)
    return summed


def bootstrap(counts: npt.NDArray[np.int64]) -> list[Interval]:
    """Draw blocks with replacement, the same for both evaluations, and compare the IoUs of their sums.

    Args:
        counts: (2, blocks, 2, classes), as `sum_blocks` returns them.

    Returns:
        the middle 95 % of the differences of each class's IoU, and of their mean last; None for a class that
        never occurs.

    """
    random = np.random.default_rng(SEED)
    drawn = counts.shape[1]
    flat = counts.reshape(2, drawn, -1).astype(np.float64)
    differences = []
    for _ in range(RESAMPLES // CHUNK):
        weights = random.multinomial(drawn, np.full(drawn, 1 / drawn), size=CHUNK).astype(np.float64)
        sums = (weights @ flat).reshape(2, CHUNK, *counts.shape[2:])
        ious = ious_of(np.rint(sums).astype(np.int64))
        known = ~np.isnan(ious)
        means = np.where(known, ious, 0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)
        differences.append(np.concatenate([ious[1] - ious[0], (means[1] - means[0])[:, None]], axis=1))
    return [_middle(column[~np.isnan(column)]) for column in np.concatenate(differences).T]


def _middle(values: npt.NDArray[np.float64]) -> Interval:
    if not values.size:
        return None, None
    low, high = np.quantile(values, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)
