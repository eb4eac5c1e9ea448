# SPDX-License-Identifier: Apache-2.0
"""Any source of frames by its name."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from lw_refinenet_ros.files import regular_file
from lw_refinenet_ros.one_line import counted, reason
from lw_refinenet_ros.sources.bag import BagSource
from lw_refinenet_ros.sources.bag_formats.bag_files import BAG_SUFFIXES, bag_suffix, bags_in
from lw_refinenet_ros.sources.bag_formats.bag_metadata import METADATA
from lw_refinenet_ros.sources.images import IMAGE_SUFFIXES, UNREADABLE_SUFFIXES, ImageSource, images_in
from lw_refinenet_ros.sources.source import OnError, Source, SourceError
from lw_refinenet_ros.sources.video import VIDEO_SUFFIXES, CameraSource, VideoSource

__all__ = ['below', 'kind_of', 'open_source']

_PART = re.compile(r'(.+)_([0-9]{1,9})\..+')  # of a recording: bag_12.db3.zstd


def open_source(
    source: str | os.PathLike[str],
    *,
    topic: str | None = None,
    on_error: OnError | None = None,
    leave_out: Collection[str] = (),
    results: bool = False,
) -> Source:
    """Open a source of frames.

    Args:
        source: a bag (a folder with or without metadata.yaml, that file itself, .db3, .mcap, ROS 1's .bag and
            .bag.active, any of them with .zstd), a video file, a folder of images, an image file, or
            `camera:N`.
        topic: of a bag, the image topic to read; None: the only one there is besides a segmenter's results.
        on_error: takes what cannot be read, see `Source`.
        leave_out: topics of a bag that are not chosen unless they are asked for.
        results: whether a segmenter's result is chosen too, where there is nothing else.

    Raises:
        SourceError: it does not exist, or is none of these, or cannot be opened.
    """
    text = os.fspath(source)
    if text.startswith('camera:'):
        number = text.removeprefix('camera:')
        if not (number.isascii() and number.isdecimal()):
            raise SourceError(f'{text!r} does not name a camera: write camera:0 for the first')
        _refuse_topic(text, topic)
        return CameraSource(int(number))
    path = Path(source)
    if not path.exists():
        if re.match(r'[a-z]+://', text):
            raise SourceError(f'{text} is an address: download the file, or use the ROS driver of the camera')
        raise SourceError(f'{text} does not exist')
    if path.name == METADATA:
        path = path.parent
    if _is_bag(path):
        if path.is_dir() and not (path / METADATA).exists() and (images := images_in(path)):
            bag = bags_in(path)[0].name
            raise SourceError(
                f'{text} has a recording, {bag}, and images, {images[0].name}: name the recording, '
                'or move either away'
            )
        return BagSource(path, topic, on_error, leave_out, results=results)
    images = _images_of(path) if path.is_dir() else []
    _refuse_topic(text, topic)
    if images:
        return ImageSource(f'folder {path}', images, on_error)
    if path.suffix.lower() in (*IMAGE_SUFFIXES, *UNREADABLE_SUFFIXES):  # reading says what is wrong
        return ImageSource(f'image {text}', [path], on_error)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoSource(path, on_error=on_error)
    known = ', '.join((*BAG_SUFFIXES, *VIDEO_SUFFIXES, *IMAGE_SUFFIXES))
    raise SourceError(f'{text} is not a bag, video, folder of images or image: use one of {known}')


def kind_of(path: Path) -> str:
    """Return 'bag', 'video', 'image' or 'folder of images', by names alone; '' of anything else."""
    try:
        if path.name == METADATA or _is_bag(path):
            return 'bag'
        if path.is_dir():
            return 'folder of images' if images_in(path) else ''
    except (SourceError, OSError):  # as opening says
        return ''
    suffix = path.suffix.lower()
    return 'image' if suffix in IMAGE_SUFFIXES else 'video' if suffix in VIDEO_SUFFIXES else ''


def _is_bag(path: Path) -> bool:
    """Return whether a path is a file of a bag, or a folder of one recording."""
    if path.is_dir():
        return (path / METADATA).exists() or _are_one(bags_in(path))
    try:
        return bool(bag_suffix(regular_file(path)))
    except OSError as error:
        raise SourceError(f'{path}: {reason(error)}') from error
    except ValueError as error:
        raise SourceError(str(error)) from error


def _images_of(folder: Path) -> list[Path]:
    """List the images of a folder that is no bag; refuse one without."""
    images = images_in(folder)
    if not images and (bags := bags_in(folder)):
        names = ', '.join(path.name for path in bags)
        raise SourceError(f'{folder} has no metadata.yaml and several recordings, choose one: {names}')
    if not images:
        raise SourceError(f'{folder} has no images and no bag{below(folder)}')
    return images


def below(folder: Path) -> str:
    """Return, to end the message about a folder without images, which video or folder of it to name."""
    videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if videos:
        several = f'; segment takes several: {folder}/*{videos[0].suffix}' if len(videos) > 1 else ''
        return f', but {counted(len(videos), "video")}: name one, such as {videos[0]}{several}'
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    readable = (path for path in inside if kind_of(path))
    return f', but folders: name one, such as {next(readable, inside[0])}' if inside else ''


def _are_one(bags: Sequence[Path]) -> bool:
    """Return whether these are one recording: a file, or parts of one format with rising numbers from 0.

    A recorder that keeps the last parts only removes the first: then the name of the folder is to be theirs.
    """
    if len(bags) < 2:
        return bool(bags)
    parts = [_PART.fullmatch(path.name) for path in bags]
    if not all(parts) or len({bag_suffix(path) for path in bags}) > 1:
        return False
    names = {re.sub(r'\d+', '0', part[1]) for part in parts if part}  # ROS 1 writes the time into them too
    numbers = [int(part[2]) for part in parts if part]
    first = numbers[0] if names == {re.sub(r'\d+', '0', bags[0].absolute().parent.name)} else 0
    return len(names) == 1 and numbers == list(range(first, first + len(bags)))


def _refuse_topic(source: str, topic: str | None) -> None:
    if topic is not None:
        raise SourceError(f'{source} is not a bag and has no topic {topic!r}')
