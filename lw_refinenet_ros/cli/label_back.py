# SPDX-License-Identifier: Apache-2.0
"""The way back of `label`: masks from the polygons of a labelling tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from lw_refinenet_ros.image.labels import LabelSet
    from lw_refinenet_ros.training.outlines import Outlines

__all__ = ['take_back']


def take_back(options: argparse.Namespace) -> None:
    """Write the masks of a labelling tool's file, in place of those that are there."""
    from lw_refinenet_ros.image.encodings import Pixels
    from lw_refinenet_ros.image.frame import decode_image
    from lw_refinenet_ros.image.labels import UNLABELLED
    from lw_refinenet_ros.sources.images import images_in
    from lw_refinenet_ros.training.coco import CocoFile
    from lw_refinenet_ros.training.label_folder import LabelFolder
    from lw_refinenet_ros.training.labelme import LabelmeFolder
    from lw_refinenet_ros.training.outlines import UNLABELLED_NAMES

    outlines = CocoFile(options.from_coco) if options.from_coco else LabelmeFolder(options.from_labelme)
    labels = _labels(options, outlines)
    ids = {name: index for index, name in enumerate(labels.names)}
    ids |= dict.fromkeys(UNLABELLED_NAMES, UNLABELLED)
    source = options.images or options.out / 'images'
    images = {path.stem: path for path in images_in(source)}
    folder = LabelFolder(options.out, labels)
    written: set[str] = set()
    faults = []
    for file, label in outlines.read(ids):
        name = Path(file).stem
        if name not in images or name in written:
            faults.append(f'{file} is not in {source}' if name not in written else f'{file} is there twice')
            continue
        image = decode_image(images[name].read_bytes())
        if image.shape[:2] != label.shape:
            sizes = [f'{shape[1]}x{shape[0]}' for shape in (image.shape, label.shape)]
            faults.append(f'{file} is {sizes[0]}, its polygons are for {sizes[1]}')
            continue
        folder.write_image(name, images[name])
        folder.write_mask(name, Pixels(image, 'bgr'), label)
        written.add(name)
    print(f'{options.out}: {len(written)} masks of {len(labels.names)} classes, to look at in overlays')
    if without := sorted(set(images) - written):
        print(f'without polygons: {len(without)} images: {", ".join(without[:5])}')
    if faults:
        more = f' (and {len(faults) - 5} more)' if len(faults) > 5 else ''
        msg = f'{outlines.description}: {"; ".join(faults[:5])}{more}'
        raise ValueError(msg)


def _labels(options: argparse.Namespace, outlines: Outlines) -> LabelSet:
    """Give the classes: those of a file, which must list all that were drawn, or else what was drawn."""
    from lw_refinenet_ros.image.labels import LabelSet
    from lw_refinenet_ros.training.label_folder import find_classes, make_label_set

    classes = options.classes or find_classes(options.out)
    if classes is None:
        return make_label_set(options.out.absolute().name, outlines.classes)
    labels = LabelSet.from_yaml(classes)
    if unknown := [name for name in outlines.classes if name not in labels.names]:
        msg = f'{outlines.description} has classes that {classes} lacks: {", ".join(unknown)}; add them there'
        raise ValueError(msg)
    return labels
