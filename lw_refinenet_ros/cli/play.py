# SPDX-License-Identifier: Apache-2.0
"""Publish a bag, video, folder or camera as image topics in real time; space pauses."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lw_refinenet_ros.cli.interruption import forget
from lw_refinenet_ros.cli.options import Progress, UsageError, number
from lw_refinenet_ros.cli.outputs import LOG, Declared, Output
from lw_refinenet_ros.cli.terminal import complain, control
from lw_refinenet_ros.node.process.require_ros import require_ros

if TYPE_CHECKING:
    from lw_refinenet_ros.node.replay.player import Sent
    from lw_refinenet_ros.sources.source import SourceError

__all__ = ['UNREADABLE', 'add_arguments', 'outputs', 'run']

INTERRUPTED = 130
UNREADABLE = 'frames that could not be read:'  # with their number, when all others were played


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('source', metavar='SOURCE', help='bag, video, folder of images, image or camera:N')
    topics = parser.add_mutually_exclusive_group()
    topics.add_argument('--topic', help="the bag's image topic, if it has several")
    topics.add_argument('--topics', nargs='+', metavar='TOPIC', help='several image topics of the bag')
    parser.add_argument('--output-topic', help="topic to publish on (default: the bag's topic, else 'image')")
    parser.add_argument(
        '--remap',
        action='append',
        default=[],
        metavar='FROM:=TO',
        help='publish a topic under another name; repeatable',
    )
    parser.add_argument(
        '--rate',
        type=number(float, 0, above=True),
        default=1.0,
        help='playback speed; 2 is twice as fast (default: 1)',
    )
    parser.add_argument('--start', type=number(float, 0), default=0.0, metavar='S', help='skip S seconds')
    parser.add_argument('--compressed', action='store_true', help='publish JPEG on TOPIC/compressed')
    parser.add_argument('--loop', action='store_true', help='restart at the end')
    parser.add_argument('--clock', action='store_true', help="publish the frames' stamps on /clock")
    parser.add_argument('--wait-for-subscriber', action='store_true', help='start when there is a subscriber')
    parser.add_argument(
        '--others', action='store_true', help="publish the bag's camera_info, clouds and tf as well"
    )
    parser.add_argument('--exit-zero', action='store_true', help='exit with 0 when interrupted')
    parser.add_argument(
        '--log', type=Path, help='JSON lines with stamp_ns, due_ns, sent_ns, refused of every frame'
    )


def outputs(options: argparse.Namespace) -> Declared:
    return [Output('--log', options.log, LOG)], [options.source]


def run(options: argparse.Namespace) -> int:
    """Play until the end or an interrupt; unreadable frames are reported and skipped."""
    try:
        status = _play(options)
    except KeyboardInterrupt:
        if not options.exit_zero:
            raise
        forget()
        return 0
    return 0 if status == INTERRUPTED and options.exit_zero else status


def _play(options: argparse.Namespace) -> int:
    topics: list[str | None] = options.topics or [options.topic]
    if len(topics) > 1 and options.output_topic:
        raise UsageError('--output-topic names one topic: use --remap FROM:=TO for each of several')
    from lw_refinenet_ros.files import naming
    from lw_refinenet_ros.sources.opening import open_source
    from lw_refinenet_ros.sources.other_topics import OtherTopics

    problems: set[str] = set()

    def report(error: SourceError) -> None:
        text = str(error)
        if text not in problems:  # a loop meets it repeatedly
            problems.add(text)
            complain(text)

    with ExitStack() as stack:
        sources = [
            stack.enter_context(open_source(options.source, topic=topic, on_error=report, results=True))
            for topic in topics
        ]
        names = [options.output_topic or source.topic.removesuffix('/compressed') for source in sources]
        names = _remapped(names, options.remap)
        others = stack.enter_context(OtherTopics(Path(options.source))) if options.others else None
        # Only now, so that a bad source is reported even where ROS is missing.
        require_ros()
        from lw_refinenet_ros.node.replay.player import Playing, Track, play

        log = None
        if options.log:
            stack.enter_context(naming(options.log))
            log = stack.enter_context(options.log.open('w'))
        lengths = [source.length for source in sources]
        endless = options.loop or options.start or None in lengths
        shown = _Shown(None if endless else sum(filter(None, lengths)), log, _space(stack))
        hint = '; space pauses' if shown.pressed else ''
        published = [f'{name}/compressed' for name in names] if options.compressed else names
        print(f'{sources[0].description}: publishes {", ".join(published)}{hint}', flush=True)
        how = Playing(
            rate=options.rate,
            start_s=options.start,
            loop=options.loop,
            clock=options.clock,
            wait_for_subscriber=options.wait_for_subscriber,
            compressed=options.compressed,
        )
        tracks = [Track(source, name) for source, name in zip(sources, names)]
        if not play(tracks, how, shown.sent, shown.toggled, others):
            return INTERRUPTED
        shown.end()
        if problems:
            print(f'{UNREADABLE} {len(problems)}', flush=True)
        return 1 if problems else 0


class _Shown:
    """What the terminal and the log show of the frames, and whether space has paused them.

    Args:
        total: number of frames, if it is known.
        log: to write a JSON line for each frame into.
        pressed: tells whether space was pressed; None without a terminal to read.
    """

    def __init__(self, total: int | None, log: IO[str] | None, pressed: Callable[[], bool] | None) -> None:
        self.pressed = pressed
        self._total, self._log = total, log
        self._played = 0
        self._progress: Progress | None = None  # until the first frame, which may wait for a subscriber
        self._paused_at: float | None = None

    def sent(self, record: Sent) -> None:
        """Show and log a frame."""
        self._progress = self._progress or Progress('played', self._total)
        self._played += 1
        if self._log is not None:
            self._log.write(json.dumps(record._asdict()) + '\n')
        self._progress.show(self._played)

    def toggled(self) -> bool:
        """Return whether space was pressed since the last call: it pauses or resumes."""
        if self.pressed is None or not self.pressed():
            return False
        now = time.monotonic()
        control(sys.stderr, '\r\x1b[K')
        if self._paused_at is None:
            self._paused_at = now
            print('paused; press space to resume', file=sys.stderr)
        else:
            if self._progress:
                self._progress.leave_out(now - self._paused_at)
            self._paused_at = None
            print('resumed', file=sys.stderr)
        return True

    def end(self) -> None:
        """Show that all frames were played, if their number was unknown."""
        if self._progress:
            self._progress.show_of(self._played, self._played)


def _remapped(topics: list[str], rules: list[str]) -> list[str]:
    """Apply FROM:=TO rules, each of which must match a topic, to the names as they are before all of them."""
    names: dict[str, str] = {}
    for rule in rules:
        old, found, new = rule.partition(':=')
        if not (found and old and new):
            raise UsageError(f'--remap {rule!r} is not FROM:=TO')
        if old not in topics:
            raise ValueError(f'--remap {rule!r}: {old!r} is not played, only {", ".join(topics)}')
        names[old] = new
    return [names.get(topic, topic) for topic in topics]


def _space(stack: ExitStack) -> Callable[[], bool] | None:
    """Return a function that tells whether space was pressed; None without a terminal to read."""
    if not sys.stdin.isatty():
        return None
    file = sys.stdin.fileno()
    if os.getpgrp() != os.tcgetpgrp(file):  # in the background
        return None
    stack.callback(termios.tcsetattr, file, termios.TCSADRAIN, termios.tcgetattr(file))
    tty.setcbreak(file)

    def pressed() -> bool:
        return bool(select.select([file], [], [], 0)[0]) and os.read(file, 1) == b' '

    return pressed
