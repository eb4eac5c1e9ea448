# SPDX-License-Identifier: Apache-2.0
"""Convert masks to labelme JSON files and back, one file beside each image.

The format is implemented here, because labelme has another licence and needs Qt.
"""

from __future__ import annotations

import base64
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lw_refinenet_ros.files import write_text
from lw_refinenet_ros.image.compressed import decode_image
from lw_refinenet_ros.labels import UNLABELLED, UNLABELLED_NAME, UNLABELLED_NAMES, LabelSet
from lw_refinenet_ros.training.annotations import (
    AnnotatedImage,
    Annotations,
    Mark,
    Shape,
    file_name,
    points_of,
    read_json,
    refuse,
    stated_size,
)
from lw_refinenet_ros.training.polygons import Mask, find_regions, inside

__all__ = ['read_labelme', 'write_labelme']

VERSION = '5.5.0'  # labelme version of this format
POLYGONS = ('polygon', 'rotation', 'quadrilateral', 'oriented_rectangle')  # after the first, X-AnyLabeling's
OF_TWO_POINTS = ('rectangle', 'circle', 'mask')


def write_labelme(path: Path, image_name: str, label: Mask, labels: LabelSet, tolerance: float) -> None:
    """Write the file of one image: every region as a filled polygon, inner regions after outer ones.

    Deleting a region in the tool thus turns it into what surrounds it. Unlabelled regions are included,
    so that they can get a class.

    Args:
        path: the JSON file.
        image_name: relative to the file.
        label: uint8 (H, W) class ids.
        labels: the classes.
        tolerance: see `find_regions`.
    """
    shapes: list[dict[str, Any]] = [
        {
            'label': UNLABELLED_NAME if class_id == UNLABELLED else labels.names[class_id],
            'points': [[float(x), float(y)] for x, y in polygon.exterior.coords[:-1]],
            'group_id': None,
            'description': '',
            'shape_type': 'polygon',
            'flags': {},
            'mask': None,
        }
        for class_id, polygon in find_regions(label, tolerance)
    ]
    content = {
        'version': VERSION,
        'flags': {},
        'shapes': shapes,
        'imagePath': image_name,
        'imageData': None,
        'imageHeight': label.shape[0],
        'imageWidth': label.shape[1],
    }
    write_text(path, json.dumps(content))


def read_labelme(folder: Path) -> Annotations:
    """Read the JSON files of a folder, as labelme and X-AnyLabeling write them.

    Sizes and image names may be missing. Polygons with fewer than three corners, which tools leave behind,
    are skipped. Other JSON files beside those are `strangers`.

    Raises:
        ValueError: there are none, or some have shapes without an area, such as lines;
            all faults at once.
        OSError: a file cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f'{folder} is not a folder' if folder.exists() else f'{folder} does not exist')
    images: list[AnnotatedImage] = []
    without_area: list[str] = []
    faults: list[str] = []
    strangers: dict[str, str] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix == '.json' and p.name[0] != '.'):
        try:
            content = read_json(path)
            name = file_name(content.get('imagePath') or path.name)
            size = stated_size(content.get('imageHeight'), content.get('imageWidth'))
            shapes = [(shape, str(shape['label'])) for shape in content['shapes']]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            strangers[path.stem] = f'{path.name} is not a labelme file: {type(error).__name__} {error}'
            continue
        image = AnnotatedImage(name, size, [])
        for shape, label in shapes:
            described = f'{path.name}: a {_kind(shape)} of {label!r}'
            try:
                mark = _mark(shape)
            except KeyError as error:
                faults.append(f'{described} has no {error}')
            except (ValueError, TypeError) as error:
                faults.append(f'{described}: {error}')
            else:
                if mark:
                    image.shapes.append(Shape(label, mark))
                else:
                    without_area.append(described)
        images.append(image)
    if faults or not images:
        faults += strangers.values()
        refuse(folder, [f'has {faults[0]}', *faults[1:]] if faults else ['has no .json files'])
    names = {shape.class_name for image in images for shape in image.shapes}
    classes = tuple(sorted(names.difference(UNLABELLED_NAMES)))
    return Annotations(str(folder), classes, images, without_area, strangers)


def _kind(shape: dict[str, Any]) -> str:
    return str(shape.get('shape_type') or 'polygon')  # old versions do not write it


def _mark(shape: dict[str, Any]) -> Mark | None:
    """Return the function that marks the pixels of a shape; None if the shape has too few points."""
    kind, points = _kind(shape), points_of(shape['points'])
    if kind not in (*POLYGONS, *OF_TWO_POINTS):
        raise ValueError(f'no area; draw one of {", ".join((*POLYGONS, *OF_TWO_POINTS))}')
    if kind in POLYGONS or (kind == 'rectangle' and len(points) == 4):
        return partial(inside, [points]) if len(points) > 2 else None
    if len(points) < 2:
        return None
    if len(points) > 2:
        raise ValueError(f'{len(points)} points')
    if kind == 'circle':
        return partial(_disc, points)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    if kind == 'rectangle':
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        return partial(inside, [corners])
    return partial(_pasted, _drawn(shape['mask']), int(left), int(top))


def _disc(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the pixels of a circle, given by its centre and a point on it."""
    centre, rim = points
    radius = np.hypot(*(rim - centre))
    y, x = np.ogrid[: size[0], : size[1]]
    return np.asarray(np.hypot(x + 0.5 - centre[0], y + 0.5 - centre[1]) <= radius)


def _drawn(text: str) -> NDArray[np.bool_]:
    """Decode a mask shape, bool (H, W), from a base64 PNG."""
    return np.asarray(decode_image(base64.b64decode(text)).any(2))


def _pasted(drawn: NDArray[np.bool_], left: int, top: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the pixels of a mask shape whose top left corner lies at a point of the image."""
    marked = np.zeros(size, bool)
    part = drawn[max(-top, 0) : max(size[0] - top, 0), max(-left, 0) : max(size[1] - left, 0)]
    top, left = max(top, 0), max(left, 0)
    marked[top : top + part.shape[0], left : left + part.shape[1]] = part
    return marked
