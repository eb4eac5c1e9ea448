# SPDX-License-Identifier: Apache-2.0
"""Compare two evaluations of the same frames: what got better, what worse, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ['add_arguments', 'run']

MOST_FRAMES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('before', type=Path, metavar='A.json', help='of evaluate --json')
    parser.add_argument('after', type=Path, metavar='B.json', help='the same for the other')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the comparison there')
    parser.add_argument('--report', type=Path, metavar='FILE.html', help='write a report there')
    parser.add_argument(
        '--block',
        type=float,
        default=0.0,
        metavar='S',
        help='draw blocks of frames of so many seconds: for videos, whose neighbours are alike (default: 0)',
    )


def run(options: argparse.Namespace) -> None:
    """Compare, print and save."""
    from lw_refinenet_ros.evaluation.compare import compare, read_evaluation
    from lw_refinenet_ros.evaluation.comparison_report import (
        comparison_headline,
        points,
        write_comparison_report,
    )
    from lw_refinenet_ros.evaluation.files import write_json

    if options.block < 0:
        msg = f'--block {options.block} must be 0 or more'
        raise ValueError(msg)
    before, after = read_evaluation(options.before), read_evaluation(options.after)
    found = compare(before, after, block_s=options.block)
    for change in found.classes:
        values = ''.join(
            f'{"absent" if value is None else f"{value:.1%}":>9}' for value in (change.before, change.after)
        )
        interval = '' if change.low is None else f'{points(change.low)} to {points(change.high)}'
        print(f'  {change.name:<16}{values}{points(change.difference):>9}  {interval:<16}  {change.verdict}')
    print('changed most:')
    for frame in found.most_changed(MOST_FRAMES):
        print(f'  {frame.name:<24}{frame.before:7.1%}{frame.after:9.1%}{points(frame.difference):>9}')
    for file, names in ((options.before, found.only_before), (options.after, found.only_after)):
        if names:
            print(f'only in {file}: {len(names)} frames, {", ".join(names[:3])}')
    print(comparison_headline(found))
    if options.json:
        write_json(options.json, found.to_dict())
    if options.report:
        write_comparison_report(
            options.report,
            found,
            (str(options.before), str(options.after)),
            (before.get('conditions', {}), after.get('conditions', {})),
        )
