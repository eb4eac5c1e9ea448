# SPDX-License-Identifier: Apache-2.0
"""Charts as inline SVG that fills its column, ready to be put into a template.

Horizontal positions are percentages and text is not scaled, so that tick labels have one
size on a phone and on a desk. Colours come from the page's style sheet.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ['TIME', 'age_chart', 'age_histogram', 'change_chart', 'score_chart']

HEIGHT = 240
MOST_POINTS = 600  # more cannot be told apart on a screen and make the file slow
BINS = 80
LEAST_APART = 4.0  # per cent of the width between two numbers of recordings
MOST_WIDE = 12.0  # per cent of the width for a bar, so that a few frames do not fill the plot
TIME = 'time, s'

Point = tuple[float, float]
Recordings = Sequence[tuple[str, int]]


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
        step = _step((self.high - self.low) / steps)
        if self.whole:
            step = max(step, 1)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [i * step for i in range(first, last + 1)]


def _step(at_least: float) -> float:
    """Return the next of 1, 2, 5, 10, 20… (or 0.5, 0.2…) that is not smaller."""
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


class Plot:
    """Marks between two axes, with gridlines, ticks and names, as one SVG."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self.x, self.y = x, y
        self._marks: list[str] = []

    def add(self, mark: str) -> None:
        """Add SVG that is placed by `across` and `down`."""
        self._marks.append(mark)

    def across(self, value: float) -> str:
        """Return the place of a value of the horizontal axis."""
        return f'{self.x.percent(value)}%'

    def down(self, value: float) -> str:
        """Return the place of a value of the vertical axis, counted from the top."""
        return f'{100 - self.y.percent(value):.2f}%'

    def line(self, tracks: Sequence[Sequence[Point]]) -> None:
        """Join the points of each track; tracks are not joined."""
        lines = []
        for track in tracks:
            points = ' '.join(f'{self.x.percent(x)},{round(100 - self.y.percent(y), 2)}' for x, y in track)
            lines.append(f'<polyline class="line" points="{points}" vector-effect="non-scaling-stroke"/>')
        self.add(f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{"".join(lines)}</svg>')

    def dots(self, tracks: Sequence[Sequence[Point]]) -> None:
        """Mark every point; those above the upper end lie on it, as triangles."""
        radius = 2 if sum(map(len, tracks)) > 50 else 4
        for x, y in itertools.chain.from_iterable(tracks):
            if y > self.y.high:
                self.add(f'<svg class="over" x="{self.across(x)}"><path d="M0-1 5 8H-5z"/></svg>')
            else:
                self.add(f'<circle class="dot" cx="{self.across(x)}" cy="{self.down(y)}" r="{radius}"/>')

    def bar(self, left: float, width: float, ends: tuple[float, float], kind: str, title: str = '') -> None:
        """Draw a bar: left edge and width in per cent of the plot, ends as values of the vertical axis."""
        bottom, top = (100 - self.y.percent(end) for end in sorted(ends))
        named = f'<title>{title}</title>' if title else ''
        self.add(
            f'<rect class="{kind}" x="{left:.2f}%" width="{width:.3f}%"'
            f' y="{top:.2f}%" height="{bottom - top:.2f}%">{named}</rect>'
        )

    def levels(self, values: Sequence[float], name: str) -> None:
        """Draw horizontal lines, and name them above the plot, where no point is hidden."""
        for at in map(self.down, values):
            self.add(f'<line class="level" x2="100%" y1="{at}" y2="{at}"/>')
        self.add(f'<text class="level-name" x="100%" y="-16" text-anchor="end">{name}</text>')

    def upright(self, value: float, name: str, anchor: str, shift: int) -> None:
        """Draw a vertical line and name it."""
        at = self.across(value)
        self.add(
            f'<line class="level" y2="100%" x1="{at}" x2="{at}"/>'
            f'<text class="level-name" text-anchor="{anchor}" x="{at}" dx="{shift}" y="12">{name}</text>'
        )

    def starts(self, places: Sequence[float]) -> None:
        """Mark and number where each of several recordings starts."""
        last = -100.0
        for number, place in enumerate(places, 1):
            at = self.across(place)
            self.add(f'<line class="start" x1="{at}" x2="{at}" y2="100%"/>')
            if self.x.percent(place) - last >= LEAST_APART:
                self.add(f'<text class="start-name" x="{at}" dx="4" y="100%" dy="-5">{number}</text>')
                last = self.x.percent(place)

    def svg(self, message: str) -> Markup:
        """Return the plot, described in words for those who do not see it."""
        grid = []
        for value in self.y.ticks(8):
            at = self.down(value)
            grid.append(
                f'<line class="grid" x2="100%" y1="{at}" y2="{at}"/>'
                f'<text class="y" x="-8" y="{at}">{_number(value)}</text>'
            )
        for value in self.x.ticks(5):
            at = self.across(value)
            grid.append(
                f'<line class="grid" x1="{at}" x2="{at}" y2="100%"/>'
                f'<text class="x" x="{at}" y="100%" dy="18">{_number(value)}</text>'
            )
        return Markup(
            f'<svg class="plot" role="img" aria-label="{escape(message)}" height="{HEIGHT}">{"".join(grid)}'
            f'<text class="y-name" x="-48" y="-20">{self.y.label}</text>'
            f'<text class="name" x="100%" y="100%" dy="38">{self.x.label}</text>{"".join(self._marks)}</svg>'
        )


class _Tracks:
    """The points of each recording, one recording after the other, one frame's time apart.

    Args:
        points: horizontal place, from the start of its recording, and value, recording after recording.
        recordings: name and number of points of each; empty: all are of one.

    Attributes:
        names: of several recordings.
        starts: where each of several recordings starts.
        all: the points of each recording, in the order given.
        drawn: those of them that are drawn, from left to right.

    """

    def __init__(self, points: Sequence[Point], recordings: Recordings) -> None:
        several = len(recordings) > 1
        self.names = [name for name, _ in recordings] if several else []
        self.starts: list[float] = []
        self.all: list[list[Point]] = []
        left, end = iter(points), 0.0
        for count in [count for _, count in recordings] if several else [len(points)]:
            track = list(itertools.islice(left, count))
            places = np.array([x for x, _ in track])
            shift = end - places.min(initial=np.inf) if several and track else 0.0
            self.all.append([(x + shift, y) for x, y in track])
            self.starts.append(end)
            if track:
                steps = np.diff(np.sort(places))
                end = places.max() + shift + (float(np.median(steps)) if steps.size else 1.0)
        most = MOST_POINTS / max(1, len(points))
        self.drawn = [_thinned(sorted(track), math.floor(most * len(track))) for track in self.all]

    @property
    def points(self) -> list[Point]:
        """All points."""
        return list(itertools.chain.from_iterable(self.all))

    def mark(self, plot: Plot) -> None:
        """Mark where recordings start, if there are several."""
        if self.names:
            plot.starts(self.starts)

    def note(self) -> list[str]:
        """Return the names that belong to the numbers."""
        named = ', '.join(f'{number} {name}' for number, name in enumerate(self.names, 1))
        return [f'Recordings: {named}.'] if named else []


def age_chart(
    ages: Sequence[Point],
    misses: Sequence[tuple[float, str]],
    what: str = 'age',
    x_name: str = TIME,
    recordings: Recordings = (),
) -> Markup:
    """Draw the age of each result over time, with the median and p95, and a mark per frame without a result.

    Args:
        ages: time in s, or number of the frame, and age in ms of each result.
        misses: time in s and fate of each frame that got none.
        what: 'age' or 'latency'.
        x_name: of the horizontal axis.
        recordings: name and number of results of each of several recordings, whose times start anew.

    """
    if not ages and not misses:
        return _empty('No frame was published.')
    tracks = _Tracks(ages, recordings)
    times = [time for time, _ in tracks.points] + [time for time, _ in misses]
    x = Axis(x_name, min(*times, 0.0), max(*times, 1.0), whole=x_name != TIME)
    strips = ''.join(_strip(x, fate, misses) for fate in sorted({fate for _, fate in misses}))
    if not ages:
        return Markup(f'{strips}{_empty("No result arrived.")}')
    values = [age for _, age in ages]
    plot = Plot(x, _age_axis(values, what))
    tracks.mark(plot)
    plot.line(tracks.drawn)
    plot.dots(tracks.drawn)
    median, p95 = np.percentile(values, (50, 95))
    plot.levels((median, p95), f'median {_rough(median)} ms, p95 {_rough(p95)} ms')
    spread = f'median {_rough(median)} ms, 95% within {_rough(p95)} ms'
    notes = [*tracks.note(), *_outliers(values, plot.y, 'marked ▲ at the upper edge')]
    if sum(map(len, tracks.drawn)) < len(ages):
        notes.insert(0, f'Of {len(ages)} results the lowest and the highest of each short span are drawn.')
    message = f'{what.capitalize()} of {len(ages)} results over time: {spread}'
    return Markup(f'{strips}{plot.svg(message)}{_note(notes)}')


def age_histogram(ages_ms: Sequence[float], what: str = 'age') -> Markup:
    """Draw how many results had which age or latency (ms), with the median and p95."""
    if not ages_ms:
        return _empty('No result arrived.')
    x = _age_axis(ages_ms, what)
    width = _step((x.high - x.low) / BINS)
    edges = [width * i for i in range(math.floor(x.low / width), math.ceil(x.high / width) + 1)]
    x = Axis(x.label, edges[0], edges[-1])
    counts = np.histogram(np.minimum(ages_ms, x.high), edges)[0].tolist()
    plot = Plot(x, Axis('results', 0, 1.1 * max(counts), whole=True))
    for left, right, count in zip(edges, edges[1:], counts):
        if count:
            over = right == edges[-1] and max(ages_ms) > right
            span = f'{_number(left)} ms and more' if over else f'{_number(left)} to {_number(right)} ms'
            kind = 'bar over' if over else 'bar'
            plot.bar(x.percent(left), 90 / len(counts), (0, count), kind, f'{span}: {count}')
    median, p95 = np.percentile(ages_ms, (50, 95))
    plot.upright(median, 'median', 'end', -5)
    plot.upright(p95, 'p95', 'start', 5)
    spread = f'median {_rough(median)} ms, 95% within {_rough(p95)} ms'
    message = f'{what.capitalize()} of {len(ages_ms)} results: {spread}'
    return plot.svg(message) + _note(_outliers(ages_ms, x, 'counted in the last bar'))


def score_chart(
    scores: Sequence[Point],
    marked: Mapping[int, tuple[str, str]],
    x_name: str = TIME,
    recordings: Recordings = (),
) -> Markup:
    """Draw a ratio of each frame, with the mean, and a link for each marked frame.

    Args:
        scores: place of a frame (s, or its number) and its ratio, as fractions of 1.
        marked: by index in `scores`, the id in the page that the mark leads to, and the frame's name.
        x_name: of the horizontal axis.
        recordings: name and number of frames of each of several recordings, whose places start anew.

    """
    if not scores:
        return _empty('No frame was scored.')
    tracks = _Tracks(scores, recordings)
    places = [place for place, _ in tracks.points]
    x = Axis(x_name, min(*places, 0), max(*places, 1), whole=x_name != TIME)
    lowest, highest = (pick(value for _, value in scores) for pick in (min, max))
    low, high = 10 * min(9, math.floor(10 * lowest)), 10 * min(10, math.floor(10 * highest) + 1)
    plot = Plot(x, Axis('mIoU, %', low, high))
    drawn = [[(place, 100 * value) for place, value in track] for track in tracks.drawn]
    tracks.mark(plot)
    plot.line(drawn)
    plot.dots(drawn)
    mean = sum(value for _, value in scores) / len(scores)
    plot.levels([100 * mean], f'mean {mean:.1%}')
    for index, (target, name) in marked.items():
        place, value = tracks.points[index]
        at = f'cx="{plot.across(place)}" cy="{plot.down(100 * value)}"'
        label = escape(f'{name}: {value:.1%}')
        plot.add(
            f'<a href="#{target}" aria-label="{label}"><title>{label}</title>'
            f'<circle class="reach" {at} r="16"/><circle class="mark" {at} r="6"/></a>'
        )
    message = f'mIoU of {len(scores)} frames: mean {mean:.1%}, lowest {lowest:.1%}'
    return plot.svg(message) + _note(tracks.note())


def change_chart(changes: Sequence[Point], x_name: str = TIME, recordings: Recordings = ()) -> Markup:
    """Draw a bar per frame; what is below 0 is worse.

    Args:
        changes: place of a frame (s, or its number) and the difference of a ratio.
        x_name: of the horizontal axis.
        recordings: name and number of frames of each of several recordings, whose places start anew.

    """
    if not changes:
        return _empty('No frame is in both.')
    tracks = _Tracks(changes, recordings)
    drawn = list(itertools.chain.from_iterable(tracks.drawn))
    places = np.array([place for place, _ in drawn])
    gaps = np.diff(places)
    gap = float(gaps[gaps > 0].min(initial=np.inf))
    half = gap / 2 if np.isfinite(gap) else 0.5
    low, high = places.min() - half, places.max() + half  # a bar in full for the first and the last
    x = Axis(x_name, low, high, whole=x_name != TIME)
    width = min(MOST_WIDE, max(0.2, 120 * half / (high - low)))
    reach = max(1.0, *(abs(100 * value) for _, value in drawn))
    plot = Plot(x, Axis('points', -1.1 * reach, 1.1 * reach))
    tracks.mark(plot)
    for place, value in drawn:
        kind = 'over' if value < 0 else 'bar'
        plot.bar(x.percent(place) - width / 2, width, (0, 100 * value), kind)
    better = sum(value > 0 for _, value in changes)
    return plot.svg(f'Change of {len(changes)} frames: {better} better') + _note(tracks.note())


def _strip(x: Axis, fate: str, misses: Sequence[tuple[float, str]]) -> str:
    """Mark when frames met one fate, the fuller the more of them there are in 1/200 of the time."""
    cells = Counter(round(2 * x.percent(time)) / 2 for time, of in misses if of == fate)
    most = max(cells.values())
    marks = ''.join(
        f'<rect class="miss" x="{at}%" width="2" height="100%" opacity="{0.3 + 0.7 * count / most:.2f}"/>'
        for at, count in sorted(cells.items())
    )
    frames = sum(cells.values())
    message = escape(f'{fate}: {frames} {"frame" if frames == 1 else "frames"}')
    return f'<p class="strip">{message}</p><svg class="strip" role="img" aria-label="{message}">{marks}</svg>'


def _thinned(points: Sequence[Point], most: int) -> Sequence[Point]:
    """Keep the lowest and the highest of each run of points, so that no extreme is lost."""
    if len(points) <= most:
        return points
    kept: list[Point] = []
    for part in np.array_split(np.arange(len(points)), max(1, most // 2)):
        run = [points[i] for i in part]
        kept += sorted({min(run, key=lambda p: p[1]), max(run, key=lambda p: p[1])})
    return kept


def _outliers(values: Sequence[float], axis: Axis, where: str) -> list[str]:
    beyond = [value for value in values if value > axis.high]
    if not beyond:
        return []
    results = '1 result' if len(beyond) == 1 else f'{len(beyond)} results'
    return [f'{results} above {_number(axis.high)} ms, up to {_rough(max(beyond))} ms, {where}.']


def _note(sentences: Sequence[str]) -> Markup:
    return Markup('<p class="note">{}</p>').format(' '.join(sentences)) if sentences else Markup()


def _empty(sentence: str) -> Markup:
    return Markup('<p class="empty">{}</p>').format(sentence)
