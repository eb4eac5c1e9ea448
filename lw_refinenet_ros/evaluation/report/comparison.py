# SPDX-License-Identifier: Apache-2.0
"""The report of a comparison: what changed by class and by frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from lw_refinenet_ros.evaluation.compare import Comparison, points
from lw_refinenet_ros.evaluation.provenance import provenance, shortened
from lw_refinenet_ros.evaluation.report.charts import change_chart
from lw_refinenet_ros.evaluation.report.pictures import colors, pictures_of_change
from lw_refinenet_ros.evaluation.report.write import write_page
from lw_refinenet_ros.evaluation.side_by_side import ChangedFrame
from lw_refinenet_ros.evaluation.summary import percent
from lw_refinenet_ros.labels import LabelSet

__all__ = ['write_comparison_report']

MOST_FRAMES = 20


def write_comparison_report(
    path: str | Path,
    comparison: Comparison,
    names: tuple[str, str],
    conditions: tuple[Mapping[str, str], Mapping[str, str]],
    pictures: Sequence[ChangedFrame] = (),
    labels: LabelSet | None = None,
) -> None:
    """Write the page of a comparison of two evaluations, with pictures of frames if `labels` are given.

    Conditions that differ are shown side by side.
    """
    miou = comparison.miou
    before, after = (provenance(of) or name for of, name in zip(conditions, names))
    interval = comparison.too_few or f'95% interval {miou.interval}'
    only = f'only before {len(comparison.only_before)}, only after {len(comparison.only_after)}'
    verdict = comparison.too_few or 'A change is significant where the interval excludes 0'
    write_page(
        path,
        'comparison',
        title='Comparison',
        verdict=comparison.headline,
        tiles=[
            ('Mean IoU before', percent(miou.before), before),
            ('Mean IoU after', percent(miou.after), after),
            ('Difference', f'{points(miou.difference)} points', interval),
            ('Frames in both', str(len(comparison.frames)), only),
        ],
        conditions=_both(conditions),
        rule=verdict[0].upper() + verdict[1:],
        classes=sorted(comparison.classes, key=lambda change: change.difference or 0.0),
        chart=_chart(comparison),
        most_changed=comparison.most_changed(MOST_FRAMES),
        shown={frame.name: rank for rank, frame in enumerate(pictures, 1)},
        frames=[(frame, pictures_of_change(frame, labels)) for frame in pictures] if labels else [],
        colors=colors(labels) if labels else [],
    )


def _chart(comparison: Comparison) -> str:
    """Draw the difference of each frame, recording after recording."""
    places: list[tuple[float, float]] = []
    counts: dict[str, int] = {}
    first_ns: dict[str, int] = {}
    for number, frame in enumerate(comparison.frames, 1):
        start_ns = first_ns.setdefault(frame.recording, frame.stamp_ns)
        if not math.isnan(frame.difference):
            place = (frame.stamp_ns - start_ns) / 1e9 if comparison.consecutive else float(number)
            places.append((place, frame.difference))
            counts[frame.recording] = counts.get(frame.recording, 0) + 1
    return change_chart(places, list(counts.items()), by_time=comparison.consecutive)


def _both(conditions: tuple[Mapping[str, str], Mapping[str, str]]) -> dict[str, str]:
    """Return the conditions of both as one; where they differ, with an arrow."""
    before, after = map(shortened, conditions)
    both = {name: (before.get(name, 'unknown'), after.get(name, 'unknown')) for name in {**before, **after}}
    return {name: was if was == now else f'{was} → {now}' for name, (was, now) in both.items()}
