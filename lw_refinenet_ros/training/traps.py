# SPDX-License-Identifier: Apache-2.0
"""Find mistakes in training data that do not stop training but make its result useless."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lw_refinenet_ros.image.encodings import fault_of_brightness
from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.training.dataset import Pairs

__all__ = ['find_traps', 'only_class']

MOSTLY = 0.5  # of the pixels


def find_traps(pairs: Pairs) -> list[str]:
    """Return one line for each probable mistake in the masks."""
    names = pairs.labels.names
    present = np.flatnonzero(pairs.counts).tolist()
    if len(names) == 1:
        return [f'{names[0]!r} is the only class, so every pixel will get it; add one for everything else']
    traps = []
    if dark := fault_of_brightness(pairs.brightest):
        traps.append(f'{dark}, here as on the robot')
    unlabelled = pairs.counts[UNLABELLED] / pairs.counts.sum()
    if unlabelled > MOSTLY:
        traps.append(
            f'{unlabelled:.0%} of the pixels are {UNLABELLED}, unlabelled, and the network will call each of '
            'them one of its classes: if they are background, give them a class (label --background NAME)'
        )
    if present == [0, UNLABELLED]:
        traps.append(
            f'the masks hold only 0 ({names[0]!r}) and {UNLABELLED}, which is unlabelled and ignored in '
            f'training; if it was meant to be {names[1]!r}, its id is 1'
        )
    if absent := [name for index, name in enumerate(names) if index not in present]:
        traps.append(
            f'no mask contains {", ".join(absent)}: the network cannot learn '
            f'{"it" if len(absent) == 1 else "them"}'
        )
    return traps


def only_class(per_class_iou: Mapping[str, float | None]) -> str | None:
    """Return the class of a network that labels everything alike; None if it distinguishes classes.

    Args:
        per_class_iou: None for classes that are neither in the masks nor predicted.
    """
    recognized = [name for name, iou in per_class_iou.items() if iou]
    scored = [name for name, iou in per_class_iou.items() if iou is not None]
    return recognized[0] if len(recognized) == 1 and len(scored) > 1 else None
