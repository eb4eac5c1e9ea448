# SPDX-License-Identifier: Apache-2.0
"""The report of a live run without masks, as `demo` writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.report.charts import age_chart, age_histogram
from lw_refinenet_ros.evaluation.report.pictures import Color, Picture
from lw_refinenet_ros.evaluation.report.write import write_page
from lw_refinenet_ros.labels import UNLABELLED, LabelSet

__all__ = ['LegendEntry', 'Sample', 'legend_entries', 'write_run_report']


@dataclass(frozen=True)
class Sample:
    """A frame and its overlay, uint8 (H, W, 3) RGB, under a caption such as 't = 3.20 s'."""

    image: npt.NDArray[np.uint8]
    overlay: npt.NDArray[np.uint8]
    caption: str


@dataclass(frozen=True)
class LegendEntry:
    """A class, its colour, and its share of the pixels as a fraction of 1."""

    name: str
    color: Color
    share: float


def legend_entries(labels: LabelSet, pixels: npt.NDArray[np.int64]) -> list[LegendEntry]:
    """Return an entry per class, and one for 'unlabelled' if it has any of the `pixels` by id, (256,)."""
    shares = (pixels / max(int(pixels.sum()), 1)).tolist()
    entries = [LegendEntry(*entry) for entry in zip(labels.names, labels.colors, shares)]
    if pixels[UNLABELLED]:
        entries.append(LegendEntry('unlabelled', (0, 0, 0), shares[UNLABELLED]))
    return entries


def write_run_report(
    path: str | Path,
    *,
    title: str,
    verdict: str,
    tiles: Sequence[tuple[str, str, str]],
    conditions: Mapping[str, str],
    samples: Sequence[Sample],
    legend: Sequence[LegendEntry],
    ages: Sequence[tuple[float, float]],
    misses: Sequence[tuple[float, str]],
) -> None:
    """Write the page of a run; `ages` and `misses` are of `live`, the first arguments as of `write_page`.

    Classes are shown by their share, those that were not seen by name only.
    """
    write_page(
        path,
        'run',
        title=title,
        verdict=verdict,
        tiles=tiles,
        conditions=conditions,
        samples=[
            (
                sample.caption,
                Picture.of(sample.image, f'Camera frame, {sample.caption}'),
                Picture.of(sample.overlay, f'Segmentation of the frame, {sample.caption}'),
            )
            for sample in samples
        ],
        legend=legend,
        seen=sorted((entry for entry in legend if entry.share > 0), key=lambda entry: -entry.share),
        unseen=[entry.name for entry in legend if entry.share <= 0],
        ages=age_chart(ages, misses),
        histogram=age_histogram([age_ms for _, age_ms in ages]),
    )
