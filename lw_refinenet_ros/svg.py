# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG: inside a page, which styles them, or as files of their own.

Positions are percentages and text is not scaled, so that tick labels have one size on a phone and on a desk.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ['Axis', 'Plot', 'Point', 'drawing', 'readable', 'round_step']

HEIGHT = 240
LEAST_APART = 4.0  # per cent of the width between two numbers of starts

# Of a file of its own
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 720, 64, 24, 72, 56
STYLE = (
    'text{font:12px system-ui,sans-serif;fill:#475569}.title{font-size:15px;font-weight:600;fill:#1e293b}'
    '.plot{overflow:visible}.plot svg{overflow:visible}.grid{stroke:#e2e8f0}'
    '.y{text-anchor:end;dominant-baseline:central}.y-name{dominant-baseline:central}.x{text-anchor:middle}'
    '.name{text-anchor:end}.line{fill:none;stroke-width:2;stroke:#2563eb}.dot{fill:#2563eb}'
    '.line.b{stroke:#c2410c}.dot.b{fill:#c2410c}.line.c{stroke:#15803d}.dot.c{fill:#15803d}'
)

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """Values from low to high, drawn from 0 to 100 per cent."""

    label: str
    low: float
    high: float
    whole: bool = False

    def percent(self, value: float) -> float:
        """Place a value; what lies beyond the ends is put on them."""
        return round(100 * min(max((value - self.low) / (self.high - self.low), 0), 1), 2)

    def ticks(self, steps: int) -> list[float]:
        """Return the round values between the ends, at most so many steps."""
        step = round_step((self.high - self.low) / steps)
        if self.whole:
            step = max(step, 1)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [i * step for i in range(first, last + 1)]


def round_step(at_least: float) -> float:
    """Return the next of 1, 2, 5, 10, 20… (or 0.5, 0.2…) that is not smaller."""
    unit = 10.0 ** math.floor(math.log10(at_least))
    return next(m * unit for m in (1, 2, 5, 10, 20) if m * unit >= at_least)


def readable(value: float) -> str:
    """Return a number with at most six digits."""
    return f'{value:,.6g}'


