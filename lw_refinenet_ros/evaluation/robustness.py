# SPDX-License-Identifier: Apache-2.0
"""What noise, blur, darkness, JPEG and fog cost: images made worse in five steps, and the IoU left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.confusion import Confusion, mean_of_known, ratio
from lw_refinenet_ros.evaluation.measure import Measure
from lw_refinenet_ros.image.frame import Pixels

__all__ = ['CORRUPTIONS', 'Robustness', 'corrupt']

Random = np.random.Generator

VEIL = 225  # brightness of fog
REFERENCE_HEIGHT = 480  # of the images that the widths of blur are for


def _noise(image: Pixels, strength: float, random: Random) -> Pixels:
    noise = random.standard_normal(image.shape, np.float32)
    return _bytes(image + strength * noise)


def _blur(image: Pixels, strength: float, _random: Random) -> Pixels:
    sigma = strength * image.shape[0] / REFERENCE_HEIGHT
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _darken(image: Pixels, strength: float, random: Random) -> Pixels:
    """Leave a share of the light, with the noise that a sensor adds."""
    return _noise(_bytes(image * np.float32(strength)), 4.0, random)


def _compress(image: Pixels, strength: float, _random: Random) -> Pixels:
    _, jpeg = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(strength)])
    decoded = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)
    return decoded[..., ::-1]


def _fog(image: Pixels, strength: float, random: Random) -> Pixels:
    """Cover with a veil that is denser in some places than in others; `strength` is its mean opacity."""
    height, width = image.shape[:2]
    patches = cv2.resize(random.random((4, 6), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    opacity = np.clip(strength + 0.3 * (patches - 0.5), 0, 1)[..., None]
    return _bytes(image * (1 - opacity) + VEIL * opacity)


def _bytes(values: npt.NDArray[Any]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


# What each does, and how strong its five steps are
CORRUPTIONS: dict[str, tuple[Callable[[Pixels, float, Random], Pixels], Sequence[float]]] = {
    'noise': (_noise, (8, 16, 26, 38, 52)),  # standard deviation, of 255
    'blur': (_blur, (1, 2, 3, 4.5, 6)),  # standard deviation in pixels of an image of height 480
    'dark': (_darken, (0.6, 0.4, 0.25, 0.15, 0.08)),  # share of the light that is left
    'jpeg': (_compress, (40, 25, 15, 8, 4)),  # quality, of 100
    'fog': (_fog, (0.2, 0.35, 0.5, 0.65, 0.8)),  # opacity
}
STEPS = 5


def corrupt(image: Pixels, seed: int) -> list[Pixels]:
    """Return uint8 (H, W, 3) RGB in all corruptions, in the order of CORRUPTIONS and then of their strength.

    The same seed gives the same noise and fog.
    """
    return [
        function(image, strength, np.random.default_rng((seed, kind, step)))
        for kind, (function, strengths) in enumerate(CORRUPTIONS.values())
        for step, strength in enumerate(strengths)
    ]


class Robustness(Measure):
    """Intersection and union of each class in corrupted images; all 0 if there are none.

    Args:
        num_classes: C.

    Attributes:
        counts: int64 (corruptions, steps, 2, C).
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__((len(CORRUPTIONS), STEPS, 2, num_classes))

    def update(self, labels: Sequence[Pixels], truth: Pixels) -> None:
        """Count the labels of one image in all corruptions, in the order of `corrupt`."""
        cells = self.counts.reshape(-1, *self.counts.shape[2:])
        for cell, label in zip(cells, labels):
            confusion = Confusion(cell.shape[1]).update(label, truth)
            cell += confusion.intersection, confusion.union

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return mIoU and IoUs by corruption, five of each; {} if nothing was counted."""
        if not self.counts.any():
            return {}
        ious = ratio(self.counts[:, :, 0], self.counts[:, :, 1])
        return {
            kind: {
                'miou': [mean_of_known(step) for step in steps],
                'per_class_iou': {
                    name: [None if np.isnan(value) else value for value in column.tolist()]
                    for name, column in zip(names, steps.T)
                },
            }
            for kind, steps in zip(CORRUPTIONS, ious)
        }
