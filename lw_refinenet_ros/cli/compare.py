# SPDX-License-Identifier: Apache-2.0
"""Compare two evaluations, or two weights on one bag: what improved, what got worse, how certain that is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.options import (
    Progress,
    UsageError,
    add_engine_arguments,
    add_mask_arguments,
    check_mask_arguments,
    label_set,
    load_segmenter,
    mask_map,
    number,
)
from lw_refinenet_ros.cli.outputs import JSON, REPORT, Declared, Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lw_refinenet_ros.evaluation.side_by_side import ChangedFrame
    from lw_refinenet_ros.labels import LabelSet

__all__ = ['add_arguments', 'outputs', 'run']

MOST_FRAMES = 5
PICTURES = 8  # frames shown in the report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('before', metavar='A', help='JSON file of evaluate; with --bag or --images, weights')
    parser.add_argument('after', metavar='B', help='the same, to compare with A')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--bag', type=Path, metavar='BAG', help='compare two weights on this bag')
    source.add_argument('--images', type=Path, metavar='DIR', help='compare two weights on this folder')
    add_mask_arguments(parser, required=False)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the comparison to this file')
    parser.add_argument('--report', type=Path, metavar='FILE.html', help='write a report to this file')
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


def outputs(options: argparse.Namespace) -> Declared:
    """Declare the outputs and inputs."""
    written = [Output('--json', options.json, JSON), Output('--report', options.report, REPORT)]
    read = (options.before, options.after, options.bag, options.images, options.labels, options.map)
    return written, list(read)


def run(options: argparse.Namespace) -> None:
    """Compare, print and save."""
    from lw_refinenet_ros.evaluation.compare import compare, points, read_evaluation
    from lw_refinenet_ros.evaluation.provenance import provenance
    from lw_refinenet_ros.evaluation.summary import percent
    from lw_refinenet_ros.files import write_json

    _check(options)
    pictures: Sequence[ChangedFrame] = ()
    labels: LabelSet | None = None
    problems: list[str] = []
    if options.bag or options.images:
        before, after, pictures, labels, problems = _evaluate(options)
    else:
        before, after = read_evaluation(Path(options.before)), read_evaluation(Path(options.after))
    comparison = compare(before, after, block_s=options.block)
    print(f'  {"":<16}{"before":>9}{"after":>9}{"points":>9}  {"95% interval":<16}')
    for change in comparison.classes:
        values = f'{percent(change.before):>9}{percent(change.after):>9}'
        interval = '' if change.low is None else change.interval
        print(f'  {change.name:<16}{values}{points(change.difference):>9}  {interval:<16}  {change.verdict}')
    most_changed = comparison.most_changed(MOST_FRAMES)
    width = max(map(len, ('changed most', *(frame.name for frame in most_changed))))
    print(f'  {"changed most":<{width}}{"before":>9}{"after":>9}{"points":>9}')
    for frame in most_changed:
        values = f'{frame.before:9.1%}{frame.after:9.1%}{points(frame.difference):>9}'
        print(f'  {frame.name:<{width}}{values}')
    for name, names in ((options.before, comparison.only_before), (options.after, comparison.only_after)):
        if names:
            print(f'only in {name}: {len(names)} frames, {", ".join(names[:3])}')
    conditions = before.get('conditions', {}), after.get('conditions', {})
    names = options.before, options.after
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
    if problems:
        from lw_refinenet_ros.cli.evaluate import report_problems

        report_problems(len(problems), problems, fatal=not options.keep_going)


def _check(options: argparse.Namespace) -> None:
    """Refuse, before the work, options that would fail after it."""
    if bool(options.bag or options.images) != bool(options.labels) or (options.map and not options.labels):
        raise UsageError(
            'comparing two weights needs --bag or --images, and --labels; two JSON files need neither'
        )
    if options.labels:
        check_mask_arguments(options)


def _evaluate(
    options: argparse.Namespace,
) -> tuple[dict[str, Any], dict[str, Any], list[ChangedFrame], LabelSet, list[str]]:
    """Evaluate both weights; return two summaries, images, the classes, and what could not be used."""
    from lw_refinenet_ros.cli.environment import conditions
    from lw_refinenet_ros.evaluation.evaluate import segment_with
    from lw_refinenet_ros.evaluation.examples import BagExamples, FolderExamples
    from lw_refinenet_ros.evaluation.provenance import describe_segmenter
    from lw_refinenet_ros.evaluation.side_by_side import evaluate_both
    from lw_refinenet_ros.evaluation.summary import summarize

    masks = Path(options.labels) if Path(options.labels).is_dir() else options.labels
    meet = mask_map(options, label_set(options.before), masks)
    examples = (
        FolderExamples.find(options.images, Path(options.labels))
        if options.images
        else BagExamples(options.bag, options.topic, masks, round(options.tolerance * 1e9))
    )
    segmenters = [
        load_segmenter(argparse.Namespace(**{**vars(options), 'weights': name}))
        for name in (options.before, options.after)
    ]
    ours, theirs = (segmenter.labels.names for segmenter in segmenters)
    if ours != theirs:
        raise ValueError(
            f'the classes differ and cannot be compared: {", ".join(ours)}; and {", ".join(theirs)}'
        )
    labels = segmenters[1].labels
    before, after = segmenters
    first, second, pictures = evaluate_both(
        examples,
        segment_with(before),
        segment_with(after),
        labels,
        pictures=PICTURES if options.report else 0,
        progress=Progress('evaluated', examples.length and 2 * examples.length).show,
        masks=meet,
    )
    made = conditions()
    summaries = []
    for name, segmenter, evaluation in ((options.before, before, first), (options.after, after, second)):
        about = {'source': evaluation.description, **describe_segmenter(segmenter, name), **made}
        if meet:
            about['map'] = meet.description
        summaries.append(summarize(evaluation, about))
    problems = list(dict.fromkeys([*first.problems.first, *second.problems.first]))
    return summaries[0], summaries[1], pictures, labels, problems
