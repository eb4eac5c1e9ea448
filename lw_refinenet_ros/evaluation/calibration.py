# SPDX-License-Identifier: Apache-2.0
"""Expected calibration error: whether 80 % of the pixels with a confidence of 80 % are right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lw_refinenet_ros.evaluation.confusion import count_pairs
from lw_refinenet_ros.evaluation.measure import Measure
from lw_refinenet_ros.image.frame import Pixels
from lw_refinenet_ros.labels import UNLABELLED

__all__ = ['Bin', 'Calibration']

BINS = 15  # as Guo et al. (ICML 2017) have it


class Bin(NamedTuple):
    """Pixels of like confidence: their mean confidence, the share that is right, and their number."""

    confidence: float
    accuracy: float
    pixels: int


class Calibration(Measure):
    """Counts right and wrong pixels by confidence; pixels unlabelled in truth or prediction do not count.

    Attributes:
        counts: int64 (256, 2): wrong and right pixels of each confidence.
    """

    def __init__(self) -> None:
        super().__init__((256, 2))

    def update(self, label: Pixels, truth: Pixels, confidence: Pixels) -> None:
        """Count one image: predicted and true ids and confidence (255 is certain), uint8 (H, W)."""
        known = (truth != UNLABELLED) & (label != UNLABELLED)
        self.counts += count_pairs(confidence, (label == truth).view(np.uint8), known, seconds=2)

    @property
    def bins(self) -> list[Bin]:
        """Equal spans of confidence, from low to high, without those that are empty."""
        levels = np.arange(256)
        span = np.minimum(levels * BINS // 255, BINS - 1)
        bins = []
        for index in range(BINS):
            counts = self.counts[span == index]
            if pixels := int(counts.sum()):
                confidence = float((counts.sum(axis=1) * levels[span == index]).sum() / 255 / pixels)
                bins.append(Bin(confidence, float(counts[:, 1].sum() / pixels), pixels))
        return bins

    @property
    def error(self) -> float:
        """Mean distance of accuracy and confidence over the bins, weighted by pixels; NaN of nothing."""
        pixels = int(self.counts.sum())
        gaps = (abs(each.accuracy - each.confidence) * each.pixels for each in self.bins)
        return sum(gaps) / pixels if pixels else float('nan')
