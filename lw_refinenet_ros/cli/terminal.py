# SPDX-License-Identifier: Apache-2.0
"""Terminal output: control characters in names are made harmless, and progress fits on one line."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TextIO

from lw_refinenet_ros.one_line import printable

__all__ = ['Harmless', 'Progress', 'color', 'control', 'shows_color']

REDRAW_S = 0.2  # on a terminal
LINE_S = 10.0  # in a log


class Harmless:
    """A text stream that replaces all but printable characters and line breaks by U+FFFD.

    Args:
        stream: the stream to write to.

    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write text; characters that the stream cannot encode become question marks."""
        text = '\n'.join('\t'.join(map(printable, line.split('\t'))) for line in text.split('\n'))
        encoding = self.stream.encoding or 'utf-8'
        return self.stream.write(text.encode(encoding, 'replace').decode(encoding))

    def writelines(self, lines: list[str]) -> None:
        """Write lines one by one."""
        for line in lines:
            self.write(line)


def control(stream: TextIO, sequence: str) -> None:
    """Write a control sequence if the stream is a terminal."""
    if stream.isatty():
        getattr(stream, 'stream', stream).write(sequence)


def shows_color(stream: TextIO) -> bool:
    """Return whether the stream is a terminal, and NO_COLOR does not ask for none."""
    return stream.isatty() and not os.environ.get('NO_COLOR')


def color(stream: TextIO, *codes: int) -> None:
    """Set colours, or without codes the default ones, where colours are shown."""
    if shows_color(stream):
        control(stream, f'\x1b[{";".join(map(str, codes))}m')


class Progress:
    """The progress of a long task on standard error: one line on a terminal, occasional lines in a log."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what, self._total = what, total
        self._started = self._shown = time.monotonic()
        self._ended = False
        self._terminal = sys.stderr.isatty()

    def leave_out(self, seconds: float) -> None:
        """Exclude seconds of standstill from the estimate of the remaining time."""
        self._started += seconds

    def show_of(self, done: int, total: int | None) -> None:
        """Show that `done` of `total` are done, if the total is known only now."""
        self._total = total
        self.show(done)

    def show(self, done: int, note: str = '') -> None:
        """Show that `done` of the total are done."""
        now = time.monotonic()
        if self._ended:
            return
        last = self._ended = self._total is not None and done >= self._total
        if now - self._shown < (REDRAW_S if self._terminal else LINE_S) and not last:
            return
        self._shown = now
        left = ''
        if self._total and 0 < done < self._total:
            left = f', {(now - self._started) / done * (self._total - done):.0f} s left'
        of = f'/{self._total}' if self._total is not None else ''
        figures = f' {done}{of}{left}{note}'
        control(sys.stderr, '\r\x1b[K')
        end = '\n' if last or not self._terminal else ''
        print(self._fitting(figures) + figures, end=end, file=sys.stderr)
        sys.stderr.flush()

    def _fitting(self, figures: str) -> str:
        """Return the task's name, shortened in the middle to fit the terminal's width."""
        if not self._terminal:
            return self._what
        room = max(os.get_terminal_size(sys.stderr.fileno()).columns - 1 - len(figures), 8)
        if len(self._what) <= room:
            return self._what
        return f'{self._what[: (room - 3) // 2]}...{self._what[len(self._what) - (room - 2) // 2 :]}'
