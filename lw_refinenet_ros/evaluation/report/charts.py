# SPDX-License-Identifier: Apache-2.0
"""Charts of a page, ready to be put into a template. Their colours come from its style sheet."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape

from lw_refinenet_ros.one_line import counted
from lw_refinenet_ros.svg import Axis, Plot, Point, readable, round_step

__all__ = ['age_chart', 'age_histogram', 'change_chart', 'score_chart']

MOST_POINTS = 600  # more are indistinguishable on a screen and slow the page down
BINS = 80
MOST_WIDE = 12.0  # per cent of the width for a bar, so that a few frames do not fill the plot

Recordings = Sequence[tuple[str, int]]


def _rough(value: float) -> str:
    return readable(float(f'{value:.3g}'))


def _place_axis(low: float, high: float, by_time: bool) -> Axis:
    return Axis('time, s' if by_time else 'frame', low, high, whole=not by_time)


def _age_axis(ages_ms: Sequence[float], what: str) -> Axis:
    """Span the ages from 0 on, to twice the 95th percentile where a few outliers would flatten the rest."""
    largest, p95 = max(ages_ms), float(np.percentile(ages_ms, 95))
    high = max(2 * p95 if 0 < 3 * p95 < largest else 1.05 * largest, 1.0)
    step = round_step(high / 20)
    return Axis(f'{what}, ms', min(*ages_ms, 0.0), step * math.ceil(high / step))


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
    recordings: Recordings = (),
    *,
    by_time: bool = True,
) -> Markup:
    """Draw the age of each result over time, with the median and p95, and a mark per frame without a result.

    Args:
        ages: time in s, or number of the frame, and age in ms of each result.
        misses: time in s and fate of each frame that got none.
        what: 'age' or 'latency'.
        recordings: name and number of results of each of several recordings, each starting at time 0.
        by_time: whether places are times, not numbers of frames.
    """
    if not ages and not misses:
        return _empty('No frame was published.')
    tracks = _Tracks(ages, recordings)
    times = [time for time, _ in tracks.points] + [time for time, _ in misses]
    x = _place_axis(min(*times, 0.0), max(*times, 1.0), by_time)
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
    width = round_step((x.high - x.low) / BINS)
    edges = [width * i for i in range(math.floor(x.low / width), math.ceil(x.high / width) + 1)]
    x = Axis(x.label, edges[0], edges[-1])
    counts = np.histogram(np.minimum(ages_ms, x.high), edges)[0].tolist()
    plot = Plot(x, Axis('results', 0, 1.1 * max(counts), whole=True))
    for left, right, count in zip(edges, edges[1:], counts):
        if count:
            over = right == edges[-1] and max(ages_ms) > right
            span = f'{readable(left)} ms and more' if over else f'{readable(left)} to {readable(right)} ms'
            kind = 'bar over' if over else 'bar'
            plot.bar(x.percent(left), 90 / len(counts), (0, count), kind, f'{span}: {count}')
    median, p95 = np.percentile(ages_ms, (50, 95))
    plot.upright(median, 'median', 'end', -5)
    plot.upright(p95, 'p95', 'start', 5)
    spread = f'median {_rough(median)} ms, 95% within {_rough(p95)} ms'
    message = f'{what.capitalize()} of {len(ages_ms)} results: {spread}'
    note = _note(_outliers(ages_ms, x, 'counted in the last bar'))
    return Markup(f'{plot.svg(message)}{note}')


def score_chart(
    scores: Sequence[Point],
    marked: Mapping[int, tuple[str, str]],
    recordings: Recordings = (),
    *,
    by_time: bool = True,
) -> Markup:
    """Draw a ratio of each frame, with the mean, and a link for each marked frame.

    Args:
        scores: place of a frame (s, or its number) and its ratio, as fractions of 1.
        marked: by index in `scores`, the id in the page that the mark leads to, and the frame's name.
        recordings: name and number of frames of each of several recordings, each starting at place 0.
        by_time: whether places are times, not numbers of frames.
    """
    if not scores:
        return _empty('No frame was scored.')
    tracks = _Tracks(scores, recordings)
    places = [place for place, _ in tracks.points]
    x = _place_axis(min(*places, 0), max(*places, 1), by_time)
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
        plot.link((place, 100 * value), target, f'{name}: {value:.1%}')
    message = f'mIoU of {counted(len(scores), "frame")}: mean {mean:.1%}, lowest {lowest:.1%}'
    return Markup(f'{plot.svg(message)}{_note(tracks.note())}')


def change_chart(changes: Sequence[Point], recordings: Recordings = (), *, by_time: bool = True) -> Markup:
    """Draw a bar per frame; what is below 0 is worse.

    Args:
        changes: place of a frame (s, or its number) and the difference of a ratio.
        recordings: name and number of frames of each of several recordings, each starting at place 0.
        by_time: whether places are times, not numbers of frames.
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
    x = _place_axis(low, high, by_time)
    width = min(MOST_WIDE, max(0.2, 120 * half / (high - low)))
    reach = max(1.0, *(abs(100 * value) for _, value in drawn))
    plot = Plot(x, Axis('points', -1.1 * reach, 1.1 * reach))
    tracks.mark(plot)
    for place, value in drawn:
        kind = 'over' if value < 0 else 'bar'
        plot.bar(x.percent(place) - width / 2, width, (0, 100 * value), kind)
    better = sum(value > 0 for _, value in changes)
    message = f'Change of {counted(len(changes), "frame")}: {better} better'
    return Markup(f'{plot.svg(message)}{_note(tracks.note())}')


def _strip(x: Axis, fate: str, misses: Sequence[tuple[float, str]]) -> str:
    """Mark when frames met one fate, the fuller the more of them there are in 1/200 of the time."""
    cells = Counter(round(2 * x.percent(time)) / 2 for time, of in misses if of == fate)
    most = max(cells.values())
    marks = ''.join(
        f'<rect class="miss" x="{at}%" width="2" height="100%" opacity="{0.3 + 0.7 * count / most:.2f}"/>'
        for at, count in sorted(cells.items())
    )
    frames = sum(cells.values())
    message = escape(f'{fate}: {counted(frames, "frame")}')
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
    results = counted(len(beyond), 'result')
    return [f'{results} above {readable(axis.high)} ms, up to {_rough(max(beyond))} ms, {where}.']


def _note(sentences: Sequence[str]) -> Markup:
    return Markup('<p class="note">{}</p>').format(' '.join(sentences)) if sentences else Markup()


def _empty(sentence: str) -> Markup:
    return Markup('<p class="empty">{}</p>').format(sentence)
