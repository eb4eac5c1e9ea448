# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation: figures, where they come from, and pictures of the worst frames."""

from __future__ import annotations

import itertools
import math
from html import escape
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.charts import TIME, age_chart, age_histogram, score_chart
from lw_refinenet_ros.evaluation.files import write_text
from lw_refinenet_ros.evaluation.page import page
from lw_refinenet_ros.evaluation.parts import conditions_section, header, picture, section, tiles
from lw_refinenet_ros.evaluation.provenance import provenance
from lw_refinenet_ros.evaluation.summary import headline, rows
from lw_refinenet_ros.image.painting import paint_label
from lw_refinenet_ros.labels import UNLABELLED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lw_refinenet_ros.evaluation.evaluation import Evaluation
    from lw_refinenet_ros.evaluation.frame_scores import FrameScore, WorstFrame
    from lw_refinenet_ros.labels import LabelSet

__all__ = ['write_evaluation_report']

WRONG, RIGHT, IGNORED = (226, 74, 51), (236, 239, 242), (120, 128, 136)
MOST_PROBLEMS = 20


def write_evaluation_report(
    path: str | Path,
    found: Evaluation,
    summary: Mapping[str, Any],
    ages: Sequence[tuple[float, float]] = (),
    misses: Sequence[tuple[float, str]] = (),
) -> None:
    """Write a self-contained HTML file.

    Args:
        path: the file; it appears whole or not at all.
        found: the evaluation.
        summary: its figures, as `summarize` returns them.
        ages: of a live run, the time in s and age in ms of each result.
        misses: of a live run, time in s and fate of each frame without result.

    """
    body = [
        header('Evaluation', headline(summary), _made_with(summary['conditions'])),
        tiles(rows(summary)),
        _classes(found.labels, summary),
        _bags(summary.get('bags', {})),
        _timeline(found),
        _worst(found),
        _confusion(found.labels, summary),
        _calibration(summary),
        _latency(found),
        _ages(ages, misses),
        _problems(summary),
        conditions_section(summary['conditions']),
    ]
    write_text(path, page('Evaluation', '\n'.join(part for part in body if part)))


def _classes(labels: LabelSet, summary: Mapping[str, Any]) -> str:
    rows = []
    ious = summary['per_class_iou']
    for name, color in sorted(zip(labels.names, labels.colors), key=lambda pair: -(ious[pair[0]] or -1)):
        values = [summary[f'per_class_{metric}'][name] for metric in ('precision', 'recall')]
        values.append(summary['per_class_boundary_f_score'][name])
        paint = 'rgb({},{},{})'.format(*color)
        bar = (
            f'<span class="share-bar" style="background:{paint};width:{100 * (ious[name] or 0):.1f}%"></span>'
        )
        rows.append(
            f'<tr><th scope="row"><span class="swatch" style="background:{paint}"></span>{escape(name)}</th>'
            f'<td class="share">{_percent(ious[name])}</td><td class="wide">{bar}</td>'
            + ''.join(f'<td class="share more">{_percent(value)}</td>' for value in values)
            + '</tr>'
        )
    more = ''.join(
        f'<th scope="col" class="more">{name}</th>' for name in ('Precision', 'Recall', 'Boundary F')
    )
    head = f'<tr><th scope="col">Class</th><th scope="col" colspan="2">IoU</th>{more}</tr>'
    table = f'<table class="legend"><thead>{head}</thead><tbody>\n{"".join(rows)}\n</tbody></table>'
    about = 'Intersection over union of each class over all scored frames; full bars are 100%.'
    return section('Classes', about, table)


def _timeline(found: Evaluation) -> str:
    """Draw each frame's mIoU over time, or by its number where frames do not follow each other."""
    points: list[tuple[float, float]] = []
    at: dict[str, int] = {}
    recordings: list[tuple[str, int]] = []
    counts = [(name, scored) for name, scored, _ in found.recordings] or [('', len(found.frames))]
    frames = iter(found.frames)
    for name, count in counts:
        before = len(points)
        for number, frame in enumerate(itertools.islice(frames, count), 1):
            if frame.scored:
                at[frame.name] = len(points)
                points.append((frame.time_s if found.consecutive else float(number), frame.miou))
        recordings.append((name, len(points) - before))
    if not points:
        return ''
    marked = {
        at[worst.score.name]: (f'worst-{rank}', worst.score.name)
        for rank, worst in enumerate(_wrong_frames(found), 1)
    }
    chart = score_chart(points, marked, _axis(found), recordings)
    about = 'Mean IoU of each frame, over the classes in it. Select a marked frame to see it.'
    return section('<span id="timeline">Frame by frame</span>', about, chart)


