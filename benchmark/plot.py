# SPDX-License-Identifier: Apache-2.0
"""A curve as an SVG file of its own, to be shown beside its table."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from lw_refinenet_ros.evaluation.report.charts import Axis

__all__ = ['write_plot']

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 48, 56
COLORS = ('#1f6feb', '#c2410c', '#15803d')
STYLE = (
    'text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-size:15px;font-weight:600}'
    '.grid{stroke:#d0d7de}.y{text-anchor:end}.x{text-anchor:middle}'
)


def write_plot(
    path: Path,
    title: str,
    names: tuple[str, str],
    curves: dict[str, Sequence[tuple[float, float, float]]],
) -> None:
    """Draw curves of (x, median, p95) from zero on; a bar reaches from each median to its p95.

    Args:
        path: of the SVG file.
        title: above it.
        names: of the axes, x and y, with their units.
        curves: by name.

    """
    points = [point for curve in curves.values() for point in curve]
    x = Axis(names[0], 0, 1.04 * max(p[0] for p in points))
    y = Axis(names[1], 0, 1.08 * max(p[2] for p in points))

    def place(value: float, axis: Axis) -> float:
        if axis is x:
            return LEFT + x.percent(value) / 100 * (WIDTH - LEFT - RIGHT)
        return HEIGHT - BOTTOM - y.percent(value) / 100 * (HEIGHT - TOP - BOTTOM)

    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    parts.append(f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>')
    for value in y.ticks(6):
        at = f'{place(value, y):.1f}'
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="y" x="{LEFT - 8}" y="{at}" dy="4">{value:,.6g}</text>')
    for value in x.ticks(8):
        at = f'{place(value, x):.1f}'
        parts.append(f'<path class="grid" d="M{at} {TOP}V{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="x" x="{at}" y="{HEIGHT - BOTTOM + 18}">{value:,.6g}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 8}">{escape(names[1])}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="x" x="{middle}" y="{HEIGHT - 12}">{escape(names[0])}</text>')
    for index, (name, curve) in enumerate(curves.items()):
        color = COLORS[index]
        placed = [(place(a, x), place(b, y), place(c, y)) for a, b, c in curve]
        line = ' '.join(f'{a:.1f},{b:.1f}' for a, b, _ in placed)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        for a, b, c in placed:
            bar = f'M{a:.1f} {b:.1f}V{c:.1f}m-4 0h8'
            parts.append(f'<path d="{bar}" stroke="{color}"/>')
            parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{color}"/>')
        if len(curves) > 1:
            at = TOP + 16 + 18 * index
            parts.append(f'<path d="M{LEFT + 14} {at - 4}h22" stroke="{color}" stroke-width="2"/>')
            parts.append(f'<text x="{LEFT + 42}" y="{at}">{escape(name)}</text>')
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'{head}<style>{STYLE}</style>{"".join(parts)}</svg>\n')
