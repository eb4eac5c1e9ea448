# SPDX-License-Identifier: Apache-2.0
"""An evaluation as figures: the fields of `--json`, and rows for the terminal and the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.metrics import percentiles
from lw_refinenet_ros.evaluation.tally import MOST_NAMED

if TYPE_CHECKING:
    from lw_refinenet_ros.evaluation.tally import Evaluation, Listed

__all__ = ['core_metrics', 'evaluation_headline', 'evaluation_rows', 'evaluation_summary']

MOST_UNPAIRED = 20  # frames and masks without a partner that are named; all are counted


def core_metrics(found: Evaluation) -> dict[str, Any]:
    """Give the metrics that every evaluation has; ratios are fractions of 1."""
    return {
        'miou': _number(found.confusion.miou),
        'pixel_accuracy': _number(found.confusion.pixel_accuracy),
        'per_class_iou': _by_class(found, found.confusion.iou),
        'frames': len(found.frames),
        'latency_ms': _percentiles(found.stages_ms.get('inference', ())),
    }


def evaluation_summary(
    found: Evaluation,
    conditions: Mapping[str, str],
    live: Mapping[str, Any] | None = None,
    parts: Mapping[str, Evaluation] | None = None,
) -> dict[str, Any]:
    """Give all metrics as `--json` writes them; None where there is nothing to measure.

    `per_frame` holds a row per scored frame: what `compare` needs to resample them.

    Args:
        found: the evaluation.
        conditions: what it was made with.
        live: of a live run, the counts, ages and latencies that its processes measured.
        parts: of several bags, the evaluation of each by its name.

    """
    confusion, calibration = found.confusion, found.calibration
    bins = calibration.bins
    return {
        **core_metrics(found),
        'mean_accuracy': _number(confusion.mean_accuracy),
        'frequency_weighted_iou': _number(confusion.frequency_weighted_iou),
        'boundary_f_score': _number(found.boundary.mean),
        'per_class_precision': _by_class(found, confusion.precision),
        'per_class_recall': _by_class(found, confusion.recall),
        'per_class_boundary_f_score': _by_class(found, found.boundary.f_score),
        'calibration': {
            'expected_calibration_error': _number(calibration.error),
            'confidence': [_number(each.confidence) for each in bins],
            'accuracy': [_number(each.accuracy) for each in bins],
            'pixels': [each.pixels for each in bins],
        },
        'temporal': {
            'consistency': _number(found.stability.consistency),
            'flicker': _number(found.stability.flicker),
            'pairs': found.stability.pairs,
        },
        'frames_segmented': found.segmented,
        'stages_ms': {stage: _percentiles(times) for stage, times in found.stages_ms.items()},
        **(live or {}),
        'unpaired': {
            'frames': _listed(found.frames_alone, MOST_UNPAIRED),
            'masks': _listed(found.masks_alone, MOST_UNPAIRED),
        },
        'problems': _listed(found.problems, MOST_NAMED),
        **({'bags': {name: core_metrics(part) for name, part in parts.items()}} if parts else {}),
        'consecutive': found.consecutive,
        'classes': list(found.labels.names),
        'confusion_matrix': confusion.matrix.tolist(),
        'conditions': dict(conditions),
        'per_frame': {
            'name': found.frames.names,
            'stamp_ns': found.frames.stamps_ns.tolist(),
            'intersection': [list(frame.intersection) for frame in found.frames],
            'union': [list(frame.union) for frame in found.frames],
        },
    }


def evaluation_headline(summary: Mapping[str, Any]) -> str:
    """Say in one sentence what an evaluation gave."""
    return (
        f'mIoU {_percent(summary["miou"])}, pixel accuracy {_percent(summary["pixel_accuracy"])} '
        f'on {summary["frames"]} frames'
    )


def evaluation_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Give the summary as rows of label, value and note."""
    temporal, latency, unpaired = summary['temporal'], summary['latency_ms'], summary['unpaired']
    weighted = _percent(summary['frequency_weighted_iou'])
    rows = [
        ('Mean IoU', _percent(summary['miou']), f'frequency-weighted {weighted}'),
        (
            'Pixel accuracy',
            _percent(summary['pixel_accuracy']),
            f'mean over classes {_percent(summary["mean_accuracy"])}',
        ),
        ('Boundary F-score', _percent(summary['boundary_f_score']), 'outlines within 0.75% of the diagonal'),
    ]
    error = summary['calibration']['expected_calibration_error']
    if error is not None:
        rows.append(('Calibration error', _percent(error), 'distance of confidence and accuracy'))
    if temporal['consistency'] is not None:
        flicker = '' if temporal['flicker'] is None else f'; {temporal["flicker"]:.2%} flicker'
        rows.append(('Steady labels', _percent(temporal['consistency']), f'as in the frame before{flicker}'))
    if latency['p50'] is not None:
        whose = 'Node' if 'frames_published' in summary else 'Network'
        note = f'p95 {_ms(latency["p95"])}, p99 {_ms(latency["p99"])}'
        note += '' if whose == 'Node' else '; labels without confidence'
        rows.append((f'{whose} latency', _ms(latency['p50']), note))
    if 'frames_published' in summary:
        arrived = f'{summary["frames_segmented"]} of {summary["frames_published"]}'
        counts = {'superseded': summary['frames_superseded'], 'lost': summary['frames_lost']}
        counts.update({fate: count for fate, count in summary['frames_other'].items() if count})
        fates = ', '.join(f'{fate} {count}' for fate, count in counts.items())
        rows.append(('Frames segmented', arrived, fates))
        if summary['age_ms']['p50'] is not None:
            note = f'p95 {_ms(summary["age_ms"]["p95"])}, p99 {_ms(summary["age_ms"]["p99"])}'
            rows.append(('Age of a result', _ms(summary['age_ms']['p50']), note))
    rows.append(
        (
            'Frames scored',
            str(summary['frames']),
            f'{unpaired["frames"]["count"]} without mask, {unpaired["masks"]["count"]} masks without frame',
        )
    )
    if summary['problems']['count']:
        rows.append(('Problems', str(summary['problems']['count']), 'left out, see below'))
    return rows


def _by_class(found: Evaluation, values: npt.NDArray[np.float64]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in zip(found.labels.names, values.tolist())}


def _number(value: float | None) -> float | None:
    """Give a number as it is, or None for what JSON does not have."""
    return None if value is None or np.isnan(value) else float(value)


def _percentiles(times: Iterable[float]) -> dict[str, float | None]:
    values = [value for value in times if not math.isnan(value)]
    return {key: None if v is None else round(v, 3) for key, v in percentiles(values).items()}


def _listed(things: Listed, most: int) -> dict[str, Any]:
    return {'count': things.count, 'first': things.first[:most]}


def _percent(value: float | None) -> str:
    return 'none' if value is None else f'{value:.1%}'


def _ms(value: float) -> str:
    return f'{float(f"{value:.3g}"):,g} ms'
