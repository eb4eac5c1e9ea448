# SPDX-License-Identifier: Apache-2.0
"""Pages from templates: each one file, with its style, script, charts and pictures inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lw_refinenet_ros.evaluation.compare import points
from lw_refinenet_ros.evaluation.provenance import shortened
from lw_refinenet_ros.evaluation.summary import percent
from lw_refinenet_ros.files import write_text

__all__ = ['FOLDER', 'write_page']

FOLDER = Path(__file__).parent


def write_page(
    path: str | Path,
    template: str,
    *,
    title: str,
    verdict: str,
    tiles: Sequence[tuple[str, str, str]],
    conditions: Mapping[str, str],
    made_with: str = '',
    **values: Any,
) -> None:
    """Write a self-contained HTML file.

    Args:
        path: the file; it appears whole or not at all.
        template: its name without '.html.j2'. What is filled in is escaped, but for charts.
        title: of the page.
        verdict: the result in one sentence.
        tiles: label, value and note of each figure at the top.
        conditions: what the result was made with.
        made_with: the same in short.
        values: what else the template takes.
    """
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(percent=percent, points=points)
    style, script = (Markup((FOLDER / name).read_text('utf-8')) for name in ('report.css', 'report.js'))
    page = environment.get_template(f'{template}.html.j2').render(
        values,
        title=title,
        verdict=verdict,
        tiles=tiles,
        conditions=shortened(conditions),
        made_with=made_with,
        style=style,
        script=script,
    )
    write_text(path, page)
