# SPDX-License-Identifier: Apache-2.0
"""What a replay through the running node gave: ages by stamp, counts, and the summary of both."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lw_refinenet_ros.evaluation.metrics import Confusion, percentiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    'Arrival',
    'LiveRun',
    'Published',
    'ages',
    'headline',
    'live_figures',
    'misses',
    'summarize',
    'summary_rows',
]

# What the node must have counted itself, as metrics.json shows it: a count that is missing is not zero.
COUNTED = ('received', 'segmented', 'superseded', 'lost')


@dataclass(frozen=True)
class Published:
    """A frame the player sent: its own stamp; by the monotonic clock, when it was due and when sent."""

    stamp_ns: int
    due_ns: int
    sent_ns: int


@dataclass(frozen=True)
class Arrival:
    """A label the recorder got: the frame's stamp; by the monotonic clock, when it arrived."""

    stamp_ns: int
    arrival_ns: int


@dataclass(frozen=True)
class LiveRun:
    """The records of a replay, each written by the process in which it happened.

    Attributes:
        published: by the player, in the order of sending.
        results: by the recorder, one per label.
        counters: by the node, frames by fate: 'received', 'segmented', 'superseded', 'lost',
            and whatever else it counts ('warming up', 'skipped', 'bad: …').
        stages_ms: by the node, percentiles 'p50', 'p95', 'p99' of each stage's latency; 'total'
            runs from the frame's callback to the publishing of its label.
        conditions: what the run was made with: weights, engine, precision, machine, versions…

    """

    published: Sequence[Published]
    results: Sequence[Arrival]
    counters: Mapping[str, int]
    stages_ms: Mapping[str, Mapping[str, float]]
    conditions: Mapping[str, str]


def _frames_of_results(run: LiveRun) -> list[int]:
    """Index in `published` of each result's frame: of those with its stamp, the last sent before it arrived.

    Stamps repeat when a bag is looped, or when a driver does not set them.
    """
    sent: dict[int, list[int]] = defaultdict(list)
    for index, frame in enumerate(run.published):
        sent[frame.stamp_ns].append(index)
    frames = []
    for result in run.results:
        if result.stamp_ns not in sent:
            msg = f'a result is stamped {result.stamp_ns} ns, and no frame with that stamp was published'
            raise ValueError(msg)
        same = sent[result.stamp_ns]
        later = bisect_right(same, result.arrival_ns, key=lambda index: run.published[index].sent_ns)
        frames.append(same[max(later - 1, 0)])
    return frames


def _time_s(run: LiveRun, index: int) -> float:
    return (run.published[index].due_ns - run.published[0].due_ns) / 1e9


def ages(run: LiveRun) -> list[tuple[float, float]]:
    """Give each result's time and age: when its frame was due (s from the first), due to arrival (ms).

    Raises:
        ValueError: a result has a stamp that was never published.

    """
    return [
        (_time_s(run, index), (result.arrival_ns - run.published[index].due_ns) / 1e6)
        for result, index in zip(run.results, _frames_of_results(run))
    ]


def misses(run: LiveRun) -> list[tuple[float, str]]:
    """Give the time (s from the first) of each frame without a result.

    The node counts fates but keeps no stamps, so that the fate of a single frame is 'no result'.
    """
    found = set(_frames_of_results(run))
    return [(_time_s(run, index), 'no result') for index in range(len(run.published)) if index not in found]


