# SPDX-License-Identifier: Apache-2.0
"""An evaluation or a live run as figures: the fields of `--json`, a headline, and rows to show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.evaluation import MOST_NAMED, Evaluation, NamedCount
from lw_refinenet_ros.evaluation.live import LiveRun, ages, lost
from lw_refinenet_ros.one_line import counted

__all__ = ['core_metrics', 'headline', 'percent', 'percentiles', 'rows', 'summarize', 'summarize_live']

MOST_UNPAIRED = 20  # frames and masks without a partner that are named; all are counted
RANKS = (50, 95, 99)
# What the node must have counted itself: a count that is missing is not zero.
COUNTED = ('received', 'segmented', 'superseded', 'lost')

Row = tuple[str, str, str]  # label, value and note


def core_metrics(evaluation: Evaluation) -> dict[str, Any]:
    """Return the metrics that every evaluation has; ratios are fractions of 1."""
    return {
        'miou': _number(evaluation.confusion.miou),
        'pixel_accuracy': _number(evaluation.confusion.pixel_accuracy),
        'per_class_iou': _by_class(evaluation, evaluation.confusion.iou),
        'frames': len(evaluation.frames),
        'latency_ms': percentiles(evaluation.stages_ms.get('inference', ())),
    }


def summarize(
    evaluation: Evaluation,
    conditions: Mapping[str, str],
    live: LiveRun | None = None,
    parts: Mapping[str, Evaluation] | None = None,
) -> dict[str, Any]:
    """Return all metrics as `--json` writes them; None where there is nothing to measure.

    `per_frame` holds a row per scored frame: what `compare` needs to resample them.

    Args:
        evaluation: what was counted.
        conditions: what it was made with.
        live: of a live run, the records of its processes.
        parts: of several bags, the evaluation of each by its name.

    Raises:
        ValueError: see `summarize_live`.
    """
    confusion, calibration, boundary = evaluation.confusion, evaluation.calibration, evaluation.boundary
    bins = calibration.bins
    robustness = evaluation.robustness.to_dict(evaluation.labels.names)
    return {
        **core_metrics(evaluation),
        'mean_accuracy': _number(confusion.mean_accuracy),
        'frequency_weighted_iou': _number(confusion.frequency_weighted_iou),
        'boundary_f_score': _number(boundary.mean),
        'per_class_precision': _by_class(evaluation, confusion.precision),
        'per_class_recall': _by_class(evaluation, confusion.recall),
        'per_class_boundary_f_score': _by_class(evaluation, boundary.f_score),
        'calibration': {
            'expected_calibration_error': _number(calibration.error),
            'confidence': [each.confidence for each in bins],
            'accuracy': [each.accuracy for each in bins],
            'pixels': [each.pixels for each in bins],
        },
        'temporal': {
            'consistency': evaluation.stability.consistency,
            'flicker': evaluation.stability.flicker,
            'pairs': evaluation.stability.pairs,
        },
        **({'robustness': robustness} if robustness else {}),
        'frames_segmented': evaluation.segmented,
        'stages_ms': {stage: percentiles(times) for stage, times in evaluation.stages_ms.items()},
        **(_live_figures(live) if live else {}),
        'unpaired': {
            'frames': _named(evaluation.frames_alone, MOST_UNPAIRED),
            'masks': _named(evaluation.masks_alone, MOST_UNPAIRED),
        },
        'problems': _named(evaluation.problems, MOST_NAMED),
        **({'bags': {name: core_metrics(part) for name, part in parts.items()}} if parts else {}),
        'consecutive': evaluation.consecutive,
        'classes': list(evaluation.labels.names),
        'confusion_matrix': confusion.counts.tolist(),
        'conditions': dict(conditions),
        'per_frame': {
            'name': evaluation.frames.names,
            'stamp_ns': evaluation.frames.stamps_ns.tolist(),
            'intersection': [list(frame.intersection) for frame in evaluation.frames],
            'union': [list(frame.union) for frame in evaluation.frames],
        },
    }


def summarize_live(run: LiveRun) -> dict[str, Any]:
    """Return the metrics of a live run without masks; its accuracies are None.

    Every count comes from where it happens, none by subtraction: refused by the player's middleware, lost by
    sequence number, the others by the node. Percentiles of nothing are None. `rate_hz`
    is the player's, by the median interval.

    Raises:
        ValueError: a result has a stamp that was never published, or a count of the node's is missing.
    """
    return {
        'miou': None,
        'pixel_accuracy': None,
        'per_class_iou': {},
        'frames': len(run.results),
        **_live_figures(run),
        'conditions': dict(run.conditions),
    }


def _live_figures(run: LiveRun) -> dict[str, Any]:
    """Return the figures that only a live run has, and those that it measures better."""
    missing = [fate for fate in COUNTED if fate not in run.counters]
    if missing:
        raise ValueError(f'the node reported no count of {missing[0]!r} frames, only {sorted(run.counters)}')
    ages_ms = [age_ms for _, age_ms in ages(run)]
    intervals_ns = np.diff([frame.due_ns for frame in run.published])
    refused = sum(frame.refused for frame in run.published)
    interval_ns = float(np.median(intervals_ns)) if intervals_ns.size else 0.0
    stages_ms = {
        stage: {key: _rounded(value) for key, value in figures.items()}
        for stage, figures in run.stages_ms.items()
    }
    return {
        'latency_ms': {**percentiles(()), **stages_ms.get('total', {})},
        'frames_published': len(run.published) - refused,
        **{f'frames_{fate}': run.counters[fate] for fate in COUNTED},
        'frames_lost': lost(run),
        'frames_other': {fate: run.counters[fate] for fate in sorted(run.counters) if fate not in COUNTED},
        'frames_refused': refused,
        'age_ms': {**percentiles(ages_ms), 'max': _rounded(max(ages_ms, default=None))},
        'rate_hz': _rounded(1e9 / interval_ns) if interval_ns > 0 else None,
        'stages_ms': stages_ms,
    }


def headline(summary: Mapping[str, Any]) -> str:
    """Return a summary in one sentence."""
    if _is_scored(summary):
        return (
            f'mIoU {percent(summary["miou"])}, pixel accuracy {percent(summary["pixel_accuracy"])} '
            f'on {counted(summary["frames"], "frame")}'
        )
    rate = '' if summary['rate_hz'] is None else f' at {summary["rate_hz"]:.3g} Hz'
    published = counted(summary['frames_published'], 'frame')
    frames = f'{summary["frames_segmented"]} of {published} segmented{rate}'
    age_ms = summary['age_ms']['p50']
    age = 'no result arrived' if age_ms is None else f'a result is {_ms(age_ms)} old at the median'
    return f'{frames}; {age}'


def rows(summary: Mapping[str, Any]) -> list[Row]:
    """Return a summary as rows of label, value and note, for the terminal and the report alike."""
    scored = _is_scored(summary)
    latency = _live_rows(summary) if 'frames_published' in summary else _latency_rows(summary)
    return [
        *(_accuracy_rows(summary) if scored else ()),
        *latency,
        *(_count_rows(summary) if scored else ()),
    ]


def _is_scored(summary: Mapping[str, Any]) -> bool:
    """Return whether there were masks: only a live run may have none."""
    return 'rate_hz' not in summary or 'confusion_matrix' in summary


def _accuracy_rows(summary: Mapping[str, Any]) -> list[Row]:
    temporal, error = summary['temporal'], summary['calibration']['expected_calibration_error']
    weighted, mean = percent(summary['frequency_weighted_iou']), percent(summary['mean_accuracy'])
    boundary = percent(summary['boundary_f_score'])
    rows = [
        ('Mean IoU', percent(summary['miou']), f'frequency-weighted {weighted}'),
        ('Pixel accuracy', percent(summary['pixel_accuracy']), f'mean over classes {mean}'),
        ('Boundary F-score', boundary, 'outlines within 0.75% of the diagonal'),
    ]
    if error is not None:
        rows.append(('Calibration error', percent(error), 'distance of confidence and accuracy'))
    if temporal['consistency'] is not None:
        flicker = '' if temporal['flicker'] is None else f'; {temporal["flicker"]:.2%} flicker'
        rows.append(('Steady labels', percent(temporal['consistency']), f'as in the frame before{flicker}'))
    return rows


def _latency_rows(summary: Mapping[str, Any]) -> list[Row]:
    latency = summary['latency_ms']
    if latency['p50'] is None:
        return []
    note = f'p95 {_ms(latency["p95"])}, p99 {_ms(latency["p99"])}; labels without confidence'
    return [('Network latency', _ms(latency['p50']), note)]


def _live_rows(summary: Mapping[str, Any]) -> list[Row]:
    age, latency = summary['age_ms'], summary['latency_ms']
    segmented = f'{summary["frames_segmented"]} of {summary["frames_published"]}'
    recorded = '' if _is_scored(summary) else f', labels recorded {summary["frames"]}'
    refused = summary['frames_refused']
    unknown = summary['frames_published'] - summary['frames_received'] - summary['frames_lost']
    others = [(fate, count) for fate, count in summary['frames_other'].items() if count]
    return [
        ('Frames segmented', segmented, f'received {summary["frames_received"]}{recorded}'),
        ('Age of a result', _ms(age['p50']), f'median; p95 {_ms(age["p95"])}, oldest {_ms(age["max"])}'),
        (
            'Latency in the node',
            _ms(latency['p50']),
            f'median; p95 {_ms(latency["p95"])}, p99 {_ms(latency["p99"])}',
        ),
        ('Superseded', str(summary['frames_superseded']), 'a newer frame came first'),
        ('Lost', str(summary['frames_lost']), 'in transport'),
        *([('Refused', str(refused), 'by the middleware of the sender')] if refused else ()),
        *([('Unaccounted', str(unknown), 'published, but neither received nor lost')] if unknown else ()),
        *((fate.capitalize(), str(count), 'frame' if count == 1 else 'frames') for fate, count in others),
    ]


def _count_rows(summary: Mapping[str, Any]) -> list[Row]:
    frames, masks = (summary['unpaired'][what]['count'] for what in ('frames', 'masks'))
    alone = f'{frames} without mask, {counted(masks, "mask")} without frame'
    rows = [('Frames scored', str(summary['frames']), alone)]
    if count := summary['problems']['count']:
        rows.append(('Problems', str(count), 'left out, see below'))
    return rows


def percentiles(values_ms: Iterable[float]) -> dict[str, float | None]:
    """Return the 50th, 95th and 99th percentile, interpolated, ignoring NaN; None if nothing is left."""
    known = [value for value in values_ms if not math.isnan(value)]
    values = np.percentile(known, RANKS) if known else [None] * len(RANKS)
    return {f'p{rank}': _rounded(value) for rank, value in zip(RANKS, values)}


def percent(value: float | None) -> str:
    """Return a fraction of 1 in per cent; 'absent' for None."""
    return 'absent' if value is None else '< 0.1%' if 0 < value < 0.001 else f'{value:.1%}'


def _by_class(evaluation: Evaluation, values: npt.NDArray[np.float64]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in zip(evaluation.labels.names, values.tolist())}


def _number(value: float) -> float | None:
    """Return a number, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else float(value)


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 3)


def _named(things: NamedCount, most: int) -> dict[str, Any]:
    return {'count': things.count, 'first': things.first[:most]}


def _ms(value: float | None) -> str:
    return 'none' if value is None else f'{float(f"{value:.3g}"):,g} ms'
