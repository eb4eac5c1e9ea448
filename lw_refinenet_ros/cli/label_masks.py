# SPDX-License-Identifier: Apache-2.0
"""Convert masks of other tools to a folder of images and masks to train on."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from lw_refinenet_ros.cli.options import Progress
from lw_refinenet_ros.image.encodings import ColorImage
from lw_refinenet_ros.image.label_png import prediction_of
from lw_refinenet_ros.labels import LabelSet, find_classes
from lw_refinenet_ros.one_line import counted, first_of
from lw_refinenet_ros.sources.images import read_image
from lw_refinenet_ros.sources.source import SourceError
from lw_refinenet_ros.training.label_folder import LabelFolder
from lw_refinenet_ros.training.mask_files import pair_files
from lw_refinenet_ros.training.other_masks import MaskRules, read_other_mask

__all__ = ['convert_masks']

LISTED = 5  # names and faults in a message


def convert_masks(options: argparse.Namespace) -> None:
    """Convert masks of colours or other ids, and copy their images; masks in the output are not replaced.

    All masks are checked before anything is written.
    """
    source = options.images or options.output / 'images'
    for folder in (options.from_masks, source):
        if not folder.is_dir():
            raise ValueError(f'{folder} is not a folder: --from-masks and --images need folders')
    classes = options.classes or find_classes(options.output)
    if classes is None:
        raise ValueError('--from-masks needs --classes FILE, a classes.yaml with the names and colours')
    labels = LabelSet.from_yaml(classes)
    rules = MaskRules.from_yaml(options.map, labels) if options.map else MaskRules.of(labels)
    names = options.names if options.mask_ending is None else ('*', f'*{options.mask_ending}')
    found = pair_files(source, options.from_masks, names)
    _check(found.pairs, options.output, labels, rules)
    faults = []
    folder = LabelFolder(options.output, labels)
    progress = Progress('converted', len(found.pairs))
    for index, (name, (path, mask)) in enumerate(found.pairs.items()):
        label = read_other_mask(mask, labels, rules)
        try:
            image = read_image(path)
        except SourceError as error:
            faults.append(str(error))
            continue
        if image.shape[:2] != label.shape:
            sizes = [f'{array.shape[1]}x{array.shape[0]}' for array in (image, label)]
            faults.append(f'{path} is {sizes[0]}, its mask {mask} {sizes[1]}')
            continue
        folder.write_image(name, path)
        folder.write_mask(name, ColorImage(image, 'bgr'), label, predicted=prediction_of(mask))
        progress.show(index + 1)
    count = len(found.pairs) - len(faults)
    masks = f'{counted(count, "mask")} of {counted(len(labels.names), "class")}'
    print(f'{options.output}: {masks}{", to look at in overlays" * bool(count)}')
    left_out = {
        'images without a mask': found.images_alone,
        'masks without an image': found.masks_alone,
        'called otherwise': found.ignored,
    }
    for what, those in left_out.items():
        if those:
            print(f'left out, {what}: {len(those)}: {first_of(those, LISTED, ", ")}')
    if faults:
        raise ValueError(f'{first_of(faults, LISTED)}; the rest was converted')


def _check(pairs: Mapping[str, tuple[Path, Path]], output: Path, labels: LabelSet, rules: MaskRules) -> None:
    """Read every mask; raise with the first of those that cannot be converted, or that the output has."""
    faults = []
    progress = Progress('checked', len(pairs))
    for index, (name, (_, mask)) in enumerate(pairs.items()):
        if (written := output / 'labels' / f'{name}.png').exists():
            raise ValueError(f'{written} exists: choose another --output')
        try:
            read_other_mask(mask, labels, rules)
        except (ValueError, OSError) as error:
            faults.append(error)
        progress.show(index + 1)
    if faults:
        raise ValueError(first_of(faults, LISTED))
