# SPDX-License-Identifier: Apache-2.0
"""Extract frames of a recording with predicted masks, to correct in a labelling tool and to train on.

Masks are palette PNGs, read as class ids; --format adds COCO or labelme polygons. --from-coco and
--from-labelme convert the corrected polygons back to masks.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

from lw_refinenet_ros.cli.options import (
    Progress,
    UsageError,
    add_engine_arguments,
    add_groups_argument,
    add_selection_arguments,
    load_segmenter,
    number,
    path,
    source,
)
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lw_refinenet_ros.sources.source import SourceError
    from lw_refinenet_ros.training.drafting import Drafts
    from lw_refinenet_ros.training.label_folder import LabelFolder
    from lw_refinenet_ros.training.polygons import Mask

__all__ = ['add_arguments', 'run']

EVERY = 10
COCO_FILE = 'annotations.json'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument('source', type=source, nargs='?', metavar='BAG', help='bag, video, folder or camera:N')
    of.add_argument('--from-coco', type=path, metavar='FILE', help='convert a COCO file to masks')
    of.add_argument('--from-labelme', type=path, metavar='DIR', help="convert labelme's JSON files to masks")
    parser.add_argument(
        '--output',
        type=path,
        required=True,
        metavar='DIR',
        help='folder for images/, labels/, overlays/, classes.yaml',
    )
    parser.add_argument(
        '--classes',
        type=path,
        metavar='FILE',
        help='classes.yaml (default: in DIR or above it, else those of the weights or polygons)',
    )
    parser.add_argument(
        '--images', type=path, metavar='DIR', help='images of the polygons (default: images/ in --output)'
    )
    which = parser.add_argument_group('which frames')
    which.add_argument('--topic', help="the bag's image topic, if it has several")
    add_selection_arguments(which, every=str(EVERY))
    which.add_argument(
        '--different',
        type=number(float, 0, 1),
        metavar='D',
        help='take only frames unlike all taken before: the mean difference of their grey thumbnails '
        'exceeds D, of 1 (try 0.05; considers every frame, unless --every is given)',
    )
    which.add_argument('--limit', type=number(int, 1), metavar='N', help='take at most N frames')
    written = parser.add_argument_group('what is written')
    written.add_argument(
        '--min-confidence',
        type=number(float, 0, 1),
        default=0.0,
        metavar='C',
        help='leave pixels of lower confidence (0 to 1) unlabelled, 255 (default: 0)',
    )
    written.add_argument(
        '--format', choices=('masks', 'coco', 'labelme'), default='masks', help='also write polygons'
    )
    written.add_argument(
        '--simplify',
        type=number(float, 0),
        default=1.0,
        metavar='PIXELS',
        help='tolerance of the polygons; 0 keeps every pixel corner (default: 1)',
    )
    written.add_argument('--png', action='store_true', help='write PNG instead of JPEG of quality 95')
    add_engine_arguments(parser)
    add_groups_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Write a folder to correct, or convert corrected polygons to its masks."""
    from lw_refinenet_ros.cli.label_back import take_back
    from lw_refinenet_ros.training.polygons import require_polygon_libraries

    if options.source is None or options.format != 'masks':
        require_polygon_libraries()
    if options.source is None:
        take_back(options)
        return
    coco = options.output / COCO_FILE
    if options.format == 'coco' and coco.exists():
        raise ValueError(f'{coco} may hold corrections: rename it, or choose another --output')
    if options.images:
        raise UsageError('--images is for --from-coco and --from-labelme; a folder to label is BAG')
    _draft(options)


