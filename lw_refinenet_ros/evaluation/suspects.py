# SPDX-License-Identifier: Apache-2.0
"""Suspected label errors: the network is sure, and the mask says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.error_types import boundary_window
from lw_refinenet_ros.labels import UNLABELLED

__all__ = ['Suspect', 'find_suspects', 'sure_labels', 'suspected']

SURE = 217  # of 255: a confidence of 85 %

Ids = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Suspect:
    """A region of a mask that may be wrong."""

    labelled: int  #: id in the mask
    predicted: int  #: id by the network
    confidence: float  #: mean, as a fraction of 1
    pixels: int  #: of the region
    centre: tuple[int, int]  #: (x, y) of its mean, in pixels


def sure_labels(label: Ids, confidence: Ids | None) -> Ids:
    """Return the labels where the network is sure, else 255; without confidence it always is."""
    if confidence is None:
        return label
    return np.where(confidence >= SURE, label, UNLABELLED).astype(np.uint8)


def suspected(sure: Ids, truth: Ids) -> npt.NDArray[np.bool_]:
    """Return where a mask differs from the labels of `sure_labels`, bool (H, W)."""
    return np.asarray((sure != truth) & (sure != UNLABELLED) & (truth != UNLABELLED))


def find_suspects(label: Ids, truth: Ids, confidence: Ids) -> list[Suspect]:
    """Return the suspected regions of a frame: predicted ids, mask and confidence are uint8 (H, W).

    Each has one class in the mask and one by the network, and is nowhere narrower than a boundary is wide:
    outlines that were drawn a little differently are no errors.
    """
    sure = sure_labels(label, confidence)
    pairs = np.where(suspected(sure, truth), truth.astype(np.int32) * 256 + sure, -1)
    found = []
    for pair in np.unique(pairs[pairs >= 0]).tolist():
        solid = cv2.morphologyEx((pairs == pair).view(np.uint8), cv2.MORPH_OPEN, boundary_window(truth.shape))
        count, regions, stats, centres = cv2.connectedComponentsWithStats(solid)
        sums = np.bincount(regions.ravel(), confidence.ravel(), count)
        for index in range(1, count):
            pixels = int(stats[index, cv2.CC_STAT_AREA])
            x, y = centres[index].round().astype(int).tolist()
            found.append(Suspect(pair // 256, pair % 256, float(sums[index]) / pixels / 255, pixels, (x, y)))
    return found
