# SPDX-License-Identifier: Apache-2.0
"""Convert masks to COCO JSON files and back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lw_refinenet_ros.files import write_text
from lw_refinenet_ros.labels import UNLABELLED, UNLABELLED_NAMES, LabelSet
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
from lw_refinenet_ros.training.polygons import Mask, encode, find_regions, inside, without_holes

__all__ = ['read_coco', 'write_coco']

T = TypeVar('T')


def write_coco(path: Path, masks: Iterable[tuple[str, Mask]], labels: LabelSet, tolerance: float) -> None:
    """Write one file for all images, with one annotation per region: one polygon, or several around holes.

    Args:
        path: the file.
        masks: image file names and uint8 (H, W) class ids; unlabelled pixels are not annotated.
        labels: the classes; category ids are class ids plus 1, because many tools use 0 for the background.
        tolerance: see `find_regions`.
    """
    from pycocotools import mask as codes

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name, label in masks:
        height, width = label.shape
        images.append({'id': len(images) + 1, 'file_name': name, 'width': width, 'height': height})
        for class_id, polygon in find_regions(label, tolerance):
            if class_id == UNLABELLED:
                continue
            rings = [np.round(piece.exterior.coords, 2).ravel().tolist() for piece in without_holes(polygon)]
            code = encode(rings, (height, width))
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': len(images),
                    'category_id': class_id + 1,
                    'segmentation': rings,
                    'area': float(codes.area(code)),
                    'bbox': codes.toBbox(code).tolist(),
                    'iscrowd': 0,
                }
            )
    categories = [{'id': i + 1, 'name': name, 'supercategory': ''} for i, name in enumerate(labels.names)]
    content = {'images': images, 'categories': categories, 'annotations': annotations}
    write_text(path, json.dumps(content))


def read_coco(path: Path) -> Annotations:
    """Read a file of polygons or run-length encodings.

    Ids may be numbers or text, and sizes may be missing. Rings with fewer than three corners, which tools
    leave behind, are skipped.

    Raises:
        ValueError: the file is not a COCO file, or has invalid entries; lists all faults at once.
        OSError: it cannot be read.
    """
    try:
        content = read_json(path)
    except ValueError as error:
        refuse(path, [f'is not a COCO file: {error}'])
    lists = ('categories', 'images', 'annotations')
    if not (isinstance(content, dict) and all(isinstance(content.get(name), list) for name in lists)):
        refuse(path, [f'is not a COCO file: it lacks lists of {", ".join(lists)}'])
    file = _CocoFile()
    faults = []
    for name, read in zip(lists, (file.read_category, file.read_image, file.read_annotation)):
        for index, entry in enumerate(content[name]):
            try:
                read(entry)
            except KeyError as error:
                faults.append(f'{name}[{index}] has no {error}')
            except (ValueError, TypeError, AttributeError) as error:
                faults.append(f'{name}[{index}]: {error}')
    if faults:
        refuse(path, [f'cannot be used: {faults[0]}', *faults[1:]])
    ordered = sorted(file.names, key=lambda key: int(key) if key.isdecimal() else float('inf'))
    names = dict.fromkeys(file.names[key] for key in ordered)
    classes = tuple(name for name in names if name not in UNLABELLED_NAMES)
    return Annotations(str(path), classes, list(file.images.values()), file.without_area)


class _CocoFile:
    """What was read from a file so far, by id; ids are text, because some tools write "1" for 1."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.images: dict[str, AnnotatedImage] = {}
        self.without_area: list[str] = []

    def read_category(self, entry: dict[str, Any]) -> None:
        self.names[_key(entry['id'])] = str(entry['name'])

    def read_image(self, entry: dict[str, Any]) -> None:
        size = stated_size(entry.get('height'), entry.get('width'))
        self.images[_key(entry['id'])] = AnnotatedImage(file_name(entry['file_name']), size, [])

    def read_annotation(self, entry: dict[str, Any]) -> None:
        if 'segments_info' in entry:
            raise ValueError('segments of COCO panoptic: export instances, or use --from-masks on its PNGs')
        image = _find(self.images, 'image', entry['image_id'])
        name = _find(self.names, 'category', entry['category_id'])
        segmentation = entry.get('segmentation')
        if isinstance(segmentation, dict):
            size, mark = _run_length_code(segmentation)
            if image.size not in (size, None):
                raise ValueError(
                    f'its run-length encoding is for {_shown(size)}, {image.file} is {_shown(image.size)}'
                )
            image.size = size
        elif rings := _rings(segmentation):
            mark = partial(inside, rings)
        else:
            self.without_area.append(f'annotation {entry.get("id")} in {image.file}')
            return
        image.shapes.append(Shape(name, mark))


def _key(value: object) -> str:
    """Return an id as text, the same for 1 and '1'."""
    if type(value) not in (int, str):
        raise ValueError(f'{value!r} is not an id')
    return str(value)


def _find(entries: dict[str, T], what: str, key: object) -> T:
    try:
        return entries[_key(key)]
    except KeyError:
        raise ValueError(f'the file has no {what} {key!r}') from None


def _shown(size: tuple[int, int] | None) -> str:
    return f'{size[1]}x{size[0]}' if size else 'of unknown size'


def _rings(segmentation: object) -> list[NDArray[np.float64]]:
    """Return the points of each polygon that has an area; a single polygon may lack its outer list."""
    if not (isinstance(segmentation, list) and segmentation):
        raise ValueError('no outline: annotate with polygons, or export them')
    rings = segmentation if isinstance(segmentation[0], list) else [segmentation]
    return [points for points in map(points_of, rings) if len(points) >= 3]


def _run_length_code(code: dict[str, Any]) -> tuple[tuple[int, int], Mark]:
    """Return the size of a run-length encoding, (height, width), and the function that marks its pixels."""
    size, counts = stated_size(*code['size']), code['counts']
    runs = _decompressed(counts) if isinstance(counts, str) else counts
    numbers = isinstance(runs, list) and all(type(run) is int and run >= 0 for run in runs)
    if size is None or not numbers or sum(runs) != size[0] * size[1]:
        raise ValueError(f'its run-length encoding does not fill the {_shown(size)} pixels of its size')

    def mark(size: tuple[int, int]) -> NDArray[np.bool_]:
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[::-1]).T

    return size, mark


def _decompressed(text: str) -> list[int]:
    """Decode COCO's compressed run lengths: five bits per character, differences to the last but one."""
    runs: list[int] = []
    value = bits = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or bits > 60:
            raise ValueError(f'{character!r} is not a run-length encoding')
        value |= (code & 31) << bits
        bits += 5
        if code & 32:  # more bits of this number follow
            continue
        if code & 16:  # it is negative
            value -= 1 << bits
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = bits = 0
    return runs