def _made_with(conditions: Mapping[str, str]) -> str:
    """Return in short what an evaluation was made with; all of it stands at the end."""
    names = ('machine', 'commit', 'date')
    parts = (provenance(conditions), *(conditions.get(name) for name in names))
    return ' · '.join(part for part in parts if part)


def _bags(bags: Mapping[str, Mapping[str, Any]]) -> str:
    """List the figures of each of several bags."""
    rows = ''.join(
        f'<tr><th scope="row">{escape(name)}</th><td>{figures["frames"]}</td>'
        f'<td>{_percent(figures["miou"])}</td><td>{_percent(figures["pixel_accuracy"])}</td></tr>'
        for name, figures in bags.items()
    )
    columns = ('Bag', 'Frames', 'Mean IoU', 'Pixel accuracy')
    head = ''.join(f'<th scope="col">{name}</th>' for name in columns)
    table = f'<table class="bags"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return section('Bags', 'Each by itself; the other figures are of all together.', table) if bags else ''


def _axis(found: Evaluation) -> str:
    """Return what the frames are placed by in charts."""
    return TIME if found.consecutive else 'frame'


def _wrong_frames(found: Evaluation) -> list[WorstFrame]:
    """Return the worst frames, without those where every pixel is right."""
    return [worst for worst in found.worst if worst.score.miou < 1]


def _worst(found: Evaluation) -> str:
    figures = []
    for rank, worst in enumerate(_wrong_frames(found), 1):
        name = escape(worst.score.name)
        shown = [
            ('Image', worst.image),
            ('Truth', paint_label(worst.truth, found.labels)),
            ('Prediction', paint_label(worst.label, found.labels)),
            ('Difference', _difference(worst)),
        ]
        if worst.confidence is not None:
            shown.append(('Confidence', _heat(worst.confidence)))
        pictures = ''.join(
            f'<div>{picture(array, f"{what} of frame {worst.score.name}")}<p class="note">{what}</p></div>'
            for what, array in shown
        )
        figures.append(
            f'<figure class="worst" id="worst-{rank}" tabindex="-1"><figcaption><b>{rank}. {name}</b>: '
            f'mIoU {worst.score.miou:.1%}{_worst_classes(found.labels, worst.score)}; '
            f'<a href="#timeline">{_when(found, worst.score)}</a></figcaption>'
            f'<div class="five">{pictures}</div></figure>'
        )
    about = (
        f'Those with the lowest mIoU{", of any second the worst" if found.consecutive else ""}. Difference: '
        'red is wrong, grey has no truth. Confidence: bright is sure. Select a picture to enlarge it.'
    )
    legend = ''.join(
        '<li><span class="swatch" style="background:rgb({},{},{})"></span>'.format(*color)
        + f'{escape(name)}</li>'
        for name, color in zip((*found.labels.names, 'no truth'), (*found.labels.colors, (0, 0, 0)))
    )
    content = f'<ul class="key">{legend}</ul>' + '\n'.join(figures)
    return section('Worst frames', about, content) if figures else ''


def _when(found: Evaluation, score: FrameScore) -> str:
    """Name a frame's place in the timeline."""
    return f'at {score.time_s:.1f} s' if found.consecutive else 'timeline'


def _worst_classes(labels: LabelSet, score: FrameScore) -> str:
    """Name the three classes of a frame with the lowest IoU."""
    ratios = sorted(
        (part / whole, name)
        for part, whole, name in zip(score.intersection, score.union, labels.names)
        if part < whole
    )
    return escape('; lowest: ' + ', '.join(f'{name} {ratio:.0%}' for ratio, name in ratios[:3]))