def _draft(options: argparse.Namespace) -> None:
    """Write the selected frames with predicted masks; print what was written and the next steps."""
    from lw_refinenet_ros.labels import LabelSet, find_classes
    from lw_refinenet_ros.sources.images import ImageSource
    from lw_refinenet_ros.sources.opening import open_source
    from lw_refinenet_ros.sources.selection import select
    from lw_refinenet_ros.training.drafting import draft_masks
    from lw_refinenet_ros.training.label_folder import LabelFolder
    from lw_refinenet_ros.training.labelme import write_labelme

    problems: list[SourceError] = []
    classes = options.classes or find_classes(options.output)
    given = LabelSet.from_yaml(classes) if classes else None
    with open_source(options.source, topic=options.topic, on_error=problems.append) as frames_of:
        segmenter = load_segmenter(options)
        labels = given or segmenter.labels
        if unknown := [name for name in labels.names if name not in segmenter.labels.names]:
            print(f'unknown to the weights, so in no predicted mask: {", ".join(unknown)}', file=sys.stderr)
        folder = LabelFolder(options.output, labels)

        def write_shapes(image: Path, mask: Mask) -> None:
            if options.format == 'labelme':
                write_labelme(image.with_suffix('.json'), image.name, mask, labels, options.simplify)

        frames = select(
            frames_of,
            every=options.every or (1 if options.different is not None else EVERY),
            different=options.different,
            start_s=options.start,
            end_s=options.end if options.end is not None else float('inf'),
            on_error=problems.append,
        )
        drafts = draft_masks(
            frames,
            segmenter,
            folder,
            files=frames_of.paths if isinstance(frames_of, ImageSource) else {},
            min_confidence=options.min_confidence,
            png=options.png,
            limit=options.limit,
            write_shapes=write_shapes,
            progress=Progress('labelled').show,
        )
    if not drafts.names and not drafts.kept:
        why = problems[0] if problems else 'there is none between --start and --end'
        raise ValueError(f'no frame was taken: {why}')
    if options.format == 'coco':
        _write_coco(folder, options.simplify)
    for line in (*_summary(folder, drafts), *_next_steps(options, folder)):
        print(line)
    if problems:
        more = f' (and {len(problems) - 1} more)' if len(problems) > 1 else ''
        raise ValueError(f'{problems[0]}{more}; the readable frames were taken')


def _write_coco(folder: LabelFolder, tolerance: float) -> None:
    """Write one file for all masks of the folder, including earlier ones."""
    from lw_refinenet_ros.image.label_png import read_label_png
    from lw_refinenet_ros.sources.images import images_in
    from lw_refinenet_ros.training.coco import write_coco

    images = [path for path in images_in(folder.path / 'images') if folder.mask(path.stem).is_file()]
    masks = ((path.name, read_label_png(folder.mask(path.stem))) for path in images)
    write_coco(folder.path / COCO_FILE, masks, folder.labels, tolerance)


def _summary(folder: LabelFolder, drafts: Drafts) -> Sequence[str]:
    """Print what was written, with the share of each class."""
    from lw_refinenet_ros.labels import UNLABELLED

    counts = drafts.counts
    names = {**dict(enumerate(folder.labels.names)), UNLABELLED: 'unlabelled'}
    shares = {name: counts[i] / counts.sum() for i, name in names.items() if counts[i]}
    shown = ', '.join(f'{n} {s:.1%}' for n, s in sorted(shares.items(), key=lambda item: -item[1]))
    lines = [f'{folder.path}: {len(drafts.names)} frames' + (f': {shown}' if shown else '')]
    if drafts.kept:
        lines.append(f'not overwritten: {drafts.kept} existing masks or labelme files')
    return lines


def _next_steps(options: argparse.Namespace, folder: LabelFolder) -> Sequence[str]:
    """Print the next steps as commands to paste."""
    out, images = str(folder.path), f'{folder.path}/images'
    correct = [f'correct: {out}/labels/*.png; palette indices are class ids, 255 is unlabelled']
    if options.format == 'labelme':
        names = ','.join((*folder.labels.names, 'unlabelled'))
        correct = [
            f'correct: {shlex.join(["labelme", images, "--nodata", "--labels", names])}',
            f'then:    {_command("label", "--from-labelme", images, "--output", out)}',
        ]
    elif options.format == 'coco':
        correct = [
            f'correct: {out}/{COCO_FILE}, with {images}, in a tool that imports and exports COCO',
            f'then:    {_command("label", "--from-coco", "EXPORTED.json", "--output", out)}',
        ]
    init = options.weights or DEFAULT_WEIGHTS
    train = _command('train', '--init', init, '--data', out, '--output', 'RUN')
    return (f'look at: {out}/overlays', *correct, f'then:    {train}')


def _command(*arguments: str) -> str:
    return shlex.join(['lw_refinenet', *arguments])
