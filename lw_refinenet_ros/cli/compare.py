# SPDX-License-Identifier: Apache-2.0
"""Compare evaluations, or two weights on one bag: what improved, what got worse, how certain that is.

More than two evaluations become one table, the best first.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.options import (
    Progress,
    UsageError,
    add_engine_arguments,
    add_groups_argument,
    add_mask_arguments,
    add_network_size_arguments,
    check_mask_arguments,
    label_set,
    load_segmenter,
    mask_map,
    number,
    warn_of_predictions,
)
from lw_refinenet_ros.cli.outputs import JSON, RANKING, REPORT, Declared, Output
from lw_refinenet_ros.cli.table import print_table
from lw_refinenet_ros.one_line import counted

if TYPE_CHECKING:
    from lw_refinenet_ros.evaluation.side_by_side import ChangedFrame
    from lw_refinenet_ros.labels import LabelSet

__all__ = ['add_arguments', 'outputs', 'run']

MOST_FRAMES = 5
PICTURES = 8  # frames shown in the report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # Not one list: of that, argparse takes only what comes without an option in between
    parser.add_argument('before', metavar='A', help='JSON file of evaluate; with --bag or --images, weights')
    parser.add_argument('after', metavar='B', help='the same, to compare with A')
    parser.add_argument('others', nargs='*', metavar='C', help='further JSON files, to rank all')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--bag', type=Path, metavar='BAG', help='compare two weights on this bag')
    source.add_argument('--images', type=Path, metavar='DIR', help='compare two weights on this folder')
    add_mask_arguments(parser, required=False)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the comparison to this file')
    parser.add_argument('--csv', type=Path, metavar='FILE', help='write a row per run to this file')
    parser.add_argument(
        '--report', type=Path, metavar='FILE.html', help='write a report of two runs to this file'
    )
    parser.add_argument(
        '--block',
        type=number(float, 0),
        default=0.0,
        metavar='S',
        help='resample blocks of S seconds, because video frames resemble their neighbours (default: 0)',
    )
    parser.add_argument(
        '--keep-going', action='store_true', help='exit with 0 even if some of the input could not be used'
    )
    add_engine_arguments(parser, weights=False)
    add_groups_argument(parser)
    add_network_size_arguments(parser)


def outputs(options: argparse.Namespace) -> Declared:
    written = [Output('--json', options.json, JSON), Output('--report', options.report, REPORT)]
    written.append(Output('--csv', options.csv, RANKING))
    read = (options.bag, options.images, options.labels, options.map, options.class_groups)
    return written, [*_runs(options), *read]


def run(options: argparse.Namespace) -> None:
    """Compare, print and save."""
    from lw_refinenet_ros.evaluation.common_frames import read_evaluation

    _check(options)
    pictures: Sequence[ChangedFrame] = ()
    labels: LabelSet | None = None
    problems: list[str] = []
    if options.bag or options.images:
        evaluations, pictures, labels, problems = _evaluate(options)
    else:
        evaluations = [read_evaluation(Path(run)) for run in _runs(options)]
    if len(evaluations) > 2 or options.csv:
        _rank(options, evaluations)
    if len(evaluations) == 2:
        _compare(options, evaluations, pictures, labels)
    if problems:
        from lw_refinenet_ros.cli.evaluate import report_problems

        report_problems(len(problems), problems, fatal=not options.keep_going)


def _rank(options: argparse.Namespace, evaluations: Sequence[Mapping[str, Any]]) -> None:
    """Print any number of runs as one table, and save it."""
    from lw_refinenet_ros.evaluation.compare import points
    from lw_refinenet_ros.evaluation.ranking import rank
    from lw_refinenet_ros.evaluation.summary import percent
    from lw_refinenet_ros.files import write_csv, write_json

    ranking = rank(dict(zip(_runs(options), evaluations)), block_s=options.block)
    if options.csv:
        write_csv(options.csv, ranking.to_rows())
    if len(evaluations) == 2:
        return
    table = [['', 'mIoU', '95% interval', 'points', 'interval of points', 'latency', '']]
    for place, run in enumerate(ranking.runs, 1):
        own = '' if run.low is None else f'{percent(run.low)} to {percent(run.high)}'
        behind = [points(run.change.difference), '' if run.low is None else run.change.interval]
        latency = '' if run.latency_ms is None else f'{run.latency_ms:.1f} ms'
        verdict = 'best' if place == 1 else '' if run.is_worse else 'no significant difference'
        row = [f'{place}. {run.name}', percent(run.miou), own]
        table.append([*row, *(behind if place > 1 else ['', '']), latency, verdict])
    print_table(table, '<><><><')
    table = [['IoU, * is the best', *(f'{place}. ' for place in range(1, len(ranking.runs) + 1))]]
    for name in ranking.classes:
        ious = [run.per_class_iou[name] for run in ranking.runs]
        best = max(iou or 0 for iou in ious)
        table.append([name, *(f'{percent(iou)}{"*" if iou == best else " "}' for iou in ious)])
    print_table(table, '<' + '>' * len(ranking.runs))
    shared = counted(ranking.frames, 'frame', 'is', 'are')
    print(f'{shared} in all runs; {ranking.left_out} that are not were left out')
    if options.json:
        write_json(options.json, ranking.to_dict())


def _compare(
    options: argparse.Namespace,
    evaluations: Sequence[Mapping[str, Any]],
    pictures: Sequence[ChangedFrame],
    labels: LabelSet | None,
) -> None:
    """Print what changed between two runs, and save it."""
    from lw_refinenet_ros.evaluation.compare import compare, points
    from lw_refinenet_ros.evaluation.provenance import provenance
    from lw_refinenet_ros.evaluation.summary import percent
    from lw_refinenet_ros.files import write_json

    before, after = evaluations
    names = options.before, options.after
    comparison = compare(before, after, block_s=options.block)
    table = [['class', 'before', 'after', 'points', '95% interval', '']]
    for change in comparison.classes:
        interval = '' if change.low is None else change.interval
        row = [change.name, percent(change.before), percent(change.after), points(change.difference)]
        table.append([*row, interval, change.verdict])
    print_table(table, '<>>><<')
    table = [['changed most', 'before', 'after', 'points']]
    for frame in comparison.most_changed(MOST_FRAMES):
        table.append([frame.name, f'{frame.before:.1%}', f'{frame.after:.1%}', points(frame.difference)])
    print_table(table, '<>>>')
    for name, only in zip(names, (comparison.only_before, comparison.only_after)):
        if only:
            print(f'only in {name}: {counted(len(only), "frame")}, {", ".join(only[:3])}')
    conditions = before.get('conditions', {}), after.get('conditions', {})
    for when, name, made_with in zip(('before', 'after'), names, conditions):
        print(f'{when + ":":<8}{provenance(made_with) or name}')
    print(comparison.headline)
    if options.json:
        sides = zip(('before', 'after'), names, conditions)
        about = {when: {'name': name, 'conditions': made_with} for when, name, made_with in sides}
        write_json(options.json, {**comparison.to_dict(), **about})
    if options.report:
        from lw_refinenet_ros.evaluation.report.comparison import write_comparison_report

        write_comparison_report(options.report, comparison, names, conditions, pictures, labels)


def _runs(options: argparse.Namespace) -> list[str]:
    return [options.before, options.after, *options.others]


def _check(options: argparse.Namespace) -> None:
    """Refuse, before the work, options that would fail after it."""
    runs = _runs(options)
    if (len(runs) > 2 or options.csv) and len(set(runs)) < len(runs):
        raise UsageError(f'a run is named twice: {", ".join(runs)}')
    if len(runs) > 2 and (options.labels or options.report):
        what = '--report shows' if options.report else '--labels goes with'
        raise UsageError(f'{what} two runs, not {len(runs)}; --csv and --json take any number')
    of_weights = options.map or options.class_groups
    if bool(options.bag or options.images) != bool(options.labels) or (of_weights and not options.labels):
        raise UsageError(
            'comparing two weights needs --bag or --images, and --labels; two JSON files need neither'
        )
    if options.labels:
        check_mask_arguments(options)


def _evaluate(
    options: argparse.Namespace,
) -> tuple[list[dict[str, Any]], list[ChangedFrame], LabelSet, list[str]]:
    """Evaluate both weights; return two summaries, images, the classes, and what could not be used."""
    from lw_refinenet_ros.cli.environment import conditions
    from lw_refinenet_ros.evaluation.common_frames import check_same_classes
    from lw_refinenet_ros.evaluation.evaluate import segment_with
    from lw_refinenet_ros.evaluation.examples import BagExamples, FolderExamples
    from lw_refinenet_ros.evaluation.provenance import describe_segmenter
    from lw_refinenet_ros.evaluation.side_by_side import evaluate_both
    from lw_refinenet_ros.evaluation.summary import summarize

    masks = Path(options.labels) if Path(options.labels).is_dir() else options.labels
    mapping = mask_map(options, label_set(options.before), masks)
    examples = (
        FolderExamples.find(options.images, Path(options.labels))
        if options.images
        else BagExamples(options.bag, options.topic, masks, round(options.tolerance * 1e9))
    )
    warn_of_predictions([masks])
    segmenters = [
        load_segmenter(argparse.Namespace(**{**vars(options), 'weights': name})) for name in _runs(options)
    ]
    check_same_classes(*(segmenter.labels.names for segmenter in segmenters))
    labels = segmenters[1].labels
    before, after = segmenters
    first, second, pictures = evaluate_both(
        examples,
        segment_with(before),
        segment_with(after),
        labels,
        pictures=PICTURES if options.report else 0,
        progress=Progress('evaluated', examples.length and 2 * examples.length).show,
        masks=mapping,
    )
    problems = list(dict.fromkeys([*first.problems.first, *second.problems.first]))
    if problems and not (first.frames and second.frames):
        raise ValueError(f'no frame could be scored: {problems[0]}')
    made = conditions()
    summaries = []
    for name, segmenter, evaluation in zip(_runs(options), segmenters, (first, second)):
        about = {'source': evaluation.description, **describe_segmenter(segmenter, name), **made}
        if mapping:
            about['map'] = mapping.description
        summaries.append(summarize(evaluation, about))
    return summaries, pictures, labels, problems
