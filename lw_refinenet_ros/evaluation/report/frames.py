# SPDX-License-Identifier: Apache-2.0
"""What the report's list of frames sorts and filters by, and the figures of groups of frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lw_refinenet_ros.evaluation.bootstrap import ious_of
from lw_refinenet_ros.evaluation.confusion import mean_of_known
from lw_refinenet_ros.evaluation.evaluation import Evaluation
from lw_refinenet_ros.evaluation.frame_facts import GRID, Look

__all__ = ['all_frames', 'error_shares', 'slices']

# What frames are sorted by besides their IoUs, whether the largest come first, and the factor shown
FIGURES = {
    'suspicion': ('suspected label error', True, 100),
    'confidence': ('mean confidence', False, 100),
    'brightness': ('brightness', False, 100),
    'sharpness': ('sharpness', False, 1),
    'change': ('change since the frame before', True, 100),
    'boundary': ('errors at boundaries', True, 100),
    'inside': ('errors inside', True, 100),
    'missed': ('missed thin objects', True, 100),
    'invented': ('invented objects', True, 100),
}
HALVES = {
    'brightness': ('dark', 'bright'),
    'sharpness': ('blurred', 'sharp'),
    'change': ('slow', 'fast'),
}


def all_frames(evaluation: Evaluation) -> dict[str, Any]:
    """Return all scored frames for the page's script; {} if nothing is known of them.

    `figures` holds name, whether the largest come first, and the value of each frame in per cent; sharpness
    is in grey values. The first is the order that the list starts with.
    """
    facts, frames = evaluation.facts, evaluation.frames
    if not facts.count:
        return {}
    looks = list(facts)
    names = evaluation.labels.names
    figures = [['mean IoU', False, [_short(100 * frame.miou) for frame in frames]]]
    for field, (title, largest_first, factor) in FIGURES.items():
        values = [_short(factor * getattr(look, field)) for look in looks]
        if any(value is not None for value in values):
            figures.append([title, largest_first, values])
    figures.insert(0, figures.pop(1))  # suspected label errors first
    ious = ious_of(_counts(evaluation))
    for index, name in enumerate(names):
        if not np.isnan(ious[:, index]).all():
            figures.append([f'IoU of {name}', False, [_short(100 * value) for value in ious[:, index]]])
    cells: list[list[int]] = [[] for _ in looks]
    for frame, *cell in np.array(facts.cells, np.int64).reshape(-1, 4).tolist():
        cells[frame] += cell
    return {
        'names': frames.names,
        'times': [round(time_s, 2) for time_s in frames.times_s] if evaluation.consecutive else [],
        'classes': names,
        'figures': figures,
        'cells': cells,
        'pictures': {frame: f'data:image/jpeg;base64,{jpeg}' for frame, jpeg in facts.pictures.items()},
        'errors': facts.errors,
        'grid': GRID,
    }


def slices(evaluation: Evaluation) -> list[tuple[str, int, float, str]]:
    """Return name, number of frames, mIoU and lowest class of the halves of the frames by their looks."""
    looks = np.array(list(evaluation.facts)).reshape(-1, len(Look._fields))
    if len(looks) < 2:
        return []
    counts = _counts(evaluation)
    found = []
    for field, names in HALVES.items():
        values = looks[:, Look._fields.index(field)]
        order = np.argsort(values, kind='stable')[: np.count_nonzero(~np.isnan(values))]  # NaN is last
        if not order.size or values[order[0]] == values[order[-1]]:
            continue
        for name, chosen in zip(names, np.array_split(order, 2)):
            ious = ious_of(counts[chosen].sum(axis=0))
            if not np.isnan(ious).all():
                lowest = int(np.nanargmin(ious))
                about = f'{evaluation.labels.names[lowest]} {ious[lowest]:.0%}'
                found.append((name, len(chosen), mean_of_known(ious), about))
    return found


def error_shares(evaluation: Evaluation) -> tuple[list[tuple[str, float, float]], list[tuple[str, float]]]:
    """Return name, share of the pixels and share of the errors of each type, and what is right of objects."""
    looks = list(evaluation.facts)
    means = Look(*(_mean([look[index] for look in looks]) for index in range(len(Look._fields))))
    titles = ('At boundaries', 'Inside objects', 'Missed thin objects', 'Invented objects')
    shares = (means.boundary, means.inside, means.missed, means.invented)
    total = sum(shares) or math.nan
    objects = [
        (name, right / whole)
        for name, right, whole in (
            ('small', means.small_right, means.small),
            ('large', means.large_right, means.large),
        )
        if whole > 0
    ]
    return [(title, share, share / total) for title, share in zip(titles, shares)], objects


def _counts(evaluation: Evaluation) -> np.ndarray:
    """Return intersection and union of every frame, (frames, 2, classes)."""
    return np.array(evaluation.frames.counts).reshape(len(evaluation.frames), 2, -1)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else 0.0


def _short(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 2)
