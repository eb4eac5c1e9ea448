# SPDX-License-Identifier: Apache-2.0
"""Extract frames of a recording with predicted masks, to correct in a labelling tool and to train on.

Masks are palette PNGs, read as class ids; --format adds COCO or labelme polygons. --from-coco and
--from-labelme convert the corrected polygons back to masks, --from-masks converts those of other tools.
--next chooses the frames that would teach most, --review lists what may be wrong in masks.
"""

from __future__ import annotations

import argparse

from lw_refinenet_ros.cli.options import (
    UsageError,
    add_engine_arguments,
    add_groups_argument,
    add_network_size_arguments,
    add_selection_arguments,
    number,
    path,
    source,
)
from lw_refinenet_ros.cli.outputs import REVIEW, Declared, Output

__all__ = ['add_arguments', 'outputs', 'run']

EVERY = 10  # of a recording's frames, unless they are chosen otherwise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument('source', type=source, nargs='?', metavar='BAG', help='bag, video, folder or camera:N')
    of.add_argument('--from-coco', type=path, metavar='FILE', help='convert a COCO file to masks')
    of.add_argument('--from-labelme', type=path, metavar='DIR', help="convert labelme's JSON files to masks")
    of.add_argument('--from-masks', type=path, metavar='DIR', help='convert PNG masks of other tools')
    of.add_argument('--review', type=path, metavar='DIR', help='list what may be wrong in the masks of DIR')
    parser.add_argument(
        '--output',
        type=path,
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
        '--images',
        type=path,
        metavar='DIR',
        help='images of the polygons or masks (default: images/ in --output)',
    )
    parser.add_argument(
        '--map',
        type=path,
        metavar='FILE',
        help="with --from-masks: YAML of classes by id, by colour ('128, 64, 0') and for `others`",
    )
    called = parser.add_mutually_exclusive_group()
    called.add_argument(
        '--names',
        type=_names,
        metavar="'IMAGE=MASK'",
        help='with --from-masks: how both are called without suffix, with a * for what their names share, as '
        "'rgb_*=semantic_*'; with a slash, from the folder on, as '*/rgb=*/labels' (default: a mask has the "
        "image's name, maybe with _mask or an ending of Cityscapes or GOOSE)",
    )
    called.add_argument(
        '--mask-ending', metavar='TEXT', help="with --from-masks: short for --names '*=*TEXT'"
    )
    parser.add_argument(
        '--background',
        metavar='NAME',
        help='class of the pixels in no polygon, in images that have polygons (default: 255, unlabelled)',
    )
    which = parser.add_argument_group('which frames')
    which.add_argument('--topic', help="the bag's image topic, if it has several")
    add_selection_arguments(which, every=f'{EVERY}, or 1 for a folder of images')
    which.add_argument(
        '--different',
        type=number(float, 0, 1),
        metavar='D',
        help='take only frames unlike all taken before: the mean difference of their grey thumbnails '
        'exceeds D, of 1 (try 0.05; considers every frame, unless --every is given)',
    )
    which.add_argument(
        '--next',
        type=number(int, 1),
        metavar='N',
        help='choose the N frames that would teach these weights most, and print why (considers every frame, '
        'unless --every is given)',
    )
    which.add_argument(
        '--labelled', type=path, metavar='DIR', help='with --next: data that is labelled already elsewhere'
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
    written.add_argument('--json', type=path, metavar='FILE', help='write what --review lists to this file')
    add_engine_arguments(parser)
    add_groups_argument(parser)
    add_network_size_arguments(parser)


def outputs(options: argparse.Namespace) -> Declared:
    """Declare the outputs and inputs, besides the folder, which keeps itself in order."""
    return [Output('--json', options.json, REVIEW)], [options.review, options.weights, options.class_groups]


def run(options: argparse.Namespace) -> None:
    """Write a folder to correct, convert polygons or masks of other tools to its masks, or review masks."""
    _check(options)
    from lw_refinenet_ros.cli.label_back import take_back
    from lw_refinenet_ros.cli.label_draft import COCO_FILE, draft
    from lw_refinenet_ros.cli.label_masks import convert_masks
    from lw_refinenet_ros.cli.label_review import review
    from lw_refinenet_ros.training.polygons import require_polygon_libraries

    if options.review:
        review(options)
        return
    if options.from_masks:
        convert_masks(options)
        return
    if options.source is None or options.format != 'masks':
        require_polygon_libraries()
    if options.source is None:
        take_back(options)
        return
    coco = options.output / COCO_FILE
    if options.format == 'coco' and coco.exists():
        raise ValueError(f'{coco} may hold corrections: rename it, or choose another --output')
    chooses = options.next or options.different is not None
    draft(options, every=1 if chooses else EVERY)


def _check(options: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if bool(options.output) == bool(options.review):
        raise UsageError('--output DIR is needed, for images and masks; only --review has none')
    if options.json and not options.review:
        raise UsageError('--json is for --review')
    if (options.next or options.different is not None) and options.source is None:
        raise UsageError('--next and --different choose frames of a BAG')
    if options.images and options.source is not None:
        raise UsageError(
            '--images is for --from-coco, --from-labelme and --from-masks; a folder to label is BAG'
        )
    if options.background and not (options.from_coco or options.from_labelme):
        raise UsageError('--background is for --from-coco and --from-labelme')
    if (options.map or options.names or options.mask_ending is not None) and not options.from_masks:
        raise UsageError('--map, --names and --mask-ending are for --from-masks')
    if options.labelled and not options.next:
        raise UsageError('--labelled is for --next, which chooses frames unlike those')
    if options.next and options.limit:
        raise UsageError(f'--next {options.next} is the number of frames: leave out --limit')
    if options.next and options.source.startswith('camera:'):
        raise UsageError(f'--next reads the frames twice, which {options.source} cannot: record them first')


def _names(text: str) -> tuple[str, str]:
    """Parse IMAGE=MASK."""
    image, equals, mask = text.partition('=')
    if not equals or '=' in mask or image.count('*') != 1 or mask.count('*') != 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not IMAGE=MASK with one * on each side, such as 'rgb_*=semantic_*'"
        )
    return image, mask
