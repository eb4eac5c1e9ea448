# SPDX-License-Identifier: Apache-2.0
"""What the reports of a live run, an evaluation and a comparison have in common."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.provenance import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ['conditions_section', 'header', 'picture', 'section', 'tiles']

WIDEST = 1280  # pixels; larger pictures only make the file heavy
JPEG_QUALITY = 88


def header(title: str, verdict: str, made_with: str = '') -> str:
    """Begin a report: what was run, in one sentence what it gave, and in short what it was made with."""
    note = f'<p class="note">{escape(made_with)}</p>' if made_with else ''
    return f'<header><h1>{escape(title)}</h1><p class="verdict">{escape(verdict)}</p>{note}</header>'


def section(heading: str, about: str, content: str) -> str:
    """Frame HTML under a heading and a sentence (HTML both)."""
    return f'<section><h2>{heading}</h2><p class="about">{about}</p>\n{content}\n</section>'


def tiles(rows: Sequence[tuple[str, str, str]]) -> str:
    """Show label, value and note of each row."""
    shown = [
        f'<div><dt>{escape(label)}</dt><dd class="value">{escape(value)}</dd>'
        f'<dd class="note">{escape(note)}</dd></div>'
        for label, value, note in rows
    ]
    lines = -(-len(shown) // 5)
    return (
        f'<dl class="tiles" style="--columns:{-(-len(shown) // lines)}">{"".join(shown)}</dl>'
        if shown
        else ''
    )


def picture(image: npt.NDArray[np.uint8], alt: str) -> str:
    """Show uint8 (H, W, 3) RGB as a JPEG that a click enlarges."""
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


def conditions_section(conditions: Mapping[str, str]) -> str:
    """List what a run was made with; nothing for nothing."""
    rows = ''.join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n'
        for name, value in shortened(conditions).items()
    )
    head = '<tr><th scope="col">Condition</th><th scope="col">Value</th></tr>'
    table = f'<table class="conditions"><thead>{head}</thead><tbody>\n{rows}</tbody></table>'
    return section('Conditions', 'What the run was made with.', table) if conditions else ''
