# SPDX-License-Identifier: Apache-2.0
"""Segment images, folders, videos, bags or a camera into label PNGs and overlays.

Writes labels/NAME.png (class ids) and overlays/NAME.jpg below --output. NAME is the image's name without
its suffix, or the stamp in ns with leading zeros. With several sources, each folder, video, bag and camera
gets its own folders: labels/SOURCE/NAME.png.
"""

from __future__ import annotations

import argparse
import math
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from lw_refinenet_ros.cli.options import (
    Progress,
    add_engine_arguments,
    add_groups_argument,
    add_ignore_mask_argument,
    add_network_size_arguments,
    add_selection_arguments,
    load_segmenter,
    number,
    segmentable,
    source,
)
from lw_refinenet_ros.cli.terminal import print_more
from lw_refinenet_ros.labels import OPACITY
from lw_refinenet_ros.one_line import counted, first_of

if TYPE_CHECKING:
    from lw_refinenet_ros.cli.segment_folder import SegmentFolder
    from lw_refinenet_ros.inference.engine import Pixels
    from lw_refinenet_ros.inference.segmenter import Segmenter
    from lw_refinenet_ros.sources.source import Source

__all__ = ['add_arguments', 'run']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'sources', nargs='+', type=source, metavar='SOURCE', help='image, folder, video, bag or camera:N'
    )
    parser.add_argument('--output', type=Path, required=True, metavar='DIR', help='for labels/ and overlays/')
    parser.add_argument('--topic', help="the bag's image topic, if it has several")
    parser.add_argument(
        '--alpha',
        type=number(float, 0, 1),
        default=OPACITY,
        help=f'opacity of the overlay (default: {OPACITY})',
    )
    add_selection_arguments(parser, every='1')
    parser.add_argument(
        '--mask-classes',
        nargs='+',
        metavar='CLASS',
        help='write masks/NAME.png as well: 255 where the class is one of these, else 0',
    )
    add_engine_arguments(parser)
    add_groups_argument(parser)
    add_network_size_arguments(parser)
    add_ignore_mask_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Check sources and outputs, then write the results of every readable frame."""
    import numpy as np

    from lw_refinenet_ros.cli.segment_folder import SegmentFolder, places
    from lw_refinenet_ros.files import lock_folder, new_folders
    from lw_refinenet_ros.image.ignore_mask import read_ignore_mask
    from lw_refinenet_ros.image.painting import paint_mask

    below = places(options.sources)
    folder = SegmentFolder(options.output, options.sources, options.mask_classes or ())
    ignored = read_ignore_mask(options.ignore_mask)
    faults: list[ValueError] = []
    with ExitStack() as stack:
        sources = _open(options, stack, faults)
        segmenter = load_segmenter(options)
        # Refuses classes that there are not, before any work
        paint_mask(np.zeros((1, 1), np.uint8), segmenter.labels, folder.mask_classes)
        stack.enter_context(new_folders(options.output))
        stack.enter_context(lock_folder(options.output))
        if folder.earlier:
            there = counted(len(folder.earlier), 'label')
            print(
                f'{folder.path}: {there} of an earlier run, replaced where frames are the same',
                file=sys.stderr,
            )
        folder.begin()
        done = 0
        for name, place, opened in zip(options.sources, below, sources):
            if opened is not None:
                done += _segment(options, segmenter, name, opened, folder, place, ignored, faults)
        if left := folder.earlier:
            print(
                f'{folder.path}: {counted(len(left), "earlier label", "remains", "remain")}, such as '
                f'{min(left)}.png, of frames not segmented now: use a new folder to keep runs apart',
                file=sys.stderr,
            )
    print_more(faults)
    if faults:
        raise ValueError(f'{first_of(faults)}; {counted(done, "frame", "was", "were")} segmented')
    if not done:
        raise ValueError('there is no frame between --start and --end')


def _open(options: argparse.Namespace, stack: ExitStack, faults: list[ValueError]) -> list[Source | None]:
    """Open all sources before anything is computed; a damaged one is skipped.

    Raises:
        SourceError: one does not exist, or none can be opened.
    """
    from lw_refinenet_ros.sources.opening import open_source
    from lw_refinenet_ros.sources.source import SourceError

    sources: list[Source | None] = []
    for name in options.sources:
        try:
            opened = open_source(name, topic=options.topic, on_error=faults.append)
            sources.append(stack.enter_context(opened))
        except SourceError as error:
            if not (name.startswith('camera:') or Path(name).exists()) or len(options.sources) == 1:
                raise
            faults.append(error)
            sources.append(None)
    if not any(sources):
        raise faults[0]
    return sources


def _segment(
    options: argparse.Namespace,
    segmenter: Segmenter,
    name: str,
    source: Source,
    folder: SegmentFolder,
    place: str,
    ignored: Pixels | None,
    faults: list[ValueError],
) -> int:
    """Write the results of one source to `place`; return the number of frames."""
    from lw_refinenet_ros.image.encodings import fault_of_brightness
    from lw_refinenet_ros.image.ignore_mask import misfit, unlabel
    from lw_refinenet_ros.sources.images import ImageSource
    from lw_refinenet_ros.sources.selection import select
    from lw_refinenet_ros.sources.source import SourceError

    frames = select(
        source,
        every=options.every or 1,
        start_s=options.start,
        end_s=options.end,
        on_error=faults.append,
    )
    whole = options.every is None and not options.start and options.end == math.inf
    progress = Progress(f'{name}:', source.length if whole else None)
    done = brightest = 0
    with folder.writing() as write:
        try:
            for frame, image in segmentable(frames, segmenter, faults.append):
                if fault := misfit(ignored, image.array.shape[:2]):
                    faults.append(ValueError(f'{frame.where}: {fault}'))
                    continue
                brightest = max(brightest, int(image.array.max()))
                result = segmenter.segment(image.array, order=image.order)
                unlabel(result.label, ignored)
                write(place.format(frame.name), result, options.alpha)
                if isinstance(source, ImageSource) and frame.name != Path(frame.where).stem:
                    print(f'{frame.where}: its results are called {frame.name}', file=sys.stderr)
                done += 1
                progress.show(done)
        except SourceError as error:  # nothing more can be read
            faults.append(error)
    if done and (dark := fault_of_brightness(brightest)):
        print(f'{name}: {dark}', file=sys.stderr)
    shown = place.format('*')
    written = f'{folder.path}/labels/{shown}.png and {folder.path}/overlays/{shown}.jpg'
    print(f'{name}: {counted(done, "frame")}, {written}')
    return done
