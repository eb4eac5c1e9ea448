# SPDX-License-Identifier: Apache-2.0
"""Any source of frames by its name."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from lw_refinenet_ros.sources.bag import BAG_SUFFIXES, BagSource
from lw_refinenet_ros.sources.images import IMAGE_SUFFIXES, ImageSource, images_in
from lw_refinenet_ros.sources.source import OnError, Source, SourceError
from lw_refinenet_ros.sources.video import VIDEO_SUFFIXES, CameraSource, VideoSource

__all__ = ['open_source']


def open_source(
    source: str | os.PathLike[str],
    *,
    topic: str | None = None,
    on_error: OnError | None = None,
    leave_out: Collection[str] = (),
) -> Source:
    """Open a source of frames.

    Args:
        source: a bag (rosbag2 directory, .db3, .mcap, ROS 1 .bag), a video file, a folder of images, an image
            file, or `camera:N`.
        topic: of a bag, the image topic to read; None: the only one there is besides a segmenter's results.
        on_error: takes what cannot be read, see `Source`.
        leave_out: topics of a bag that are not chosen unless they are asked for.

    Raises:
        SourceError: it does not exist, or is none of these, or cannot be opened.

    """
    text = os.fspath(source)
    if text.startswith('camera:'):
        number = text.removeprefix('camera:')
        if not (number.isascii() and number.isdecimal()):
            msg = f'{text!r} does not name a camera: write camera:0 for the first'
            raise SourceError(msg)
        _refuse_topic(text, topic)
        return CameraSource(int(number))

    path = Path(source)
    if not path.exists():
        msg = f'{text} does not exist'
        raise SourceError(msg)
    bag = path if path.suffix in BAG_SUFFIXES or (path / 'metadata.yaml').exists() else None
    images: list[Path] = []
    if bag is None and path.is_dir():
        images = images_in(path)
        files = [file for suffix in BAG_SUFFIXES for file in path.glob(f'*{suffix}')]
        if len(files) == 1 and not images:
            bag = files[0]
        elif not images:
            what = (
                f'{len(files)} bag files and no metadata.yaml: run ros2 bag reindex' if files else 'no images'
            )
            msg = f'{text} has {what}'
            raise SourceError(msg)
    if bag is not None:
        return BagSource(bag, topic, on_error, leave_out)
    _refuse_topic(text, topic)
    if images:
        return ImageSource(f'folder {text}', images, on_error)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(f'image {text}', [path], on_error)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoSource(path, on_error=on_error)
    known = ', '.join((*BAG_SUFFIXES, *VIDEO_SUFFIXES, *IMAGE_SUFFIXES))
    msg = f'{text} is no bag, video, folder of images or image: known are {known}'
    raise SourceError(msg)


def _refuse_topic(source: str, topic: str | None) -> None:
    if topic is not None:
        msg = f'{source} is not a bag and has no topic {topic!r}'
        raise SourceError(msg)
