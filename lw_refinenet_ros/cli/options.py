# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, and their progress line."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lw_refinenet_ros.inference.segmenter import Segmenter

__all__ = ['NODE', 'Progress', 'add_engine_arguments', 'add_mask_arguments', 'image_size', 'load_segmenter']

NODE = '/lw_refinenet'  # by default, whose topics the labels go to
REDRAW_S = 0.2  # on a terminal
LINE_S = 10.0  # in a log


def add_engine_arguments(parser: argparse.ArgumentParser, *, weights: bool = True) -> None:
    """Add what everything that runs a network takes; the defaults are `Segmenter.load`'s."""
    if weights:
        parser.add_argument('--weights', metavar='NAME|FILE', help='shipped name or file (default: camvid)')
    parser.add_argument('--device', help='auto, cuda or cpu (default: auto)')
    parser.add_argument('--engine', help='auto, torch or openvino (default: auto)')
    parser.add_argument('--precision', help='auto, fp32, bf16, fp16 or int8 (default: auto)')
    parser.add_argument('--threads', type=int, help='CPU threads; 0 is all cores (default: 0)')


def add_mask_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add what says which masks the frames of a bag or folder have."""
    parser.add_argument(
        '--labels',
        required=required,
        metavar='DIR|TOPIC',
        help='folder of masks (NAME.png, for a bag STAMP_NS.png, for several bags BAG/STAMP_NS.png) or the '
        'topic of mono8 masks in the bag',
    )
    parser.add_argument('--topic', help="the bag's image topic (default: the only one)")
    parser.add_argument(
        '--tolerance',
        type=float,
        default=0.01,
        metavar='S',
        help='how far apart the stamps of a frame and its mask may be (default: 0.01)',
    )


def given_engine_options(options: argparse.Namespace) -> dict[str, str | int]:
    """Give the engine options that the user set."""
    names = ('weights', 'device', 'engine', 'precision', 'threads')
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def load_segmenter(options: argparse.Namespace) -> Segmenter:
    """Load what the options name and say what was chosen."""
    from lw_refinenet_ros.inference.segmenter import Segmenter

    segmenter = Segmenter.load(**given_engine_options(options))  # type: ignore[arg-type]
    print(f'{segmenter.card.architecture} on {segmenter.engine.description}', file=sys.stderr)
    return segmenter


def image_size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT into (height, width)."""
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        msg = f'{text!r} is not WIDTHxHEIGHT, such as 640x480'
        raise argparse.ArgumentTypeError(msg)
    return int(height), int(width)


class Progress:
    """One line on standard error that shows how far a long work is; a line now and then in a log."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self._what, self._total = what, total
        self._started = self._shown = time.monotonic()
        self._ended = False
        self._terminal = sys.stderr.isatty()

    def show_of(self, done: int, total: int | None) -> None:
        """Show that `done` of so many are done, where the total becomes known on the way."""
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
        end = '\n' if last or not self._terminal else ''
        start = '\r\x1b[K' if self._terminal else ''
        print(f'{start}{self._what} {done}{of}{left}{note}', end=end, file=sys.stderr, flush=True)
