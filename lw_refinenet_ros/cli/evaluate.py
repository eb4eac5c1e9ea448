# SPDX-License-Identifier: Apache-2.0
"""Score weights on a bag or a folder with masks: mIoU and more, per class and frame, and latency."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.options import NODE, Progress, add_engine_arguments, load_segmenter

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from lw_refinenet_ros.evaluation.evaluate import Evaluation, Labelled
    from lw_refinenet_ros.evaluation.examples import BagExamples, Example, Examples, FolderExamples
    from lw_refinenet_ros.image.labels import LabelSet
    from lw_refinenet_ros.inference.segmenter import Segmenter
    from lw_refinenet_ros.sources.bag_writer import BagWriter

__all__ = ['add_arguments', 'run', 'score']

WORST = 8  # frames shown in the report
OVERLAY_ALPHA = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--images', type=Path, metavar='DIR', help='folder of images')
    source.add_argument('--bag', type=Path, metavar='BAG', help='rosbag2 (sqlite3, mcap) or ROS 1 bag')
    parser.add_argument(
        '--labels',
        required=True,
        metavar='DIR|TOPIC',
        help='folder of masks (NAME.png, for a bag STAMP_NS.png) or the topic of mono8 masks in the bag',
    )
    parser.add_argument('--topic', help="the bag's image topic (default: the only one)")
    parser.add_argument(
        '--tolerance',
        type=float,
        default=0.01,
        metavar='S',
        help='how far apart the stamps of a frame and its mask may be (default: 0.01)',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the metrics there')
    parser.add_argument('--report', type=Path, metavar='FILE.html', help='write a report with pictures there')
    parser.add_argument(
        '--output-bag', type=Path, metavar='FILE.mcap', help='write labels, overlays and confidence there'
    )
    parser.add_argument(
        '--keep-going', action='store_true', help='exit 0 even if some of the input could not be used'
    )
    parser.add_argument(
        '--live', action='store_true', help='play the bag through the node over DDS and score what arrives'
    )
    parser.add_argument(
        '--rate', type=float, default=1.0, help='speed of --live; 2 is twice as fast (default: 1)'
    )
    add_engine_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Score, print and save."""
    from lw_refinenet_ros.cli.conditions import conditions
    from lw_refinenet_ros.evaluation.evaluation_report import write_evaluation_report
    from lw_refinenet_ros.evaluation.examples import BagExamples
    from lw_refinenet_ros.evaluation.files import write_json
    from lw_refinenet_ros.evaluation.live import ages, live_figures, misses
    from lw_refinenet_ros.evaluation.summary import evaluation_headline, evaluation_rows, evaluation_summary

    _check_outputs(options)
    examples = _examples(options)
    worst = WORST if options.report else 0
    if options.live:
        from lw_refinenet_ros.cli.evaluate_live import evaluate_live

        assert isinstance(examples, BagExamples), 'checked above'
        found, made_with, live = evaluate_live(options, examples, worst)
    else:
        found, made_with = _evaluate_here(options, examples, worst)
        live = None
    if not found.frames:
        msg = f'no frame could be scored: {"; ".join(found.problems.first[:1]) or "no label arrived"}'
        raise ValueError(msg)
    summary = evaluation_summary(
        found, {'source': examples.description, **made_with, **conditions()}, live_figures(live)
    )
    if options.json:
        write_json(options.json, summary)
    if options.report:
        write_evaluation_report(
            options.report, found, summary, ages(live) if live else (), misses(live) if live else ()
        )
    for row in _class_rows(summary):
        print(row)
    for name, value, note in evaluation_rows(summary):
        print(f'  {name:<18}{value:>10}  {note}')
    print(evaluation_headline(summary))
    _tell(found.problems.count, found.problems.first, fatal=not options.keep_going)


def _check_outputs(options: argparse.Namespace) -> None:
    """Refuse before the work what would fail after it."""
    if options.images and (options.topic or not Path(options.labels).is_dir()):
        msg = f'--images takes no --topic and a folder of --labels, which {options.labels!r} is not'
        raise ValueError(msg)
    if options.live and not (options.bag and options.rate > 0):
        msg = '--live needs a --bag and a --rate above 0'
        raise ValueError(msg)
    if options.tolerance < 0:
        msg = f'--tolerance {options.tolerance} must be 0 or more'
        raise ValueError(msg)
    for path in (options.json, options.report, options.output_bag):
        if path and not path.absolute().parent.is_dir():
            msg = f'{path} cannot be written: there is no folder {path.parent}'
            raise ValueError(msg)


