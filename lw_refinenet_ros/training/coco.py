# SPDX-License-Identifier: Apache-2.0
"""Masks to COCO's JSON of polygons and back."""

from __future__ import annotations

import contextlib
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from lw_refinenet_ros.files import write_atomically
from lw_refinenet_ros.image.labels import UNLABELLED
from lw_refinenet_ros.training.outlines import UNLABELLED_NAMES, Outlines
from lw_refinenet_ros.training.polygons import Mask, encode, find_regions, without_holes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from lw_refinenet_ros.image.labels import LabelSet

__all__ = ['CocoFile', 'write_coco']


def write_coco(path: Path, masks: Iterable[tuple[str, Mask]], labels: LabelSet, tolerance: float) -> None:
    """Write one file for all images: an annotation per region, of one polygon or, around holes, of several.

    Args:
        path: of the file.
        masks: image file names and uint8 (H, W) class ids; unlabelled pixels are in no annotation.
        labels: the classes; category ids are class ids plus 1, as 0 is the background to many tools.
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
    write_atomically(path, lambda file: file.write_text(json.dumps(content), encoding='utf-8'))


class CocoFile(Outlines):
    """A file of polygons or run-length codes.

    Raises:
        ValueError: it is not such a file, or has annotations without an outline.

    """

    def __init__(self, path: Path) -> None:
        from pycocotools.coco import COCO

        self.description = str(path)
        self._coco = COCO()
        try:
            self._coco.dataset = json.loads(path.read_text(encoding='utf-8'))
            with contextlib.redirect_stdout(io.StringIO()):  # it tells of its progress
                self._coco.createIndex()
            self._names = {int(key): str(value['name']) for key, value in self._coco.cats.items()}
            self._files = {key: str(value['file_name']) for key, value in self._coco.imgs.items()}
            boxes = [a['id'] for a in self._coco.dataset['annotations'] if not a.get('segmentation')]
            unknown = {int(a['category_id']) for a in self._coco.dataset['annotations']} - set(self._names)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f'{path} is no COCO file of outlines: {type(error).__name__} {error}'
            raise ValueError(msg) from error
        if boxes or unknown:
            fault = (
                f'annotations {boxes[:5]} have no outline' if boxes else f'there are no categories {unknown}'
            )
            msg = f'{path}: {fault}: label with polygons, or export them'
            raise ValueError(msg)
        self.classes = tuple(n for _, n in sorted(self._names.items()) if n not in UNLABELLED_NAMES)

    def read(self, ids: dict[str, int]) -> Iterator[tuple[str, Mask]]:
        """See `Outlines`."""
        for key, name in self._files.items():
            image = self._coco.imgs[key]
            label = np.full((int(image['height']), int(image['width'])), UNLABELLED, np.uint8)
            for annotation in self._coco.imgToAnns[key]:
                marked = self._coco.annToMask(annotation).astype(bool)
                label[marked] = ids[self._names[annotation['category_id']]]
            yield name, label