class Plot:
    """Marks between two axes, with gridlines, ticks and names, as one SVG; all text is escaped."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self.x, self.y = x, y
        self._marks: list[str] = []

    def _across(self, value: float) -> str:
        return f'{self.x.percent(value)}%'

    def _down(self, value: float) -> str:
        return f'{100 - self.y.percent(value):.2f}%'

    def line(self, tracks: Sequence[Sequence[Point]], kind: str = 'line') -> None:
        """Join the points of each track; tracks are not joined."""
        lines = []
        for track in tracks:
            points = ' '.join(f'{self.x.percent(x)},{round(100 - self.y.percent(y), 2)}' for x, y in track)
            lines.append(f'<polyline class="{kind}" points="{points}" vector-effect="non-scaling-stroke"/>')
        self._marks.append(f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{"".join(lines)}</svg>')

    def dots(self, tracks: Sequence[Sequence[Point]], kind: str = 'dot') -> None:
        """Mark every point; those above the upper end lie on it, as triangles."""
        radius = 2 if sum(map(len, tracks)) > 50 else 4
        for x, y in itertools.chain.from_iterable(tracks):
            at = self._across(x)
            if y > self.y.high:
                self._marks.append(f'<svg class="over" x="{at}"><path d="M0-1 5 8H-5z"/></svg>')
            else:
                self._marks.append(f'<circle class="{kind}" cx="{at}" cy="{self._down(y)}" r="{radius}"/>')

    def bar(self, left: float, width: float, ends: Point, kind: str, title: str = '') -> None:
        """Draw a bar: left edge and width in per cent of the plot, ends as values of the vertical axis."""
        bottom, top = (100 - self.y.percent(end) for end in sorted(ends))
        named = f'<title>{escape(title)}</title>' if title else ''
        self._marks.append(
            f'<rect class="{kind}" x="{left:.2f}%" width="{width:.3f}%"'
            f' y="{top:.2f}%" height="{bottom - top:.2f}%">{named}</rect>'
        )

    def link(self, point: Point, target: str, title: str) -> None:
        """Mark a point, and lead from there to a place in the page."""
        at, label = f'cx="{self._across(point[0])}" cy="{self._down(point[1])}"', escape(title)
        self._marks.append(
            f'<a href="#{target}" aria-label="{label}"><title>{label}</title>'
            f'<circle class="reach" {at} r="16"/><circle class="mark" {at} r="6"/></a>'
        )

    def levels(self, values: Sequence[float], name: str) -> None:
        """Draw horizontal lines, and name them above the plot, where no point is hidden."""
        for at in map(self._down, values):
            self._marks.append(f'<line class="level" x2="100%" y1="{at}" y2="{at}"/>')
        self._marks.append(
            f'<text class="level-name" x="100%" y="-16" text-anchor="end">{escape(name)}</text>'
        )

    def upright(self, value: float, name: str, anchor: str, shift: int) -> None:
        """Draw a vertical line and name it."""
        at = self._across(value)
        self._marks.append(
            f'<line class="level" y2="100%" x1="{at}" x2="{at}"/>'
            f'<text class="level-name" text-anchor="{anchor}" x="{at}" dx="{shift}" y="12">'
            f'{escape(name)}</text>'
        )

    def starts(self, places: Sequence[float]) -> None:
        """Mark and number where each of several recordings starts."""
        last = -100.0
        for number, place in enumerate(places, 1):
            at = self._across(place)
            self._marks.append(f'<line class="start" x1="{at}" x2="{at}" y2="100%"/>')
            if self.x.percent(place) - last >= LEAST_APART:
                self._marks.append(
                    f'<text class="start-name" x="{at}" dx="4" y="100%" dy="-5">{number}</text>'
                )
                last = self.x.percent(place)

    def content(self) -> str:
        """Return all that is in the plot."""
        grid = []
        for value in self.y.ticks(8):
            at = self._down(value)
            grid.append(
                f'<line class="grid" x2="100%" y1="{at}" y2="{at}"/>'
                f'<text class="y" x="-8" y="{at}">{readable(value)}</text>'
            )
        for value in self.x.ticks(5):
            at = self._across(value)
            grid.append(
                f'<line class="grid" x1="{at}" x2="{at}" y2="100%"/>'
                f'<text class="x" x="{at}" y="100%" dy="18">{readable(value)}</text>'
            )
        grid.append(f'<text class="y-name" x="-48" y="-20">{escape(self.y.label)}</text>')
        grid.append(f'<text class="name" x="100%" y="100%" dy="38">{escape(self.x.label)}</text>')
        return ''.join([*grid, *self._marks])

    def svg(self, message: str) -> str:
        """Return the plot for a page, described in words for those who do not see it."""
        head = f'<svg class="plot" role="img" aria-label="{escape(message)}" height="{HEIGHT}">'
        return f'{head}{self.content()}</svg>'


def drawing(title: str, plots: Sequence[Plot], legend: Sequence[tuple[str, str]] = ()) -> str:
    """Return plots, one below the other, as an SVG file.

    Args:
        title: above them.
        plots: of the same width.
        legend: kind and name of each line, if there are several.
    """
    height = len(plots) * (TOP + HEIGHT + BOTTOM)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text class="title" x="{LEFT - 48}" y="26">{escape(title)}</text>',
    ]
    for index, plot in enumerate(plots):
        place = f'x="{LEFT}" y="{TOP + index * (TOP + HEIGHT + BOTTOM)}"'
        size = f'width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT}"'
        parts.append(f'<svg class="plot" {place} {size}>{plot.content()}</svg>')
    for index, (kind, name) in enumerate(legend):
        at = TOP + 16 + 18 * index
        parts.append(f'<path class="{kind}" d="M{LEFT + 14} {at - 4}h22"/>')
        parts.append(f'<text x="{LEFT + 42}" y="{at}">{escape(name)}</text>')
    return '\n'.join([*parts, '</svg>\n'])
