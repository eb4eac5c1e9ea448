# SPDX-License-Identifier: Apache-2.0
"""Areas drawn in images with a labelling tool, independent of its file format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lw_refinenet_ros.files import open_regular
from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.one_line import first_of, one_line

__all__ = [
    'AnnotatedImage',
    'Annotations',
    'Mark',
    'Shape',
    'file_name',
    'points_of',
    'read_json',
    'refuse',
    'stated_size',
]

LISTED = 5  # faults in a message

Size = tuple[int, int]  # (height, width)
Mark = Callable[[Size], NDArray[np.bool_]]


@dataclass(frozen=True)
class Shape:
    """An area of one class."""

    class_name: str  #: its class, or one of `UNLABELLED_NAMES`
    mark: Mark  #: returns its pixels, bool (H, W), in an image of that size


@dataclass
class AnnotatedImage:
    """The shapes of one image."""

    path: PurePosixPath  #: of the image file, as the tool wrote it
    size: Size | None  #: (height, width) that the shapes were drawn for; None if the tool did not store it
    shapes: list[Shape]  #: in the order to paint them; later ones cover earlier ones

    @property
    def file(self) -> str:
        """The name of the image file, without folders."""
        return self.path.name

    def mask(self, size: Size, ids: Mapping[str, int], background: int = UNLABELLED) -> NDArray[np.uint8]:
        """Paint the shapes: uint8 (H, W) class ids.

        Args:
            size: of the image; `self.size` unless that is None.
            ids: ids of the classes and of the `UNLABELLED_NAMES`.
            background: the id of pixels in no shape, unless the image has no shapes: then all are 255.
        """
        mask = np.full(size, background if self.shapes else UNLABELLED, np.uint8)
        for shape in self.shapes:
            mask[shape.mark(size)] = ids[shape.class_name]
        return mask


@dataclass(frozen=True)
class Annotations:
    """What a labelling tool's file or folder holds."""

    description: str  #: the file or folder
    #: Names of the classes in the order of the file, or sorted if it has none, without the `UNLABELLED_NAMES`
    classes: tuple[str, ...]
    images: Sequence[AnnotatedImage]  #: all images of the file, including those without shapes
    without_area: Sequence[str]  #: descriptions of the skipped shapes with fewer than three corners
    #: What is wrong with files that are not the tool's, by their stems
    strangers: Mapping[str, str] = field(default_factory=dict)


def read_json(path: Path) -> Any:
    """Read JSON in UTF-8, 16 or 32, with or without a byte order mark.

    Raises:
        ValueError: the content is not JSON, or it is not a regular file.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        content = file.read()
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'not JSON: {error}') from error


def refuse(source: Path, faults: Sequence[str]) -> NoReturn:
    """Raise a ValueError with a file or folder and its first faults, in one line."""
    raise ValueError(f'{source} {first_of([*map(one_line, faults)], LISTED)}')


def file_name(path: object) -> PurePosixPath:
    """Return a path written on any operating system, with slashes.

    Raises:
        ValueError: it names no file.
    """
    written = PureWindowsPath(path) if isinstance(path, str) else None  # handles both kinds of slash
    if not (written and written.name):
        raise ValueError(f'{path!r} is not a file name')
    return PurePosixPath(written.as_posix())


def stated_size(height: object, width: object) -> Size | None:
    """Return (height, width), or None if the tool stored none: null, missing or 0.

    Raises:
        ValueError: the values are not sizes.
    """
    if not (height and width):
        return None
    try:
        size = int(height), int(width)  # type: ignore[call-overload]
    except (ValueError, TypeError, OverflowError):
        size = 0, 0
    if min(size) < 1:
        raise ValueError(f'{width!r}x{height!r} is not an image size')
    return size


def points_of(coordinates: object) -> NDArray[np.float64]:
    """Return the points of [x, y, x, y, ...] or [[x, y], [x, y], ...], float64 (N, 2).

    Raises:
        ValueError: the value is neither, or not finite.
    """
    try:
        points = np.array(coordinates, float).reshape(-1, 2)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f'{coordinates!r} are not pairs of coordinates') from error
    if not np.isfinite(points).all():
        raise ValueError(f'{coordinates!r} are not finite')
    return points
