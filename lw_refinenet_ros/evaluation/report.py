# SPDX-License-Identifier: Apache-2.0
"""The report of a run: one HTML file for a wiki, a phone, or a mail."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.charts import age_chart, age_histogram
from lw_refinenet_ros.evaluation.files import write_text
from lw_refinenet_ros.evaluation.page import page
from lw_refinenet_ros.image.labels import UNLABELLED, LabelSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ['LegendEntry', 'Sample', 'legend_entries', 'write_report']

WIDEST = 1280  # pixels; larger pictures only make the file heavy
JPEG_QUALITY = 88


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
        f'<header><h1>{escape(title)}</h1><p class="verdict">{escape(subtitle)}</p></header>',
        _tiles(summary_rows),
        _samples(samples),
        _legend(legend),
        _ages(ages, misses),
        _conditions(conditions),
    ]
    write_text(path, page(title, '\n'.join(part for part in body if part)))


def _section(heading: str, about: str, content: str) -> str:
    return f'<section><h2>{heading}</h2><p class="about">{about}</p>\n{content}\n</section>'


def _tiles(rows: Sequence[tuple[str, str, str]]) -> str:
    tiles = [
        f'<div><dt>{escape(label)}</dt><dd class="value">{escape(value)}</dd>'
        f'<dd class="note">{escape(note)}</dd></div>'
        for label, value, note in rows
    ]
    lines = -(-len(tiles) // 5)
    return (
        f'<dl class="tiles" style="--columns:{-(-len(tiles) // lines)}">{"".join(tiles)}</dl>'
        if tiles
        else ''
    )


def _samples(samples: Sequence[Sample]) -> str:
    figures = [
        f'<figure><div class="pair">{_picture(s.image, f"Camera frame, {s.caption}")}'
        f'{_picture(s.overlay, f"Segmentation of the frame, {s.caption}")}</div>'
        f'<figcaption>{escape(s.caption)}</figcaption></figure>'
        for s in samples
    ]
    about = 'A frame, and the same frame with its classes laid over it. Select a picture to enlarge it.'
    return _section('Sample frames', about, '\n'.join(figures)) if figures else ''


def _picture(image: npt.NDArray[np.uint8], alt: str) -> str:
    height, width = image.shape[:2]
    if width > WIDEST:
        height, width = round(height * WIDEST / width), WIDEST
    bgr = cv2.resize(np.ascontiguousarray(image[..., ::-1]), (width, height), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    data = base64.b64encode(jpeg.tobytes()).decode()
    return (
        f'<button class="zoom" type="button"><img src="data:image/jpeg;base64,{data}"'
        f' width="{width}" height="{height}" alt="{escape(alt)}"></button>'
    )


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
    return _section(
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
    return _section('Age of the results', about, content)


def _conditions(conditions: Mapping[str, str]) -> str:
    rows = ''.join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n'
        for name, value in conditions.items()
    )
    head = '<tr><th scope="col">Condition</th><th scope="col">Value</th></tr>'
    table = f'<table class="conditions"><thead>{head}</thead><tbody>\n{rows}</tbody></table>'
    return _section('Conditions', 'What the run was made with.', table) if conditions else ''
