# SPDX-License-Identifier: Apache-2.0
"""Score weights on a bag or a folder with masks: mIoU and more, per class and frame, and latency."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.options import (
    Progress,
    UsageError,
    add_engine_arguments,
    add_groups_argument,
    add_ignore_mask_argument,
    add_mask_arguments,
    add_network_size_arguments,
    add_selection_arguments,
    check_mask_arguments,
    file_ending_in,
    number,
)
from lw_refinenet_ros.cli.outputs import BAG, JSON, RECORDING, REPORT, Declared, Output
from lw_refinenet_ros.cli.table import print_table
from lw_refinenet_ros.one_line import counted
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from lw_refinenet_ros.evaluation.evaluation import Evaluation
    from lw_refinenet_ros.inference.segmenter import Segmenter

__all__ = ['add_arguments', 'outputs', 'run', 'report_problems', 'score']

WORST = 8  # frames shown in the report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--images', type=Path, metavar='DIR', help='folder of images')
    source.add_argument(
        '--bag',
        type=Path,
        action='append',
        metavar='BAG',
        help='rosbag2 (sqlite3, mcap), ROS 1 bag or video; repeatable',
    )
    add_mask_arguments(parser, required=True)
    add_selection_arguments(parser, every='1')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the metrics to this file')
    parser.add_argument('--report', type=Path, metavar='FILE.html', help='write an HTML report to this file')
    parser.add_argument(
        '--output-bag',
        type=Path,
        metavar='FILE.mcap|DIR',
        help='write labels, overlays and confidence as a bag; with several bags, to DIR/BAG.mcap',
    )
    parser.add_argument(
        '--rerun',
        type=file_ending_in('.rrd'),
        metavar='FILE.rrd',
        help='write frames, truth and difference for the viewer Rerun',
    )
    parser.add_argument(
        '--keep-going', action='store_true', help='exit with 0 even if some of the input could not be used'
    )
    parser.add_argument(
        '--resume',
        type=Path,
        metavar='DIR',
        help='save checkpoints in this folder, so that the same command resumes after an interruption',
    )
    parser.add_argument(
        '--jobs',
        type=number(int, 1),
        metavar='N',
        help='number of bags to evaluate at once, each in its own process (default: 1)',
    )
    parser.add_argument(
        '--ray',
        metavar='ADDRESS|auto|local',
        help='evaluate the bags on the machines of a Ray cluster (pip install ray)',
    )
    parser.add_argument(
        '--corrupt',
        action='store_true',
        help='also score each frame with noise, blur, darkness, JPEG artefacts and fog in five strengths '
        '(26 times the work: consider --every)',
    )
    parser.add_argument('--live', action='store_true', help='play the bag to the node and score its labels')
    parser.add_argument(
        '--rate', type=number(float, 0, above=True), help='speed of --live; 2 is twice as fast (default: 1)'
    )
    add_engine_arguments(parser)
    add_groups_argument(parser)
    add_network_size_arguments(parser)
    add_ignore_mask_argument(parser)


def outputs(options: argparse.Namespace) -> Declared:
    written = [Output('--json', options.json, JSON), Output('--report', options.report, REPORT)]
    written.append(Output('--rerun', options.rerun, RECORDING))
    bags = options.bag or ()
    if options.output_bag and len(bags) > 1:
        from lw_refinenet_ros.cli.evaluate_recordings import names_of

        if options.output_bag.suffix == '.mcap':
            raise UsageError(f'--output-bag {options.output_bag}: with several bags, name a folder')
        files = [options.output_bag / f'{name}.mcap' for name in names_of(bags)]
    else:
        files = [options.output_bag]
    written += [Output('--output-bag', file, BAG) for file in files]
    read = (options.images, options.labels, options.map, options.class_groups, options.ignore_mask)
    return written, [*bags, *read, options.weights or DEFAULT_WEIGHTS]


def run(options: argparse.Namespace) -> None:
    """Evaluate, print and save."""
    from lw_refinenet_ros.cli.environment import conditions
    from lw_refinenet_ros.evaluation.provenance import provenance
    from lw_refinenet_ros.evaluation.summary import headline, rows, summarize
    from lw_refinenet_ros.files import write_json

    _check(options)
    worst = WORST if options.report else 0
    with ExitStack() as stack:
        if options.live:
            from lw_refinenet_ros.cli.evaluate_live import evaluate_live

            evaluation, made_with, live = evaluate_live(options, worst)
            parts: Mapping[str, Evaluation] = {}
        else:
            from lw_refinenet_ros.cli.evaluate_recordings import evaluate_recordings

            evaluation, made_with, parts = evaluate_recordings(options, worst, stack)
            live = None
        if not evaluation.frames:
            raise ValueError(
                f'no frame could be scored: {"; ".join(evaluation.problems.first[:1]) or "no label arrived"}'
            )
        if not evaluation.confusion.counts.any():
            raise ValueError(
                f'nothing could be scored: every pixel of {counted(len(evaluation.frames), "mask")} is 255, '
                'unlabelled'
            )
        made_with = {'source': evaluation.description, **made_with, **conditions()}
        summary = summarize(evaluation, made_with, live, parts)
        print_table(_class_rows(summary), '<>>>>')
        if 'robustness' in summary:
            print_table(_robustness_rows(summary), '<>>>>>>>')
        print_table(rows(summary), '<>w')
        for name, figures in summary.get('bags', {}).items():
            print(f'{name}: {headline(figures)}')
        print(provenance(summary['conditions']))
        print(headline(summary))
        if options.json:
            write_json(options.json, summary)
        if options.report:
            from lw_refinenet_ros.evaluation.report.evaluation import write_evaluation_report

            write_evaluation_report(options.report, evaluation, summary, live)
    report_problems(evaluation.problems.count, evaluation.problems.first, fatal=not options.keep_going)


def _check(options: argparse.Namespace) -> None:
    """Refuse, before the work, options that would fail after it."""
    several = options.bag and len(options.bag) > 1
    timed = options.start or options.end < math.inf
    if options.live and not options.bag:
        raise UsageError('--live needs a --bag')
    if options.rate is not None and not options.live:
        raise UsageError('--rate is the speed of --live: add --live')
    if options.live and (options.every or timed):
        raise UsageError('--every, --start and --end select frames to read; --live plays the whole bag')
    if options.images and timed:
        raise UsageError('--start and --end are times in a --bag; use --every with --images')
    if options.live and (several or options.resume or options.jobs or options.ray):
        raise UsageError('--live plays a single --bag, without --resume, --jobs and --ray')
    if options.rerun and (several or options.live or options.resume):
        raise UsageError('--rerun is for one --bag or --images, without --live and --resume')
    if options.live and options.corrupt:
        raise UsageError('--corrupt changes frames before they are segmented; --live plays the bag as it is')
    if (options.jobs or options.ray) and not options.bag:
        raise UsageError('--jobs and --ray are for bags: a folder of images is evaluated by one process')
    check_mask_arguments(options)


def _class_rows(summary: dict[str, Any]) -> list[list[str]]:
    from lw_refinenet_ros.evaluation.summary import percent

    columns = ('per_class_iou', 'per_class_precision', 'per_class_recall', 'per_class_boundary_f_score')
    classes = ([name, *(percent(summary[column][name]) for column in columns)] for name in summary['classes'])
    return [['class', 'IoU', 'precision', 'recall', 'boundary'], *classes]


def _robustness_rows(summary: dict[str, Any]) -> list[list[str]]:
    """Return mIoU by corruption and strength, and what is left on average."""
    from lw_refinenet_ros.evaluation.summary import percent

    rows = [['mIoU, corrupted', 'none', *'12345', 'mean']]
    for kind, figures in summary['robustness'].items():
        mious = figures['miou']
        rows.append([kind, *map(percent, (summary['miou'], *mious, sum(mious) / len(mious)))])
    return rows


def report_problems(count: int, first: list[str], *, fatal: bool) -> None:
    """Print what could not be used, in one line."""
    if not count:
        return
    more = f' (and {count - 1} more, which --json FILE lists)' if count > 1 else ''
    text = f'{first[0]}{more}'
    if fatal:
        raise ValueError(f'{text}; the rest was scored; use --keep-going to exit with 0')
    print(f'skipped: {text}', file=sys.stderr)


def score(segmenter: Segmenter, pairs: list[tuple[Path, Path]]) -> dict[str, Any]:
    """Segment every image and compare it with its mask; ratios are fractions of 1.

    Raises:
        ValueError: an image or a mask cannot be read, or they differ in size.
    """
    from lw_refinenet_ros.evaluation.evaluate import evaluate, segment_with
    from lw_refinenet_ros.evaluation.examples import FolderExamples
    from lw_refinenet_ros.evaluation.summary import core_metrics

    evaluation = evaluate(
        FolderExamples(pairs),
        segment_with(segmenter, confidence=False),
        segmenter.labels,
        progress=Progress('scored', len(pairs)).show,
    )
    if evaluation.problems.count:
        raise ValueError(evaluation.problems.first[0])
    return core_metrics(evaluation)
