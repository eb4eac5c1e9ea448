# SPDX-License-Identifier: Apache-2.0
"""Charts as inline SVG that fills its column.

Horizontal positions are percentages and text is not scaled, so that tick labels have one
size on a phone and on a desk. Colours come from the page's style sheet.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ['age_chart', 'age_histogram', 'change_chart', 'score_chart']

HEIGHT = 240
MOST_POINTS = 600  # more cannot be told apart on a screen and make the file slow
BINS = 80


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
        """Give the round values between the ends, at most so many steps."""
        step = _step((self.high - self.low) / steps)
        if self.whole:
            step = max(step, 1)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [i * step for i in range(first, last + 1)]


def _step(at_least: float) -> float:
    """Give the next of 1, 2, 5, 10, 20… (or 0.5, 0.2…) that is not smaller."""
    unit = 10.0 ** math.floor(math.log10(at_least))
    return next(m * unit for m in (1, 2, 5, 10, 20) if m * unit >= at_least)


def _number(value: float) -> str:
    return f'{value:,.6g}'


def _rough(value: float) -> str:
    return _number(float(f'{value:.3g}'))


def _age_axis(ages_ms: Sequence[float], what: str) -> Axis:
    """Span the ages from 0 on, to twice the 95th percentile where a few outliers would flatten the rest."""
    largest, p95 = max(ages_ms), float(np.percentile(ages_ms, 95))
    high = max(2 * p95 if 0 < 3 * p95 < largest else 1.05 * largest, 1.0)
    step = _step(high / 20)
    return Axis(f'{what}, ms', min(*ages_ms, 0.0), step * math.ceil(high / step))


def age_chart(
    ages: Sequence[tuple[float, float]], misses: Sequence[tuple[float, str]], what: str = 'age'
) -> str:
    """Draw the age of each result over time, with the median and p95, and a mark per frame without a result.

    Args:
        ages: time in s and age in ms of each result.
        misses: time in s and fate of each frame that got none.
        what: 'age' or 'latency'.

    """
    if not ages and not misses:
        return '<p class="empty">No frame was published.</p>'
    ages = sorted(ages)
    times = [time for time, _ in ages] + [time for time, _ in misses]
    x = Axis('time, s', min(*times, 0.0), max(*times, 1.0))
    strips = ''.join(_strip(x, fate, misses) for fate in sorted({fate for _, fate in misses}))
    if not ages:
        return f'{strips}<p class="empty">No result arrived.</p>'
    values = [age for _, age in ages]
    y = _age_axis(values, what)
    drawn = _thinned(ages)
    line = ' '.join(f'{x.percent(t)},{round(100 - y.percent(age), 2)}' for t, age in drawn)
    line = f'<polyline class="line" points="{line}" vector-effect="non-scaling-stroke"/>'
    marks = [f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{line}</svg>']
    for t, age in drawn:
        if age > y.high:
            marks.append(f'<svg class="over" x="{x.percent(t)}%"><path d="M0-1 5 8H-5z"/></svg>')
        else:
            at = f'cx="{x.percent(t)}%" cy="{100 - y.percent(age):.2f}%"'
            marks.append(f'<circle class="dot" {at} r="{2 if len(drawn) > 50 else 4}"/>')
    median, p95 = np.percentile(values, (50, 95))
    levels = [100 - y.percent(value) for value in (median, p95)]
    marks.append(_levels(levels, f'median {_rough(median)} ms, p95 {_rough(p95)} ms'))
    spread = f'median {_rough(median)} ms, 95% within {_rough(p95)} ms'
    said = f'{what.capitalize()} of {len(ages)} results over time: {spread}'
    notes = _outliers(values, y, 'marked ▲ at the upper edge')
    if drawn is not ages:
        notes.insert(0, f'Of {len(ages)} results the lowest and the highest of each short span are drawn.')
    return strips + _plot(said, x, y, ''.join(marks)) + _note(notes)


def age_histogram(ages_ms: Sequence[float], what: str = 'age') -> str:
    """Draw how many results had which age or latency (ms), with the median and p95."""
    if not ages_ms:
        return '<p class="empty">No result arrived.</p>'
    x = _age_axis(ages_ms, what)
    width = _step((x.high - x.low) / BINS)
    edges = [width * i for i in range(math.floor(x.low / width), math.ceil(x.high / width) + 1)]
    x = Axis(x.label, edges[0], edges[-1])
    counts = np.histogram(np.minimum(ages_ms, x.high), edges)[0].tolist()
    y = Axis('results', 0, 1.1 * max(counts), whole=True)
    bars = []
    for left, right, count in zip(edges, edges[1:], counts):
        if count:
            over = right == edges[-1] and max(ages_ms) > right
            span = f'{_number(left)} ms and more' if over else f'{_number(left)} to {_number(right)} ms'
            top = 100 - y.percent(count)
            bars.append(
                f'<rect class="bar{" over" * over}" x="{x.percent(left)}%" width="{90 / len(counts):.3f}%"'
                f' y="{top:.2f}%" height="{100 - top:.2f}%"><title>{span}: {count}</title></rect>'
            )
    median, p95 = np.percentile(ages_ms, (50, 95))
    for name, value, anchor, shift in (('median', median, 'end', -5), ('p95', p95, 'start', 5)):
        at = f'{x.percent(value)}%'
        bars.append(
            f'<line class="level" y2="100%" x1="{at}" x2="{at}"/>'
            f'<text class="level-name" text-anchor="{anchor}" x="{at}" dx="{shift}" y="12">{name}</text>'
        )
    spread = f'median {_rough(median)} ms, 95% within {_rough(p95)} ms'
    said = f'{what.capitalize()} of {len(ages_ms)} results: {spread}'
    return _plot(said, x, y, ''.join(bars)) + _note(_outliers(ages_ms, x, 'counted in the last bar'))


def score_chart(
    scores: Sequence[tuple[float, float]], marked: Mapping[float, tuple[float, str, str]], x_name: str
) -> str:
    """Draw a ratio of each frame, with the mean, and a link for each marked frame.

    Args:
        scores: place of a frame (s, or its number) and its ratio, as fractions of 1.
        marked: by place, the ratio, the id in the page that the mark leads to, and the frame's name.
        x_name: of the horizontal axis.

    """
    if not scores:
        return '<p class="empty">No frame was scored.</p>'
    scores = sorted(scores)
    x = Axis(x_name, min(scores[0][0], 0), max(scores[-1][0], 1))
    lowest, highest = (pick(value for _, value in scores) for pick in (min, max))
    low, high = 10 * min(9, math.floor(10 * lowest)), 10 * min(10, math.floor(10 * highest) + 1)
    y = Axis('mIoU, %', low, high)
    drawn = _thinned(scores)
    line = ' '.join(f'{x.percent(place)},{round(100 - y.percent(100 * value), 2)}' for place, value in drawn)
    line = f'<polyline class="line" points="{line}" vector-effect="non-scaling-stroke"/>'
    marks = [f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{line}</svg>']
    for place, value in drawn:
        at = f'cx="{x.percent(place)}%" cy="{100 - y.percent(100 * value):.2f}%"'
        marks.append(f'<circle class="dot" {at} r="{2 if len(drawn) > 50 else 4}"/>')
    mean = sum(value for _, value in scores) / len(scores)
    marks.append(_levels([100 - y.percent(100 * mean)], f'mean {mean:.1%}'))
    for place, (value, target, name) in marked.items():
        at = f'cx="{x.percent(place)}%" cy="{100 - y.percent(100 * value):.2f}%"'
        said = escape(f'{name}: {value:.1%}')
        marks.append(
            f'<a href="#{target}" aria-label="{said}"><title>{said}</title>'
            f'<circle class="reach" {at} r="16"/><circle class="mark" {at} r="6"/></a>'
        )
    said = f'mIoU of {len(scores)} frames: mean {mean:.1%}, lowest {lowest:.1%}'
    return _plot(said, x, y, ''.join(marks))


def change_chart(changes: Sequence[tuple[float, float]]) -> str:
    """Draw a bar per frame: time in s and difference of a ratio; what is below 0 is worse."""
    if not changes:
        return '<p class="empty">No frame is in both.</p>'
    changes = sorted(changes)
    drawn = _thinned(changes)
    low, high = min(changes[0][0], 0), max(changes[-1][0], 1)
    half = (high - low) / len(drawn) / 2
    x = Axis('time, s', low - half, high + half)  # a bar in full for the first and the last
    width = max(0.2, 60 / len(drawn))
    reach = max(1.0, *(abs(100 * value) for _, value in changes))
    y = Axis('points', -1.1 * reach, 1.1 * reach)
    zero = 100 - y.percent(0)
    marks = []
    for place, value in drawn:
        end = 100 - y.percent(100 * value)
        kind, at = ('over', zero) if value < 0 else ('bar', end)
        marks.append(
            f'<rect class="{kind}" x="{x.percent(place) - width / 2:.2f}%" width="{width:.2f}%"'
            f' y="{at:.2f}%" height="{abs(zero - end):.2f}%"/>'
        )
    better = sum(value > 0 for _, value in changes)
    said = f'Change of {len(changes)} frames: {better} better'
    return _plot(said, x, y, ''.join(marks))


def _plot(said: str, x: Axis, y: Axis, marks: str) -> str:
    """Frame marks with gridlines, ticks and the names of the axes."""
    grid = []
    for value in y.ticks(8):
        at = f'{100 - y.percent(value):.2f}%'
        grid.append(
            f'<line class="grid" x2="100%" y1="{at}" y2="{at}"/>'
            f'<text class="y" x="-8" y="{at}">{_number(value)}</text>'
        )
    for value in x.ticks(5):
        at = f'{x.percent(value)}%'
        grid.append(
            f'<line class="grid" x1="{at}" x2="{at}" y2="100%"/>'
            f'<text class="x" x="{at}" y="100%" dy="18">{_number(value)}</text>'
        )
    return (
        f'<svg class="plot" role="img" aria-label="{escape(said)}" height="{HEIGHT}">{"".join(grid)}'
        f'<text class="y-name" x="-48" y="-20">{y.label}</text>'
        f'<text class="name" x="100%" y="100%" dy="38">{x.label}</text>{marks}</svg>'
    )


def _levels(percents: Sequence[float], name: str) -> str:
    """Draw horizontal lines, counted from the top, and name them above the plot, where no point is hidden."""
    lines = ''.join(f'<line class="level" x2="100%" y1="{at:.2f}%" y2="{at:.2f}%"/>' for at in percents)
    return f'{lines}<text class="level-name" x="100%" y="-16" text-anchor="end">{name}</text>'


def _strip(x: Axis, fate: str, misses: Sequence[tuple[float, str]]) -> str:
    """Mark when frames met one fate, the fuller the more of them there are in 1/200 of the time."""
    cells = Counter(round(2 * x.percent(time)) / 2 for time, of in misses if of == fate)
    most = max(cells.values())
    marks = ''.join(
        f'<rect class="miss" x="{at}%" width="2" height="100%" opacity="{0.3 + 0.7 * count / most:.2f}"/>'
        for at, count in sorted(cells.items())
    )
    frames = sum(cells.values())
    said = escape(f'{fate}: {frames} {"frame" if frames == 1 else "frames"}')
    return f'<p class="strip">{said}</p><svg class="strip" role="img" aria-label="{said}">{marks}</svg>'


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Keep the lowest and the highest of each run of points, so that no extreme is lost."""
    if len(points) <= MOST_POINTS:
        return points
    kept: list[tuple[float, float]] = []
    for part in np.array_split(np.arange(len(points)), MOST_POINTS // 2):
        run = [points[i] for i in part]
        kept += sorted({min(run, key=lambda p: p[1]), max(run, key=lambda p: p[1])})
    return kept


def _outliers(values: Sequence[float], axis: Axis, where: str) -> list[str]:
    beyond = [value for value in values if value > axis.high]
    if not beyond:
        return []
    results = '1 result' if len(beyond) == 1 else f'{len(beyond)} results'
    return [f'{results} above {_number(axis.high)} ms, up to {_rough(max(beyond))} ms, {where}.']


def _note(sentences: Sequence[str]) -> str:
    return f'<p class="note">{escape(" ".join(sentences))}</p>' if sentences else ''
