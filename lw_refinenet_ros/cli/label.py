# SPDX-License-Identifier: Apache-2.0
"""Take frames of a recording with predicted masks, to correct in a labelling tool and to train on.

Masks are palette PNGs, read as class ids; --format adds polygons for COCO or labelme. What a tool made
of the polygons becomes masks again by --from-coco or --from-labelme.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lw_refinenet_ros.cli.options import Progress, UsageError, add_engine_arguments, load_segmenter, number
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from lw_refinenet_ros.image.labels import LabelSet
    from lw_refinenet_ros.sources.source import SourceError
    from lw_refinenet_ros.training.label_folder import LabelFolder

__all__ = ['add_arguments', 'run']

EVERY = 10
COCO_FILE = 'annotations.json'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('source', nargs='?', metavar='BAG', help='bag, video, folder of images or camera:N')
    source.add_argument('--from-coco', type=Path, metavar='FILE', help='make masks of a COCO file')
    source.add_argument(
        '--from-labelme', type=Path, metavar='DIR', help="make masks of a folder of labelme's JSON files"
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='for images/, labels/, overlays/, classes.yaml'
    )
    parser.add_argument(
        '--classes',
        type=Path,
        metavar='FILE',
        help="classes.yaml (default: that in DIR or above it; else the weights', or the polygons')",
    )
    parser.add_argument(
        '--images', type=Path, metavar='DIR', help='images of the polygons (default: images/ in --out)'
    )
    which = parser.add_argument_group('which frames')
    which.add_argument('--topic', help="the bag's image topic, if it has several")
    which.add_argument(
        '--every', type=number(int, 1), metavar='N', help=f'every N-th frame (default: {EVERY})'
    )
    which.add_argument(
        '--different',
        type=number(float, 0, 1),
        metavar='D',
        help='only frames unlike all taken before: grey thumbnails differ by more than D of 1 in the mean '
        '(try 0.05; without --every, every frame is looked at)',
    )
    which.add_argument(
        '--start', type=number(float, 0), default=0.0, metavar='S', help='begin S seconds after the first'
    )
    which.add_argument('--end', type=number(float, 0), metavar='S', help='stop S seconds after the first')
    which.add_argument('--limit', type=number(int, 1), metavar='N', help='take at most N frames')
    written = parser.add_argument_group('what is written')
    written.add_argument(
        '--min-confidence',
        type=number(float, 0, 1),
        default=0.0,
        metavar='C',
        help='pixels of less confidence, from 0 to 1, are left to you: 255, unlabelled (default: 0)',
    )
    written.add_argument(
        '--format', choices=('masks', 'coco', 'labelme'), default='masks', help='polygons beside the masks'
    )
    written.add_argument(
        '--simplify',
        type=number(float, 0),
        default=1.0,
        metavar='PIXELS',
        help='how coarse polygons may be; 0 keeps every corner of a pixel (default: 1)',
    )
    written.add_argument('--png', action='store_true', help='images as PNG instead of JPEG of quality 95')
    add_engine_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write a folder to correct, or its masks from what a tool made of it."""
    from lw_refinenet_ros.cli.label_back import take_back
    from lw_refinenet_ros.training.polygons import require_polygon_libraries

    if options.source is None or options.format != 'masks':
        require_polygon_libraries()
    if options.source is None:
        take_back(options)
        return
    coco = options.out / COCO_FILE
    if options.format == 'coco' and coco.exists():
        msg = f'{coco} is there already, and may be corrected: rename it, or choose another --out'
        raise ValueError(msg)
    if options.images:
        msg = '--images goes with --from-coco or --from-labelme; a folder to label is the first argument'
        raise UsageError(msg)
    _draft(options)


