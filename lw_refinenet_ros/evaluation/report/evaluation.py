# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation: figures, where they come from, and pictures of the worst frames."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from lw_refinenet_ros.evaluation.evaluation import Evaluation
from lw_refinenet_ros.evaluation.frame_scores import FrameScore, WorstFrame
from lw_refinenet_ros.evaluation.live import LiveRun, ages, misses
from lw_refinenet_ros.evaluation.provenance import provenance
from lw_refinenet_ros.evaluation.report.charts import age_chart, age_histogram, score_chart
from lw_refinenet_ros.evaluation.report.frames import all_frames, error_shares, slices
from lw_refinenet_ros.evaluation.report.pictures import colors, pictures_of_worst
from lw_refinenet_ros.evaluation.report.write import FOLDER, write_page
from lw_refinenet_ros.evaluation.summary import headline, rows
from lw_refinenet_ros.labels import LabelSet

__all__ = ['write_evaluation_report']

Point = tuple[float, float]


def write_evaluation_report(
    path: str | Path, evaluation: Evaluation, summary: Mapping[str, Any], live: LiveRun | None = None
) -> None:
    """Write the page of an evaluation, self-contained HTML; `summary` is what `summarize` returns of it."""
    conditions, calibration = summary['conditions'], summary['calibration']
    short = (provenance(conditions), *(conditions.get(name) for name in ('machine', 'commit', 'date')))
    write_page(
        path,
        'evaluation',
        title='Evaluation',
        verdict=headline(summary),
        tiles=rows(summary),
        conditions=conditions,
        made_with=' · '.join(filter(None, short)),
        classes=_classes(evaluation.labels, summary),
        bags=summary.get('bags', {}),
        timeline=_timeline(evaluation),
        worst=_worst(evaluation),
        consecutive=evaluation.consecutive,
        colors=colors(evaluation.labels),
        **_confusion(summary),
        calibration=calibration,
        bins=list(zip(calibration['confidence'], calibration['accuracy'], calibration['pixels'])),
        **_frames(evaluation),
        miou=summary['miou'],
        robustness=summary.get('robustness', {}),
        **_latency(evaluation),
        ages=age_chart(ages(live), misses(live)) if live else '',
        problems=summary['problems'],
    )


def _classes(labels: LabelSet, summary: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return name, colour, IoU, and precision, recall and boundary F-score of each class, the best first."""
    ious, metrics = summary['per_class_iou'], ('precision', 'recall', 'boundary_f_score')
    classes = [
        (name, color, ious[name], [summary[f'per_class_{metric}'][name] for metric in metrics])
        for name, color in zip(labels.names, labels.colors)
    ]
    return sorted(classes, key=lambda each: -(each[2] or -1))


def _recordings(evaluation: Evaluation) -> list[tuple[str, int, int]]:
    return evaluation.recordings or [('', len(evaluation.frames), evaluation.segmented)]


def _wrong(evaluation: Evaluation) -> list[WorstFrame]:
    """Return the worst frames, without those where every pixel is right."""
    return [frame for frame in evaluation.worst if frame.score.miou < 1]


def _timeline(evaluation: Evaluation) -> str:
    """Draw each frame's mIoU over time, or by its number where frames do not follow each other."""
    points: list[Point] = []
    index_of: dict[str, int] = {}
    recordings: list[tuple[str, int]] = []
    frames = iter(evaluation.frames)
    for name, scored, _ in _recordings(evaluation):
        before = len(points)
        for number, frame in enumerate(itertools.islice(frames, scored), 1):
            if frame.scored:
                index_of[frame.name] = len(points)
                points.append((frame.time_s if evaluation.consecutive else float(number), frame.miou))
        recordings.append((name, len(points) - before))
    marked = {
        index_of[frame.score.name]: (f'worst-{rank}', frame.score.name)
        for rank, frame in enumerate(_wrong(evaluation), 1)
    }
    return score_chart(points, marked, recordings, by_time=evaluation.consecutive) if points else ''


def _worst(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Describe the worst frames, with their pictures."""
    return [
        {
            'name': frame.score.name,
            'miou': frame.score.miou,
            'lowest': _lowest_classes(evaluation.labels, frame.score),
            'when': f'at {frame.score.time_s:.1f} s' if evaluation.consecutive else 'timeline',
            'pictures': pictures_of_worst(frame, evaluation.labels),
        }
        for frame in _wrong(evaluation)
    ]


def _lowest_classes(labels: LabelSet, score: FrameScore) -> str:
    """Name the three classes of a frame with the lowest IoU."""
    classes = zip(score.intersection, score.union, labels.names)
    ratios = sorted((part / whole, name) for part, whole, name in classes if part < whole)
    return ', '.join(f'{name} {ratio:.0%}' for ratio, name in ratios[:3])


def _frames(evaluation: Evaluation) -> dict[str, Any]:
    """Return what the sections about all frames show."""
    content = all_frames(evaluation)
    if not content:
        return {'data': ''}
    errors, objects = error_shares(evaluation)
    return {
        'data': Markup(json.dumps(content, separators=(',', ':')).replace('<', '\\u003c')),
        'opens': {pair for cells in content['cells'] for pair in zip(cells[::3], cells[1::3])},
        'slices': slices(evaluation),
        'error_types': errors,
        'objects': objects,
        'frames_script': Markup((FOLDER / 'frames.js').read_text('utf-8')),
    }


def _confusion(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows of the matrix as shares of the true pixels, and the names of its columns."""
    matrix = np.array(summary['confusion_matrix'], np.float64)
    predicted = [*summary['classes'], 'unlabelled']
    if not matrix[:, -1].any():
        matrix, predicted = matrix[:, :-1], predicted[:-1]
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return {'confusion': list(zip(summary['classes'], shares.tolist())), 'predicted': predicted}


def _latency(evaluation: Evaluation) -> dict[str, str]:
    """Draw the latency of the frames that were timed."""
    times = evaluation.stages_ms.get('inference')
    if not times:
        return {'latency': ''}
    places = evaluation.times_s if evaluation.consecutive else range(1, len(times) + 1)
    frames = zip(map(float, places), times)
    points: list[Point] = []
    recordings: list[tuple[str, int]] = []
    for name, _, segmented in _recordings(evaluation):
        timed = [point for point in itertools.islice(frames, segmented) if not math.isnan(point[1])]
        points += timed
        recordings.append((name, len(timed)))
    return {
        'latency': age_chart(points, (), 'latency', recordings, by_time=evaluation.consecutive),
        'latencies': age_histogram([latency_ms for _, latency_ms in points], 'latency'),
    }
