# SPDX-License-Identifier: Apache-2.0
"""The reverse of `label`: convert the polygons of a labelling tool to masks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lw_refinenet_ros.image.encodings import ColorImage
from lw_refinenet_ros.labels import UNLABELLED, UNLABELLED_NAMES, LabelSet, find_classes
from lw_refinenet_ros.one_line import counted, first_of, one_line
from lw_refinenet_ros.sources.images import by_stem, composed, images_in, read_image
from lw_refinenet_ros.sources.source import SourceError
from lw_refinenet_ros.training.annotations import AnnotatedImage, Annotations, refuse
from lw_refinenet_ros.training.coco import read_coco
from lw_refinenet_ros.training.label_folder import LabelFolder, make_label_set
from lw_refinenet_ros.training.labelme import read_labelme

__all__ = ['take_back']

LISTED = 5  # names listed in a message


def take_back(options: argparse.Namespace) -> None:
    """Convert the polygons of a labelling tool to masks, which replace the existing ones.

    An image without polygons keeps its mask.
    """
    annotations = read_coco(options.from_coco) if options.from_coco else read_labelme(options.from_labelme)
    labels = _labels(options, annotations)
    unlabelled = dict.fromkeys(UNLABELLED_NAMES, UNLABELLED)
    ids = unlabelled | {name: index for index, name in enumerate(labels.names)}
    source = options.images or options.output / 'images'
    if not source.is_dir():
        raise ValueError(f'{source} is not a folder: use --images DIR')
    images = images_in(source)
    strangers = annotations.strangers
    if broken := [fault for stem, fault in strangers.items() if composed(stem) in by_stem(images)]:
        refuse(options.from_labelme, broken)
    if strangers:
        print(f'warning: left out, {one_line(first_of(strangers.values(), LISTED))}', file=sys.stderr)
    annotated, faults = _match(annotations.images, images, source)
    folder = LabelFolder(options.output, labels) if annotated else None
    written, failed = set(), set()
    for path, entry in annotated.items():
        try:
            image = read_image(path)
        except SourceError as error:
            failed.add(composed(path.stem))
            faults.append(str(error))
            continue
        size = image.shape[0], image.shape[1]
        if entry.size and entry.size != size:
            failed.add(composed(path.stem))
            shown = [f'{width}x{height}' for height, width in (size, entry.size)]
            faults.append(f'{entry.path} is {shown[0]}, its polygons are for {shown[1]}')
            continue
        mask = entry.mask(size, ids, ids.get(options.background, UNLABELLED))
        if folder is None or not entry.shapes:
            continue
        folder.write_image(path.stem, path)
        folder.write_mask(path.stem, ColorImage(image, 'bgr'), mask)
        written.add(composed(path.stem))
    masks = f'{counted(len(written), "mask")} of {counted(len(labels.names), "class")}'
    print(f'{options.output}: {masks}{", to look at in overlays" * bool(written)}')
    if without := sorted(set(by_stem(images)) - written - failed):
        names = first_of(without, LISTED, ', ')
        print(f'without polygons: {counted(len(without), "image")}: {names}; their masks are kept')
    if few := annotations.without_area:
        print(f'skipped, with fewer than three corners: {len(few)}: {first_of(few, LISTED, ", ")}')
    if faults:
        raise ValueError(f'{annotations.description}: {first_of(faults, LISTED)}')


def _match(
    entries: Sequence[AnnotatedImage], images: Sequence[Path], source: Path
) -> tuple[dict[Path, AnnotatedImage], list[str]]:
    """Find the image of each entry by its path, name or stem; report what has none, several or the same.

    Some tools change the suffix. Depth images beside the colour images have the same stems.
    """
    names, stems = {composed(path.name): path for path in images}, by_stem(images)
    matched: dict[Path, AnnotatedImage] = {}
    taken: dict[str, Path] = {}
    faults = []
    for entry in entries:
        given = entry.path
        name, stem = composed(given.name), composed(given.stem)
        alike = stems.get(stem, [])
        path = names.get(name) or (alike[0] if len(alike) == 1 else None)
        within = len(given.parts) > 1 and not given.is_absolute() and '..' not in given.parts
        if within and (source / given).is_file():
            path = source / given
        other = taken.get(stem)
        if path is None and not alike:
            faults.append(f'{given} is not in {source}')
        elif path is None:
            faults.append(f'{given} may be {" or ".join(p.name for p in alike)}: move the others away')
        elif path in matched:
            faults.append(f'{given} is listed twice')
        elif other:
            faults.append(f'{path.relative_to(source)} and {other} would have one mask: rename one')
        else:
            matched[path] = entry
            taken[stem] = path.relative_to(source)
    return matched, faults


def _labels(options: argparse.Namespace, annotations: Annotations) -> LabelSet:
    """Return the classes of a file, which must list all that were drawn, or else the drawn classes."""
    classes = options.classes or find_classes(options.output)
    background, drawn = options.background, annotations.classes
    if background in UNLABELLED_NAMES:
        raise ValueError(f'--background {background} is no class: leave it out, or name one')
    if classes is None:
        if background not in (None, *drawn):
            drawn = (background, *drawn)
        if not drawn:
            raise ValueError(f'{annotations.description} has no shapes and so no classes: draw some areas')
        return make_label_set(options.output.absolute().name, drawn)
    labels = LabelSet.from_yaml(classes)
    if unknown := [name for name in drawn if name not in labels.names]:
        names = ', '.join(unknown)
        raise ValueError(f'{annotations.description} has classes that {classes} lacks: {names}; add them')
    if background not in (None, *labels.names):
        raise ValueError(f'--background {background} is a class that {classes} lacks: add it')
    return labels