def _draft(options: argparse.Namespace) -> None:
    """Segment the chosen frames; a mask that is there already is kept, as somebody may have corrected it."""
    import numpy as np

    from lw_refinenet_ros.image.labels import UNLABELLED, LabelSet
    from lw_refinenet_ros.sources.images import ImageSource
    from lw_refinenet_ros.sources.opening import open_source
    from lw_refinenet_ros.sources.selection import select
    from lw_refinenet_ros.training.label_folder import LabelFolder, find_classes
    from lw_refinenet_ros.training.labelme import write_labelme

    segmenter = load_segmenter(options)
    classes = options.classes or find_classes(options.out)
    labels = LabelSet.from_yaml(classes) if classes else segmenter.labels
    ids = _translation(segmenter.labels, labels)
    problems: list[SourceError] = []
    taken: list[str] = []
    kept = 0
    counts = np.zeros(256, np.int64)
    with open_source(options.source, topic=options.topic, on_error=problems.append) as source:
        folder = LabelFolder(options.out, labels)
        files = dict(source.files) if isinstance(source, ImageSource) else {}
        progress = Progress('labelled')
        for frame, image in select(
            source,
            every=options.every or (1 if options.different is not None else EVERY),
            different=options.different,
            start_s=options.start,
            end_s=options.end if options.end is not None else float('inf'),
            on_error=problems.append,
        ):
            file = files.get(frame.stamp_ns)
            name = file.stem if file else str(frame.stamp_ns)
            if folder.mask(name).exists():
                kept += name not in taken
                continue
            result = segmenter.segment(image.array, order=image.order, confidence=options.min_confidence > 0)
            label = ids[result.label]
            if result.confidence is not None:
                label[result.confidence < options.min_confidence * 255] = UNLABELLED
            stored = folder.write_image(name, file or image, png=options.png)
            if options.format == 'labelme':
                write_labelme(stored.with_suffix('.json'), stored.name, label, labels, options.simplify)
            folder.write_mask(name, image, label)  # last: with its mask a frame counts as done
            taken.append(name)
            counts += np.bincount(label.ravel(), minlength=256)
            progress.show(len(taken))
            if len(taken) == options.limit:
                break
    if not taken and not kept:
        msg = f'no frame was taken: {problems[0] if problems else "none is between --start and --end"}'
        raise ValueError(msg)
    if options.format == 'coco':
        _write_coco(folder, options.simplify)
    for line in (*_summary(folder, len(taken), kept, counts), *_next_steps(options, folder)):
        print(line)
    if problems:
        more = f' (and {len(problems) - 1} more)' if len(problems) > 1 else ''
        msg = f'{problems[0]}{more}; what could be read was taken'
        raise ValueError(msg)


def _translation(ours: LabelSet, theirs: LabelSet) -> np.ndarray:
    """Give the id in the label set to write of each class of the network, uint8 (256,); 255 without one."""
    import numpy as np

    from lw_refinenet_ros.image.labels import UNLABELLED

    ids = np.full(256, UNLABELLED, np.uint8)
    for index, name in enumerate(ours.names):
        if name in theirs.names:
            ids[index] = theirs.names.index(name)
    if unknown := [name for name in theirs.names if name not in ours.names]:
        print(f'not known to the weights, so in no predicted mask: {", ".join(unknown)}', file=sys.stderr)
    return ids


def _write_coco(folder: LabelFolder, tolerance: float) -> None:
    """Write one file for all masks of the folder, those that were there before too."""
    from lw_refinenet_ros.image.labels import read_label_png
    from lw_refinenet_ros.sources.images import images_in
    from lw_refinenet_ros.training.coco import write_coco

    images = [path for path in images_in(folder.path / 'images') if folder.mask(path.stem).is_file()]
    masks = ((path.name, read_label_png(folder.mask(path.stem))) for path in images)
    write_coco(folder.path / COCO_FILE, masks, folder.labels, tolerance)


def _summary(folder: LabelFolder, taken: int, kept: int, counts: np.ndarray) -> Sequence[str]:
    """Say what was written, and how much of each class is in it."""
    from lw_refinenet_ros.image.labels import UNLABELLED

    names = {**dict(enumerate(folder.labels.names)), UNLABELLED: 'unlabelled'}
    shares = {name: counts[i] / counts.sum() for i, name in names.items() if counts[i]}
    shown = ', '.join(f'{n} {s:.1%}' for n, s in sorted(shares.items(), key=lambda item: -item[1]))
    lines = [f'{folder.path}: {taken} frames' + (f': {shown}' if shown else '')]
    if kept:
        lines.append(f'kept as they are: {kept} masks that were there before')
    return lines


def _next_steps(options: argparse.Namespace, folder: LabelFolder) -> Sequence[str]:
    """Say how to go on from here."""
    out = folder.path
    correct = [f'correct: {out}/labels/*.png; palette indices are class ids, 255 is unlabelled']
    if options.format == 'labelme':
        names = ','.join((*folder.labels.names, 'unlabelled'))
        correct = [
            f'correct: labelme {out}/images --nodata --labels {names!r}',
            f'then:    lw_refinenet label --from-labelme {out}/images --out {out}',
        ]
    elif options.format == 'coco':
        correct = [
            f'correct: {out}/{COCO_FILE}, with {out}/images, in a tool that imports and exports COCO',
            f'then:    lw_refinenet label --from-coco EXPORTED.json --out {out}',
        ]
    train = f'lw_refinenet train --init {options.weights or DEFAULT_WEIGHTS} --data {out} --output RUN'
    return (f'look at: {out}/overlays', *correct, f'then:    {train}')
