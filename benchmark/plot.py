# SPDX-License-Identifier: Apache-2.0
"""Plot curves as SVG files to show beside their tables."""

from collections.abc import Sequence
from pathlib import Path

from lw_refinenet_ros.svg import Axis, Plot, drawing

__all__ = ['write_plot']

KINDS = ('', ' b', ' c')  # of lines, by colour


def write_plot(
    path: Path,
    title: str,
    names: tuple[str, str],
    curves: dict[str, Sequence[tuple[float, float, float]]],
) -> None:
    """Draw curves of (x, median, p95) with axes from zero; a bar extends from each median to its p95.

    Args:
        path: the SVG file.
        title: the title above the plot.
        names: of the axes x and y, with units.
        curves: the curves by name.
    """
    points = [point for curve in curves.values() for point in curve]
    plot = Plot(
        Axis(names[0], 0, 1.04 * max(p[0] for p in points)),
        Axis(names[1], 0, 1.08 * max(p[2] for p in points)),
    )
    for kind, curve in zip(KINDS, curves.values()):
        medians = [(x, median) for x, median, _ in curve]
        plot.line([medians, *([(x, median), (x, p95)] for x, median, p95 in curve)], f'line{kind}')
        plot.dots([medians], f'dot{kind}')
    legend = [(f'line{kind}', name) for kind, name in zip(KINDS, curves)] if len(curves) > 1 else []
    path.parent.mkdir(exist_ok=True)
    path.write_text(drawing(title, [plot], legend))
