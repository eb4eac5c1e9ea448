# SPDX-License-Identifier: Apache-2.0
"""A picture of a run: the loss and the validation mIoU of each epoch, as one SVG file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ['draw_curves']

WIDTH, HEIGHT, LEFT, TOP, GAP = 640, 170, 56, 34, 56  # pixels of each plot and around it
INK, FAINT, LINE = '#334155', '#e2e8f0', '#2563eb'


def draw_curves(log: Sequence[dict[str, Any]]) -> str:
    """Draw what `Trainer.log` holds: rows of epoch, loss and miou (None where it was not measured)."""
    last = max((row['epoch'] for row in log), default=1)
    plots = [
        ('training loss', [(row['epoch'], row['loss']) for row in log], ''),
        (
            'mIoU on validation, %',
            [(row['epoch'], 100 * row['miou']) for row in log if row['miou'] is not None],
            '%',
        ),
    ]
    plots = [plot for plot in plots if plot[1]]
    height = TOP + len(plots) * (HEIGHT + GAP)
    width = LEFT + WIDTH + 24
    view = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view} fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, (title, points, unit) in enumerate(plots):
        parts.append(_plot(TOP + index * (HEIGHT + GAP), title, points, last, unit))
    return '\n'.join([*parts, '</svg>\n'])


def _plot(top: int, title: str, points: Sequence[tuple[int, float]], last: int, unit: str) -> str:
    values = [value for _, value in points if math.isfinite(value)] or [0.0]
    step = _step((max(values) - min(values)) / 4 or max(abs(values[0]), 1e-3) / 4)
    low = step * math.floor(min(values) / step)
    high = max(step * math.ceil(max(values) / step), low + step)

    def place(epoch: float, value: float) -> tuple[float, float]:
        across = (epoch - 1) / max(last - 1, 1)
        down = (high - min(max(value, low), high)) / (high - low)
        return round(LEFT + WIDTH * across, 1), round(top + HEIGHT * down, 1)

    parts = [f'<text x="{LEFT}" y="{top - 12}" font-weight="bold">{title}</text>']
    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        y = place(1, value)[1]
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y}" y2="{y}" stroke="{FAINT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.6g}{unit}</text>')
    for epoch in sorted({1, last, *range(0, last, max(1, round(_step(last / 8))))} - {0}):
        x = place(epoch, low)[0]
        parts.append(f'<text x="{x}" y="{top + HEIGHT + 18}" text-anchor="middle">{epoch}</text>')
    parts.append(f'<text x="{LEFT + WIDTH}" y="{top + HEIGHT + 34}" text-anchor="end">epoch</text>')
    placed = [place(epoch, value) for epoch, value in points if math.isfinite(value)]
    line = ' '.join(f'{x},{y}' for x, y in placed)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{LINE}" stroke-width="2"/>')
    parts += [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{LINE}"/>' for x, y in placed]
    return '\n'.join(parts)


def _step(at_least: float) -> float:
    """Return the next of 1, 2, 5, 10, 20… (or 0.5, 0.2…) that is not smaller."""
    unit = 10.0 ** math.floor(math.log10(at_least))
    return next(m * unit for m in (1, 2, 5, 10, 20) if m * unit >= at_least)
