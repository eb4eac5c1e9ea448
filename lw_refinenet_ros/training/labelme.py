# SPDX-License-Identifier: Apache-2.0
"""Masks to labelme's JSON files and back, one beside each image.

The format is read and written here: labelme itself, under another licence, brings Qt.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lw_refinenet_ros.files import write_atomically
from lw_refinenet_ros.image.labels import UNLABELLED
from lw_refinenet_ros.training.outlines import UNLABELLED_NAMES, Outlines
from lw_refinenet_ros.training.polygons import Mask, find_regions, inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lw_refinenet_ros.image.labels import LabelSet

__all__ = ['LabelmeFolder', 'write_labelme']

VERSION = '5.5.0'  # of labelme, whose format this is


def write_labelme(path: Path, image_name: str, label: Mask, labels: LabelSet, tolerance: float) -> None:
    """Write one image's file: every region filled, those that lie within others after them.

    A region that is deleted in the tool thus becomes what surrounds it. Unlabelled regions are there too,
    to be given a class.

    Args:
        path: of the JSON file.
        image_name: as it is found from the file.
        label: uint8 (H, W) class ids.
        labels: the classes.
        tolerance: see `find_regions`.

    """
    shapes: list[dict[str, Any]] = [
        {
            'label': UNLABELLED_NAMES[0] if class_id == UNLABELLED else labels.names[class_id],
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
    write_atomically(path, lambda file: file.write_text(json.dumps(content), encoding='utf-8'))


class LabelmeFolder(Outlines):
    """The JSON files of a folder, with polygons, rectangles and masks.

    Raises:
        ValueError: there are none, or one of them is no such file; all that are not, at once.

    """

    def __init__(self, folder: Path) -> None:
        self.description = str(folder)
        self._files: list[tuple[Path, dict[str, Any]]] = []
        faults = []
        for path in sorted(folder.glob('*.json')):
            try:
                content = json.loads(path.read_text(encoding='utf-8'))
                _ = content['imagePath'], content['imageHeight'], content['imageWidth']
                faults += [f'{path.name}: {fault}' for shape in content['shapes'] if (fault := _fault(shape))]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                faults.append(f'{path.name} is no labelme file: {type(error).__name__} {error}')
            else:
                self._files.append((path, content))
        if faults or not self._files:
            what = '\n  '.join(faults) or 'no .json files'
            msg = f'{folder} has {what}'
            raise ValueError(msg)
        names = {shape['label'] for _, content in self._files for shape in content['shapes']}
        self.classes = tuple(sorted(names.difference(UNLABELLED_NAMES)))

    def read(self, ids: dict[str, int]) -> Iterator[tuple[str, Mask]]:
        """See `Outlines`."""
        for path, content in self._files:
            size = int(content['imageHeight']), int(content['imageWidth'])
            label = np.full(size, UNLABELLED, np.uint8)
            for shape in content['shapes']:
                try:
                    label[_marked(shape, size)] = ids[shape['label']]
                except (ValueError, TypeError, IndexError, cv2.error) as error:
                    msg = f'{path}: the {shape["shape_type"]} of {shape["label"]!r} is damaged: {error}'
                    raise ValueError(msg) from error
            yield PureWindowsPath(content['imagePath']).name, label  # knows both kinds of slash


def _fault(shape: dict[str, Any]) -> str:
    kind, least = shape['shape_type'], {'polygon': 3, 'rectangle': 2, 'mask': 2}
    if kind not in least:
        return f'a {kind} of {shape["label"]!r} has no pixels; use {", ".join(least)}'
    if len(shape['points']) < least[kind]:
        return f'a {kind} of {shape["label"]!r} with {len(shape["points"])} points needs {least[kind]}'
    return ''


def _marked(shape: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the pixels of a shape: bool of `size`."""
    points = np.array(shape['points'], float)
    if shape['shape_type'] == 'polygon':
        return inside([points.ravel().tolist()], size)
    (left, top), (right, bottom) = points[:2].min(0), points[:2].max(0)
    if shape['shape_type'] == 'rectangle':
        return inside([[left, top, right, top, right, bottom, left, bottom]], size)
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(shape['mask']), np.uint8), cv2.IMREAD_GRAYSCALE)
    if drawn is None:
        msg = 'its mask is no PNG'
        raise ValueError(msg)
    marked = np.zeros(size, bool)
    x, y = int(left), int(top)
    window = marked[y : y + drawn.shape[0], x : x + drawn.shape[1]]
    window[:] = drawn[: window.shape[0], : window.shape[1]] > 0
    return marked
