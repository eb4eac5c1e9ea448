# SPDX-License-Identifier: Apache-2.0
"""Terminal output: control characters in names are made harmless, and progress fits on one line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, TextIO

from lw_refinenet_ros.one_line import printable

__all__ = [
    'SAID',
    'Harmless',
    'Progress',
    'color',
    'columns',
    'complain',
    'control',
    'print_more',
    'shortened',
    'shows_color',
]

REDRAW_S = 0.2  # on a terminal
LINE_S = 10.0  # in a log
DEFAULT_COLUMNS = 80  # of a terminal that does not say
SAID = 'lw_refinenet: '  # how a complaint begins


class Harmless:
    """A text stream that replaces all but printable characters and line breaks by U+FFFD.

    On a terminal, what is written takes the place of an unfinished line of progress.
    """

    in_progress = False  # a line of progress stands on the terminal

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write text; characters that the stream cannot encode become question marks."""
        if Harmless.in_progress and self.isatty():
            Harmless.in_progress = False
            self.stream.write('\r\x1b[K')
        text = '\n'.join('\t'.join(map(printable, line.split('\t'))) for line in text.split('\n'))
        encoding = self.stream.encoding or 'utf-8'
        with self._named():
            return self.stream.write(text.encode(encoding, 'replace').decode(encoding))

    def flush(self) -> None:
        """Write what is buffered."""
        with self._named():
            self.stream.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the stream in what fails to write to it, such as a full disk."""
        try:
            yield
        except OSError as error:
            error.filename = getattr(self.stream, 'name', None)
            raise

    def writelines(self, lines: list[str]) -> None:
        """Write lines one by one."""
        for line in lines:
            self.write(line)


def complain(text: str) -> None:
    """Print a complaint, which says whose it is."""
    print(f'{SAID}{text}', file=sys.stderr)


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


def columns(stream: TextIO) -> int:
    """Return the width of a terminal; COLUMNS overrides it."""
    given = os.environ.get('COLUMNS', '')
    if given.isdecimal() and int(given):
        return int(given)
    with suppress(OSError):
        return os.get_terminal_size(stream.fileno()).columns or DEFAULT_COLUMNS
    return DEFAULT_COLUMNS


def shortened(text: str, room: int) -> str:
    """Return text of at most `room` characters, and 8 or more, without its middle if it is longer."""
    room = max(room, 8)
    return text if len(text) <= room else f'{text[: (room - 3) // 2]}...{text[len(text) - (room - 2) // 2 :]}'


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

    def show(self, done: int) -> None:
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
        figures = f' {done}{of}{left}'
        end = '\n' if last or not self._terminal else ''
        what = shortened(self._what, columns(sys.stderr) - 1 - len(figures)) if self._terminal else self._what
        print(what + figures, end=end, file=sys.stderr)
        sys.stderr.flush()
        Harmless.in_progress = not end


def print_more(faults: Iterable[object]) -> None:
    """Print all faults but the first, which the command's last line will name, on stderr."""
    for fault in islice(faults, 1, None):
        print(fault, file=sys.stderr)
