# SPDX-License-Identifier: Apache-2.0
"""Segment images, folders, videos, bags or a camera into label PNGs and overlays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lw_refinenet_ros.cli.options import Progress, add_engine_arguments, load_segmenter, number

if TYPE_CHECKING:
    import argparse

__all__ = ['add_arguments', 'run']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('sources', nargs='+', metavar='SOURCE', help='image, folder, video, bag or camera:N')
    parser.add_argument(
        '--output', type=Path, required=True, metavar='DIR', help='folder for labels/ and overlays/'
    )
    parser.add_argument('--topic', help="a bag's image topic, if it has several")
    parser.add_argument(
        '--alpha', type=number(float, 0, 1), default=0.5, help='opacity of the overlay (default: 0.5)'
    )
    add_engine_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Write labels/NAME.png (class ids) and overlays/NAME.jpg; NAME is the file's or the stamp in ns."""
    import cv2

    from lw_refinenet_ros.image.encodings import pixels
    from lw_refinenet_ros.image.labels import write_label_png
    from lw_refinenet_ros.sources.images import ImageSource
    from lw_refinenet_ros.sources.opening import open_source

    segmenter = load_segmenter(options)
    for kind in ('labels', 'overlays'):
        (options.output / kind).mkdir(parents=True, exist_ok=True)
    for name in options.sources:
        with open_source(name, topic=options.topic) as source:
            names = [path.stem for _, path in source.files] if isinstance(source, ImageSource) else None
            progress = Progress(f'{name}:', source.length)
            for index, frame in enumerate(source):
                image, order = pixels(frame)
                result = segmenter.segment(image, order=order)
                stem = names[index] if names else str(frame.stamp_ns)
                write_label_png(options.output / 'labels' / f'{stem}.png', result.label)
                overlay = cv2.cvtColor(result.overlay(options.alpha), cv2.COLOR_RGB2BGR)
                if not cv2.imwrite(str(options.output / 'overlays' / f'{stem}.jpg'), overlay):
                    msg = f'{options.output}/overlays/{stem}.jpg could not be written'
                    raise OSError(msg)
                progress.show(index + 1)
