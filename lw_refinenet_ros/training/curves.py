# SPDX-License-Identifier: Apache-2.0
"""Plot the loss and the validation mIoU of each epoch as an SVG file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lw_refinenet_ros.svg import Axis, Plot, Point, drawing, round_step

__all__ = ['draw_curves']


def draw_curves(log: Sequence[dict[str, Any]]) -> str:
    """Plot `Trainer.log`: rows of epoch, loss and miou (None where not measured)."""
    epochs = Axis('epoch', 1, max([2, *(row['epoch'] for row in log)]), whole=True)
    losses = [(row['epoch'], row['loss']) for row in log]
    mious = [(row['epoch'], 100 * row['miou']) for row in log if row['miou'] is not None]
    curves = (('training loss', losses), ('mIoU on validation, %', mious))
    return drawing('Training', [_plot(epochs, name, points) for name, points in curves if points])


def _plot(epochs: Axis, name: str, points: Sequence[Point]) -> Plot:
    finite = [point for point in points if math.isfinite(point[1])]
    values = [value for _, value in finite] or [0.0]
    step = round_step((max(values) - min(values)) / 4 or max(abs(values[0]), 1e-3) / 4)
    low = step * math.floor(min(values) / step)
    plot = Plot(epochs, Axis(name, low, max(step * math.ceil(max(values) / step), low + step)))
    plot.line([finite])
    plot.dots([finite])
    return plot