def _difference(worst: WorstFrame) -> npt.NDArray[np.uint8]:
    """Show where the prediction is wrong over a faint image."""
    gray = cv2.cvtColor(worst.image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    shown = 0.25 * gray + 0.75 * np.array(RIGHT, np.float32)
    shown[worst.label != worst.truth] = WRONG
    shown[worst.truth == UNLABELLED] = IGNORED
    return shown.astype(np.uint8)


def _heat(confidence: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    heat = cv2.applyColorMap(confidence, cv2.COLORMAP_CIVIDIS)
    return np.array(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), np.uint8)


def _confusion(labels: LabelSet, summary: Mapping[str, Any]) -> str:
    """Show the rows of the matrix as shares of the true pixels."""
    matrix = np.array(summary['confusion_matrix'], np.float64)
    names = [*labels.names, 'unlabelled']
    if not matrix[:, -1].any():
        matrix, names = matrix[:, :-1], names[:-1]
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    head = ''.join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    rows = []
    for index, (name, row) in enumerate(zip(labels.names, shares)):
        cells = []
        for column, share in enumerate(row.tolist()):
            said = f'{escape(name)} taken for {escape(names[column])}: {share:.1%}'
            kind = 'hit' if column == index else 'slip'
            text = f'{100 * share:.0f}' if share >= 0.005 else ''
            cells.append(f'<td class="{kind}" style="--share:{share:.3f}" title="{said}">{text}</td>')
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    table = (
        f'<div class="scroller" tabindex="0" role="group" aria-label="Confusion matrix">'
        f'<table class="matrix">'
        f'<thead><tr><th></th>{head}</tr></thead><tbody>\n{"".join(rows)}\n</tbody></table></div>'
        '<p class="note hint">Scroll sideways for more columns →</p>'
    )
    about = 'What the pixels of each true class (rows) were taken for (columns), in % of the true class.'
    return section('Confusion', about, table)


def _calibration(summary: Mapping[str, Any]) -> str:
    bins = summary['calibration']
    if not bins['pixels']:
        return ''
    total = sum(bins['pixels'])
    rows = ''.join(
        f'<tr><td>{sure:.0%}</td><td>{right:.0%}</td><td class="wide"><span class="scale">'
        f'<span style="width:{100 * right:.1f}%"></span><i style="left:{100 * sure:.1f}%"></i></span></td>'
        f'<td>{_percent(pixels / total)}</td></tr>'
        for sure, right, pixels in zip(bins['confidence'], bins['accuracy'], bins['pixels'])
    )
    head = ''.join(
        f'<th scope="col"{span}>{name}</th>'
        for name, span in (('Confidence', ''), ('Right', ' colspan="2"'), ('Pixels', ''))
    )
    table = f'<table class="calibration"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    error = _percent(bins['expected_calibration_error'])
    about = (
        f"How often pixels of each confidence are right; a calibrated network's bars end at the mark. "
        f'The expected calibration error is {error}.'
    )
    return section('Confidence', about, table)


def _latency(found: Evaluation) -> str:
    """Draw the latency of the frames that were timed."""
    times = found.stages_ms.get('inference')
    if not times:
        return ''
    places = found.times_s if found.consecutive else range(1, len(times) + 1)
    frames = zip(map(float, places), times)
    points: list[tuple[float, float]] = []
    recordings: list[tuple[str, int]] = []
    for name, _, segmented in found.recordings or [('', 0, len(times))]:
        timed = [point for point in itertools.islice(frames, segmented) if not math.isnan(point[1])]
        points += timed
        recordings.append((name, len(timed)))
    chart = age_chart(points, (), 'latency', _axis(found), recordings)
    content = (
        f'<h3>Latency over the recording</h3>{chart}'
        f'<h3>Distribution</h3>{age_histogram([latency_ms for _, latency_ms in points], "latency")}'
    )
    about = (
        'From the pixels of a frame to its labels, without confidence, of the first ten frames and every '
        'tenth; nothing is scored meanwhile.'
    )
    return section('Latency', about, content)


def _ages(ages: Sequence[tuple[float, float]], misses: Sequence[tuple[float, str]]) -> str:
    if not ages and not misses:
        return ''
    content = f'<h3>Age over time</h3>{age_chart(ages, misses)}'
    about = 'How old each result was when it arrived. A frame without a result is marked above the chart.'
    return section('Age of the results', about, content)


def _problems(summary: Mapping[str, Any]) -> str:
    problems = summary['problems']
    if not problems['count']:
        return ''
    lines = ''.join(f'<li>{escape(line)}</li>' for line in problems['first'][:MOST_PROBLEMS])
    left = problems['count'] - min(len(problems['first']), MOST_PROBLEMS)
    more = f'<p class="note">and {left} more</p>' if left > 0 else ''
    return section('Problems', 'What could not be used.', f'<ul class="problems">{lines}</ul>{more}')


def _percent(value: float | None) -> str:
    return 'absent' if value is None else '&lt; 0.1%' if 0 < value < 0.001 else f'{value:.1%}'
