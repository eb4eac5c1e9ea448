# SPDX-License-Identifier: Apache-2.0
"""The report of a run: one HTML file for a wiki, a phone, or a mail."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from lw_refinenet_ros.evaluation.charts import age_chart, age_histogram
from lw_refinenet_ros.evaluation.files import write_text
from lw_refinenet_ros.evaluation.page import page
from lw_refinenet_ros.evaluation.parts import conditions_section, header, picture, section, tiles
from lw_refinenet_ros.labels import UNLABELLED, LabelSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

__all__ = ['LegendEntry', 'Sample', 'legend_entries', 'write_report']


@dataclass(frozen=True)
class Sample:
    """A frame and its overlay, uint8 (H, W, 3) RGB, under a caption such as 't = 3.20 s'."""

    image: npt.NDArray[np.uint8]
    overlay: npt.NDArray[np.uint8]
    caption: str


@dataclass(frozen=True)
class LegendEntry:
    """A class, its colour (RGB, 0-255), and its share of the pixels as a fraction of 1."""

    name: str
    color: tuple[int, int, int]
    share: float


def legend_entries(labels: LabelSet, pixels: npt.NDArray[np.int64]) -> list[LegendEntry]:
    """Give an entry per class, and one for 'unlabelled' where there are such pixels.

    Args:
        labels: names and colours.
        pixels: number of pixels by id, (256,), as np.bincount(label.ravel(), minlength=256) counts them.

    """
    total = max(int(pixels.sum()), 1)
    entries = [
        LegendEntry(name, color, int(pixels[i]) / total)
        for i, (name, color) in enumerate(zip(labels.names, labels.colors))
    ]
    if pixels[UNLABELLED]:
        entries.append(LegendEntry('unlabelled', (0, 0, 0), int(pixels[UNLABELLED]) / total))
    return entries


def write_report(
    path: str | Path,
    *,
    title: str,
    subtitle: str,
    summary_rows: Sequence[tuple[str, str, str]],
    conditions: Mapping[str, str],
    samples: Sequence[Sample],
    legend: Sequence[LegendEntry],
    ages: Sequence[tuple[float, float]],
    misses: Sequence[tuple[float, str]],
) -> None:
    """Write a self-contained HTML file: style, script, charts and pictures are inside.

    Args:
        path: the file; it appears whole or not at all.
        title: what was run.
        subtitle: the verdict, one sentence.
        summary_rows: label, value and note of each tile.
        conditions: what the run was made with.
        samples: frames to look at.
        legend: classes; shown by share, those that were not seen by name only.
        ages: time in s and age in ms of each result.
        misses: time in s and fate of each frame that got no result.

    """
    body = [
        header(title, subtitle),
        tiles(summary_rows),
        _samples(samples),
        _legend(legend),
        _ages(ages, misses),
        conditions_section(conditions),
    ]
    write_text(path, page(title, '\n'.join(part for part in body if part)))


def _samples(samples: Sequence[Sample]) -> str:
    figures = [
        f'<figure><div class="pair">{picture(s.image, f"Camera frame, {s.caption}")}'
        f'{picture(s.overlay, f"Segmentation of the frame, {s.caption}")}</div>'
        f'<figcaption>{escape(s.caption)}</figcaption></figure>'
        for s in samples
    ]
    about = 'A frame, and the same frame with its classes laid over it. Select a picture to enlarge it.'
    return section('Sample frames', about, '\n'.join(figures)) if figures else ''


def _legend(legend: Sequence[LegendEntry]) -> str:
    seen = sorted((e for e in legend if e.share > 0), key=lambda e: e.share, reverse=True)
    if not legend:
        return ''
    rows = []
    for entry in seen:
        color = 'background:rgb({},{},{})'.format(*entry.color)
        width = 100 * entry.share / seen[0].share
        rows.append(
            f'<tr><th scope="row"><span class="swatch" style="{color}"></span>{escape(entry.name)}</th>'
            f'<td class="share">{_percent(entry.share)}</td>'
            f'<td><span class="share-bar" style="{color};width:{width:.1f}%"></span></td></tr>'
        )
    head = '<tr><th scope="col">Class</th><th scope="col" colspan="2">Share of pixels</th></tr>'
    unseen = ', '.join(escape(e.name) for e in legend if e.share <= 0)
    table = (
        f'<table class="legend"><thead>{head}</thead><tbody>\n{"".join(rows)}\n</tbody></table>'
        if rows
        else ''
    )
    note = f'<p class="note">Not seen: {unseen}</p>' if unseen else ''
    return section(
        'Classes',
        'Of all pixels of all results. The overlays leave unlabelled pixels as they are.',
        table + note,
    )


def _percent(share: float) -> str:
    return '&lt; 0.1%' if share < 0.001 else f'{share:.1%}'


def _ages(ages: Sequence[tuple[float, float]], misses: Sequence[tuple[float, str]]) -> str:
    content = (
        f'<h3>Age over time</h3>{age_chart(ages, misses)}'
        f'<h3>Distribution of ages</h3>{age_histogram([age_ms for _, age_ms in ages])}'
    )
    about = 'How old each result was when it arrived. A frame without a result is marked above the chart.'
    return section('Age of the results', about, content)
