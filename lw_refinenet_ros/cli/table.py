# SPDX-License-Identifier: Apache-2.0
"""Tables on standard output: aligned columns, which fold on a terminal that is too narrow for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from textwrap import wrap

from lw_refinenet_ros.cli.terminal import color, columns, shortened

__all__ = ['Colored', 'layout', 'print_table']

GAP = 2  # spaces between columns
INDENT = 4  # of text below its row
LEAST_TEXT = 20  # columns for text beside others; with fewer it goes below its row
LEAST_NAME = 8  # columns of the first cell if it is shortened


class Colored(str):
    """Text with the codes of its colours, as `terminal.color` takes them."""

    codes: tuple[int, ...]

    def __new__(cls, text: str, *codes: int) -> Colored:
        """Add the codes to text."""
        colored = super().__new__(cls, text)
        colored.codes = codes
        return colored


def print_table(rows: Sequence[Sequence[str]], align: str) -> None:
    """Print rows of cells.

    Args:
        rows: of equal length; the first cell names the row.
        align: for each column '<' left or '>' right; 'w' for the last: text that is wrapped.
    """
    for line in layout(rows, align, columns(sys.stdout) if sys.stdout.isatty() else None):
        for piece in line:
            if isinstance(piece, Colored):
                color(sys.stdout, *piece.codes)
                print(piece, end='')
                color(sys.stdout)
            else:
                print(piece, end='')
        print()


def layout(rows: Sequence[Sequence[str]], align: str, width: int | None = None) -> Iterator[list[str]]:
    """Yield the lines of a table, each as the pieces of which it is made.

    In a width that is too small the columns follow each other in several tables, each with the first column.
    """
    room = width or sys.maxsize
    sizes = [max(map(len, column)) for column in zip(*rows)]
    texts = align.endswith('w')
    if len(sizes) - texts > 1 and sum(sizes) + GAP * (len(sizes) - 1) > room:
        sizes[0] = min(sizes[0], max(LEAST_NAME, room // 2))
    parts = [[0]]
    for index in range(1, len(sizes) - texts):
        if len(parts[-1]) > 1 and sum(sizes[i] + GAP for i in parts[-1]) + sizes[index] > room:
            parts.append([0])
        parts[-1].append(index)
    for part in parts:
        start = sum(sizes[i] + GAP for i in part)
        below = texts and room - start < min(LEAST_TEXT, sizes[-1])
        start = INDENT if below else start
        for row in rows:
            line = [piece for i in part for piece in _cell(row[i], align[i], sizes[i])]
            text = _wrapped(row[-1], room - start) if texts and part is parts[-1] else []
            if text and not below:
                line.append(text.pop(0))
            while line and not (isinstance(line[-1], Colored) or line[-1].strip()):
                line.pop()
            if line or not text:
                yield line
            yield from ([' ' * start, rest] for rest in text)


def _cell(text: str, align: str, size: int) -> tuple[str, ...]:
    text = shortened(text, size)
    space, gap = ' ' * (size - len(text)), ' ' * GAP
    return (space, text, gap) if align == '>' else (text, space + gap)


def _wrapped(text: str, width: int) -> list[str]:
    """Return the lines of text; paths and names stay whole, to be copied."""
    return wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False)