def _examples(options: argparse.Namespace) -> BagExamples | FolderExamples:
    from lw_refinenet_ros.evaluation.examples import BagExamples, FolderExamples

    if options.images:
        return FolderExamples.find(options.images, Path(options.labels))
    labels = Path(options.labels) if Path(options.labels).is_dir() else str(options.labels)
    return BagExamples(options.bag, options.topic, labels, round(options.tolerance * 1e9))


def _evaluate_here(
    options: argparse.Namespace, examples: Examples, worst: int
) -> tuple[Evaluation, dict[str, str]]:
    """Segment in this process; give the evaluation and what it was made with."""
    from lw_refinenet_ros.evaluation.evaluate import evaluate, segment_with

    segmenter = load_segmenter(options)
    progress = Progress('evaluated', examples.length)
    with ExitStack() as stack:
        each = _recording(stack, options.output_bag, segmenter.labels)
        segment, labels = segment_with(segmenter), segmenter.labels
        found = evaluate(examples, segment, labels, worst=worst, each=each, progress=progress.show)
    return found, _engine(segmenter)


def _engine(segmenter: Segmenter) -> dict[str, str]:
    engine = segmenter.engine
    return {
        'weights': f'{segmenter.card.labels["name"]}, {segmenter.card.architecture}',
        'engine': engine.description,
        'precision': engine.precision,
        'device': engine.device,
    }


def _recording(
    stack: ExitStack, path: Path | None, labels: LabelSet
) -> Callable[[Example, Labelled], None] | None:
    """Open the output bag, if one is asked for, and give the function that writes a frame's results."""
    if path is None:
        return None
    from lw_refinenet_ros.sources.bag_writer import BagWriter

    writer = stack.enter_context(BagWriter(path, compress=True))

    def write(example: Example, result: Labelled) -> None:
        _write(writer, example, result, labels)

    return write


def _write(writer: BagWriter, example: Example, result: Labelled, labels: LabelSet) -> None:
    from lw_refinenet_ros.image.frame import Frame

    image, order = example.image
    overlay = labels.overlay(image, result.label, OVERLAY_ALPHA, order=order)
    arrays = [('label', result.label, 'mono8'), ('overlay', overlay, 'rgb8')]
    if result.confidence is not None:
        arrays.append(('confidence', result.confidence, 'mono8'))
    for output, array, encoding in arrays:
        frame = Frame.from_array(
            array, stamp_ns=example.stamp_ns, frame_id=example.frame_id, encoding=encoding
        )
        writer.write_image(f'{NODE}/{output}', frame)


def _class_rows(summary: dict[str, Any]) -> list[str]:
    columns = ('per_class_iou', 'per_class_precision', 'per_class_recall', 'per_class_boundary_f_score')
    rows = [f'  {"":<16}{"IoU":>10}{"precision":>10}{"recall":>10}{"boundary":>10}']
    for name in summary['classes']:
        values = [summary[column][name] for column in columns]
        shown = ''.join(f'{"absent" if v is None else f"{v:.1%}":>10}' for v in values)
        rows.append(f'  {name:<16}{shown}')
    return rows


def _tell(count: int, first: list[str], *, fatal: bool) -> None:
    """Say what could not be used, in one line."""
    if not count:
        return
    more = f' (and {count - 1} more: see the --json)' if count > 1 else ''
    text = f'{first[0]}{more}'
    if fatal:
        msg = f'{text}; the rest was scored, --keep-going makes this exit 0'
        raise ValueError(msg)
    print(f'left out: {text}', file=sys.stderr)


def score(segmenter: Segmenter, pairs: list[tuple[Path, Path]]) -> dict[str, Any]:
    """Segment every image and compare it with its mask; ratios are fractions of 1.

    Raises:
        ValueError: an image or a mask cannot be read, or they differ in size.

    """
    from lw_refinenet_ros.evaluation.evaluate import evaluate, segment_with
    from lw_refinenet_ros.evaluation.examples import FolderExamples
    from lw_refinenet_ros.evaluation.summary import core_metrics

    found = evaluate(
        FolderExamples(pairs),
        segment_with(segmenter, confidence=False),
        segmenter.labels,
        progress=Progress('scored', len(pairs)).show,
    )
    if found.problems.count:
        raise ValueError(found.problems.first[0])
    return core_metrics(found)