def summarize(
    run: LiveRun, confusion: Confusion | None = None, class_names: Sequence[str] = ()
) -> dict[str, Any]:
    """Give the metrics of a live run as metrics.json has them.

    Every count comes from where it happens, none by subtraction. Without truth `miou` and
    `pixel_accuracy` are None and `per_class_iou` is empty; a class that occurs nowhere has
    None, and so do percentiles of nothing. `rate_hz` is the player's, by the median interval.

    Args:
        run: the records.
        confusion: the labels against the truth, where there is truth.
        class_names: names of its classes, by id.

    Raises:
        ValueError: a result has a stamp that was never published, a count of the node's is
            missing, or there are not as many names as classes.

    """
    missing = [fate for fate in COUNTED if fate not in run.counters]
    if missing:
        msg = f'the node gave no count of {missing[0]!r} frames, only of {sorted(run.counters)}'
        raise ValueError(msg)
    if confusion is not None and len(class_names) != confusion.num_classes:
        msg = f'{len(class_names)} class names for {confusion.num_classes} classes'
        raise ValueError(msg)
    ages_ms = [age_ms for _, age_ms in ages(run)]
    intervals_ns = np.diff([frame.due_ns for frame in run.published])
    interval_ns = float(np.median(intervals_ns)) if intervals_ns.size else 0.0
    others = {fate: run.counters[fate] for fate in sorted(run.counters) if fate not in COUNTED}
    iou = zip(class_names, confusion.iou.tolist()) if confusion else ()
    return {
        'miou': _rounded(confusion.miou, 6) if confusion else None,
        'pixel_accuracy': _rounded(confusion.pixel_accuracy, 6) if confusion else None,
        'per_class_iou': {name: _rounded(value, 6) for name, value in iou},
        'frames': len(run.results),
        'latency_ms': {key: _rounded(run.stages_ms.get('total', {}).get(key)) for key in percentiles(())},
        'frames_published': len(run.published),
        **{f'frames_{fate}': run.counters[fate] for fate in COUNTED},
        'frames_other': others,
        'age_ms': {
            **{key: _rounded(value) for key, value in percentiles(ages_ms).items()},
            'max': _rounded(max(ages_ms, default=None)),
        },
        'rate_hz': _rounded(1e9 / interval_ns) if interval_ns > 0 else None,
        'stages_ms': {
            stage: {key: _rounded(value) for key, value in figures.items()}
            for stage, figures in run.stages_ms.items()
        },
        'conditions': dict(run.conditions),
    }


def live_figures(run: LiveRun | None) -> dict[str, Any]:
    """Give what a live run adds to the summary of an evaluation, and what it knows better; {} of None."""
    if run is None:
        return {}
    summary = summarize(run)
    left_out = ('miou', 'pixel_accuracy', 'per_class_iou', 'frames', 'conditions')
    return {key: value for key, value in summary.items() if key not in left_out}


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), digits)


def headline(summary: Mapping[str, Any]) -> str:
    """Say in one sentence what a summary means."""
    rate = '' if summary['rate_hz'] is None else f' at {summary["rate_hz"]:.3g} Hz'
    frames = f'{summary["frames_segmented"]} of {summary["frames_published"]} frames segmented{rate}'
    age_ms = summary['age_ms']['p50']
    return f'{frames}; ' + (
        'no result arrived' if age_ms is None else f'a result is {_ms(age_ms)} old at the median'
    )


def summary_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Give a summary as rows of label, value and note, for the terminal and the report alike."""
    age, latency = summary['age_ms'], summary['latency_ms']
    rows = [
        (
            'Frames segmented',
            f'{summary["frames_segmented"]} of {summary["frames_published"]}',
            f'received {summary["frames_received"]}, labels recorded {summary["frames"]}',
        ),
        ('Age of a result', _ms(age['p50']), f'median; p95 {_ms(age["p95"])}, oldest {_ms(age["max"])}'),
        (
            'Latency in the node',
            _ms(latency['p50']),
            f'median; p95 {_ms(latency["p95"])}, p99 {_ms(latency["p99"])}',
        ),
        ('Superseded', str(summary['frames_superseded']), 'a newer frame came first'),
        ('Lost', str(summary['frames_lost']), 'in transport'),
        *(
            (fate.capitalize(), str(count), 'frames')
            for fate, count in summary['frames_other'].items()
            if count
        ),
    ]
    if summary['miou'] is not None:
        rows.append(('Mean IoU', f'{summary["miou"]:.1%}', f'pixel accuracy {summary["pixel_accuracy"]:.1%}'))
    return rows


def _ms(value: float | None) -> str:
    return 'none' if value is None else f'{float(f"{value:.3g}"):,g} ms'
