# SPDX-License-Identifier: Apache-2.0
"""The report of a comparison: what changed by class and by frame."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.charts import TIME, change_chart
from lw_refinenet_ros.evaluation.files import write_text
from lw_refinenet_ros.evaluation.page import page
from lw_refinenet_ros.evaluation.parts import conditions_section, header, picture, section, tiles
from lw_refinenet_ros.evaluation.provenance import provenance, shortened
from lw_refinenet_ros.image.painting import paint_label
from lw_refinenet_ros.labels import UNLABELLED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lw_refinenet_ros.evaluation.compare import Change, Comparison
    from lw_refinenet_ros.evaluation.side_by_side import ChangedFrame
    from lw_refinenet_ros.labels import LabelSet

__all__ = ['comparison_headline', 'points', 'write_comparison_report']

MOST_FRAMES = 20
# Told apart by everybody: Okabe and Ito's blue and vermilion.
MENDED, BROKEN, WRONG, IGNORED = (0, 114, 178), (213, 94, 0), (60, 60, 60), (120, 128, 136)
SAID = {'better': 'better', 'worse': 'worse', 'unsure': 'no sure change'}


def points(value: float | None) -> str:
    """Say a difference of ratios in percentage points."""
    return 'absent' if value is None else f'{100 * value:+.2f}'


def comparison_headline(found: Comparison) -> str:
    """Say in one sentence what changed."""
    miou = found.miou
    counts = {verdict: sum(change.verdict == verdict for change in found.classes) for verdict in SAID}
    return (
        f'mIoU {points(miou.difference)} points ({found.too_few or _interval(miou)}), {SAID[miou.verdict]}; '
        f'{counts["better"]} classes better, {counts["worse"]} worse, {counts["unsure"]} unsure'
    )


def write_comparison_report(
    path: str | Path,
    found: Comparison,
    names: tuple[str, str],
    conditions: tuple[Mapping[str, str], Mapping[str, str]],
    pictures: Sequence[ChangedFrame] = (),
    labels: LabelSet | None = None,
) -> None:
    """Write a self-contained HTML file.

    Args:
        path: the file; it appears whole or not at all.
        found: the comparison.
        names: of the two evaluations.
        conditions: of the two evaluations; those that differ are shown side by side.
        pictures: frames to show, where there are pictures of them.
        labels: the classes and their colours, for the pictures.

    """
    miou = found.miou
    interval = found.too_few or f'95% interval {_interval(miou)}'
    rows = [
        *(
            (f'Mean IoU {when}', _percent(value), provenance(of) or name)
            for when, value, name, of in zip(
                ('before', 'after'), (miou.before, miou.after), names, conditions
            )
        ),
        ('Difference', f'{points(miou.difference)} points', interval),
        (
            'Frames in both',
            str(len(found.frames)),
            f'only before {len(found.only_before)}, only after {len(found.only_after)}',
        ),
    ]
    body = [
        header('Comparison', comparison_headline(found)),
        tiles(rows),
        _classes(found),
        _frames(found, {frame.name: rank for rank, frame in enumerate(pictures, 1)}),
        _pictures(pictures, labels) if labels else '',
        conditions_section(_both(conditions)),
    ]
    write_text(path, page('Comparison', '\n'.join(part for part in body if part)))


def _classes(found: Comparison) -> str:
    rows = []
    for change in sorted(found.classes, key=lambda change: change.difference or 0.0):
        values = f'<td>{_percent(change.before)}</td><td>{_percent(change.after)}</td>'
        rows.append(
            f'<tr><th scope="row">{escape(change.name)}</th>{values}'
            f'<td class="{change.verdict}">{points(change.difference)}</td>'
            f'<td class="interval">{_interval(change).replace(" to", "&nbsp;to")}</td>'  # two lines at most
            f'<td class="{change.verdict}">{change.verdict}</td></tr>'
        )
    names = ('Class', 'Before', 'After', 'Points', '95% interval', 'Verdict')
    head = ''.join(f'<th scope="col">{name}</th>' for name in names)
    body = f'<thead><tr>{head}</tr></thead><tbody>\n{"".join(rows)}\n</tbody>'
    table = f'<table class="changes by-class">{body}</table>'
    sure = found.too_few or 'It is sure where the interval does not hold 0'
    about = f'IoU of each class, the worst change first. {sure[0].upper()}{sure[1:]}.'
    return section('Classes', about, table)


def _frames(found: Comparison, shown: Mapping[str, int]) -> str:
    places, recordings = _places(found)
    chart = change_chart(places, TIME if found.consecutive else 'frame', recordings)
    rows = ''.join(
        f'<tr><th scope="row">{_link(frame.name, shown)}</th>'
        f'<td>{frame.before:.1%}</td><td>{frame.after:.1%}</td>'
        f'<td class="{"better" if frame.difference > 0 else "worse"}">{points(frame.difference)}</td></tr>\n'
        for frame in found.most_changed(MOST_FRAMES)
    )
    head = ''.join(f'<th scope="col">{name}</th>' for name in ('Frame', 'Before', 'After', 'Points'))
    table = f'<table class="changes"><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>'
    about = "Difference of each frame's mIoU in percentage points; above 0 is better."
    return section('Frames', about, f'{chart}<h3>Changed most</h3>{table}')


def _places(found: Comparison) -> tuple[list[tuple[float, float]], list[tuple[str, int]]]:
    """Return where the frames lie in a chart, with their differences, and how many are of each recording."""
    places: list[tuple[float, float]] = []
    counts: dict[str, int] = {}
    first_ns: dict[str, int] = {}
    for number, frame in enumerate(found.frames, 1):
        start_ns = first_ns.setdefault(frame.recording, frame.stamp_ns)
        if not math.isnan(frame.difference):
            place = (frame.stamp_ns - start_ns) / 1e9 if found.consecutive else float(number)
            places.append((place, frame.difference))
            counts[frame.recording] = counts.get(frame.recording, 0) + 1
    return places, list(counts.items())


def _link(name: str, shown: Mapping[str, int]) -> str:
    """Name a frame; where there is a picture of it, lead there."""
    return f'<a href="#changed-{shown[name]}">{escape(name)}</a>' if name in shown else escape(name)


def _pictures(frames: Sequence[ChangedFrame], labels: LabelSet) -> str:
    figures = []
    for rank, frame in enumerate(frames, 1):
        shown = [
            ('Image', frame.image),
            ('Truth', paint_label(frame.truth, labels)),
            ('Before', paint_label(frame.before, labels)),
            ('After', paint_label(frame.after, labels)),
            ('What changed', _change(frame)),
        ]
        pictures = ''.join(
            f'<div>{picture(array, f"{what}, frame {frame.name}")}<p class="note">{what}</p></div>'
            for what, array in shown
        )
        figures.append(
            f'<figure class="worst" id="changed-{rank}" tabindex="-1"><figcaption>'
            f'<b>{rank}. {escape(frame.name)}</b>: mIoU {frame.before_miou:.1%} to {frame.after_miou:.1%}, '
            f'{points(frame.after_miou - frame.before_miou)} points</figcaption>'
            f'<div class="five">{pictures}</div></figure>'
        )
    key = ''.join(
        '<li><span class="swatch" style="background:rgb({},{},{})"></span>'.format(*color)
        + f'{escape(name)}</li>'
        for name, color in zip((*labels.names, 'no truth'), (*labels.colors, (0, 0, 0)))
    )
    about = (
        'Those whose mIoU changed most. What changed: blue was wrong and is right, orange was right and is '
        'wrong, dark is wrong in both, grey has no truth. Select a picture to enlarge it.'
    )
    content = f'<ul class="key">{key}</ul>' + '\n'.join(figures)
    return section('Frames that changed most', about, content) if figures else ''


def _change(frame: ChangedFrame) -> npt.NDArray[np.uint8]:
    """Show where the labels went right or wrong over a faint image."""
    gray = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    shown = np.broadcast_to(0.25 * gray + 0.75 * 236, frame.image.shape).copy()
    was, now = frame.before == frame.truth, frame.after == frame.truth
    shown[~was & ~now] = WRONG
    shown[~was & now] = MENDED
    shown[was & ~now] = BROKEN
    shown[frame.truth == UNLABELLED] = IGNORED
    return shown.astype(np.uint8)


def _both(conditions: tuple[Mapping[str, str], Mapping[str, str]]) -> dict[str, str]:
    before, after = map(shortened, conditions)
    found = {}
    for name in dict.fromkeys((*before, *after)):
        values = before.get(name, 'not said'), after.get(name, 'not said')
        found[name] = values[0] if values[0] == values[1] else f'{values[0]} → {values[1]}'
    return found


def _interval(change: Change) -> str:
    return 'no interval' if change.low is None else f'{points(change.low)} to {points(change.high)}'


def _percent(value: float | None) -> str:
    return 'absent' if value is None else f'{value:.1%}'
