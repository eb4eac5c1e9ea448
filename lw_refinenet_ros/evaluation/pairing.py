# SPDX-License-Identifier: Apache-2.0
"""Frames and masks paired by their stamps."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ['Pairing', 'pair_stamps']


@dataclass(frozen=True)
class Pairing:
    """Which mask belongs to which frame, all by stamp in ns."""

    partners: dict[int, int]  # of each paired frame, its mask
    frames_alone: tuple[int, ...]  # frames without a mask, ascending
    masks_alone: tuple[int, ...]  # masks without a frame, ascending

    def among(self, frames: Collection[int]) -> Pairing:
        """Return the pairing of some of the frames, and of the masks from the first to the last of them."""
        if not frames:
            return self
        first, last = min(frames), max(frames)
        return Pairing(
            {frame: mask for frame, mask in self.partners.items() if frame in frames},
            tuple(frame for frame in self.frames_alone if frame in frames),
            tuple(mask for mask in self.masks_alone if first <= mask <= last),
        )


def pair_stamps(frames: Iterable[int], masks: Iterable[int], tolerance_ns: int) -> Pairing:
    """Pair a frame and a mask where each is the other's nearest, at most `tolerance_ns` apart.

    Of two that are equally near, the earlier is the nearest. A stamp that repeats counts once.
    """
    ours, theirs = np.unique(np.fromiter(frames, np.int64)), np.unique(np.fromiter(masks, np.int64))
    partners: dict[int, int] = {}
    if ours.size and theirs.size:
        nearest_mask, nearest_frame = _nearest(theirs, ours), _nearest(ours, theirs)
        mutual = nearest_frame[nearest_mask] == np.arange(ours.size)
        nearest = theirs[nearest_mask]
        chosen = mutual & (np.abs(nearest - ours) <= tolerance_ns)
        partners = dict(zip(ours[chosen].tolist(), nearest[chosen].tolist()))
    taken = set(partners.values())
    return Pairing(
        partners,
        tuple(stamp for stamp in ours.tolist() if stamp not in partners),
        tuple(stamp for stamp in theirs.tolist() if stamp not in taken),
    )


def _nearest(stamps: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Return the index of the nearest of the ascending `stamps` to each of `to`."""
    after = np.searchsorted(stamps, to).clip(0, stamps.size - 1)
    before = (after - 1).clip(0)
    nearest: np.ndarray = np.where(np.abs(to - stamps[before]) <= np.abs(stamps[after] - to), before, after)
    return nearest
