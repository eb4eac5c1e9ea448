# SPDX-License-Identifier: Apache-2.0
"""A folder of images and masks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lw_refinenet_ros.image.label_png import foreign_color, read_label_png
from lw_refinenet_ros.labels import UNLABELLED, LabelSet, find_classes
from lw_refinenet_ros.one_line import counted, first_of
from lw_refinenet_ros.sources.images import IMAGE_SUFFIXES, by_stem, composed, images_in, masks_in, read_image

__all__ = ['DataError', 'LoadedPairs', 'Pairs', 'check_has_images', 'find_pairs', 'read_pair']

LISTED = 20  # faults of a folder in a message
KEPT_BYTES = 2 << 30  # of decoded images and masks: 3100 of 480x360
Image = NDArray[np.uint8]


class DataError(ValueError):
    """Unusable training data; the message lists the faults."""


@dataclass(frozen=True)
class Pairs:
    """Images with their masks."""

    images: tuple[Path, ...]  #: image files
    masks: tuple[Path, ...]  #: their masks, in the same order
    labels: LabelSet  #: the classes of the masks
    counts: NDArray[np.int64]  #: pixels of each id in all masks, int64 (256,)
    brightest: int  #: the highest value of all images, 0 to 255

    def __len__(self) -> int:
        return len(self.images)

    def __add__(self, other: Pairs) -> Pairs:
        """Append pairs of the same classes."""
        return Pairs(
            self.images + other.images,
            self.masks + other.masks,
            self.labels,
            self.counts + other.counts,
            max(self.brightest, other.brightest),
        )


class LoadedPairs:
    """A cache of decoded pairs with at most `most_bytes` of pixels; pairs beyond it are decoded each time.

    Threads may share it.
    """

    def __init__(self, pairs: Pairs, most_bytes: int = KEPT_BYTES) -> None:
        self._files = list(zip(pairs.images, pairs.masks))
        self._kept: dict[int, tuple[Image, Image]] = {}
        self._left = most_bytes
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Image, Image]:
        """Return an image and its mask; see `read_pair`."""
        if index in self._kept:
            return self._kept[index]
        pair = read_pair(*self._files[index])
        size = sum(array.nbytes for array in pair)
        with self._lock:
            if index not in self._kept and size <= self._left:
                self._left -= size
                self._kept[index] = pair
        return pair


def check_has_images(folder: Path) -> None:
    """Raise a DataError, which names a folder in this one that would do, if this one has no `images/`."""
    if not (folder / 'images').is_dir():
        inside = sorted(path.parent for path in folder.glob('*/images'))
        hint = f': name one that has, such as {inside[0]}' if inside else ''
        raise DataError(f'{folder} {f"has no images/ folder{hint}" if folder.exists() else "does not exist"}')


def find_pairs(
    folder: Path, classes: Path | None = None, progress: Callable[[int, int], None] = lambda _done, _of: None
) -> Pairs:
    """Find `images/NAME.*` with `labels/NAME.png` in a folder and check every pair.

    Args:
        folder: holds `images/` and `labels/`.
        classes: the label set; by default `classes.yaml` in the folder or its parent.
        progress: takes the number of pairs checked, and of all pairs.

    Raises:
        DataError: a file is missing, has another size, an unknown class id or a palette of another order, or
            two images have one mask; lists the first `LISTED` faults at once.
    """
    check_has_images(folder)
    if classes is None:
        classes = find_classes(folder)
        if classes is None:
            raise DataError(f'{folder} has no classes.yaml, nor has its parent folder: use --classes FILE')
    try:
        labels = LabelSet.from_yaml(classes)
    except (OSError, ValueError) as error:
        raise DataError(str(error)) from error
    images = images_in(folder / 'images')
    if not images:
        raise DataError(f'{folder}/images has no images ({", ".join(IMAGE_SUFFIXES)})')
    stems, masks_of = by_stem(images), by_stem(masks_in(folder / 'labels'))
    masks = [
        masks_of.get(composed(path.stem), [folder / 'labels' / f'{path.stem}.png'])[0] for path in images
    ]
    counts, brightest = np.zeros(256, np.int64), 0
    faults = [
        f'{" and ".join(path.name for path in alike)} have one mask: move all but one away'
        for alike in stems.values()
        if len(alike) > 1
    ]
    faults += [
        f'{" and ".join(path.name for path in alike)} are masks of one image: move all but one away'
        for stem, alike in masks_of.items()
        if len(alike) > 1 and stem in stems
    ]
    for index, pair in enumerate(zip(images, masks)):
        try:
            pixels, label = _checked(*pair, labels)
            counts += np.bincount(label.ravel(), minlength=256)
            brightest = max(brightest, int(pixels.max()))
        except DataError as error:
            faults.append(str(error))
        progress(index + 1, len(images))
    if faults:
        count = f'{len(faults)} of {counted(len(images), "pair")} in {folder} cannot be used'
        lines = [f'{count}:', first_of(faults, LISTED, '\n  ')]
        if not all(mask.is_file() for mask in masks):
            lines.append('move images without a mask to a folder of their own, for --unlabelled')
        raise DataError('\n  '.join(lines))
    if not counts[:UNLABELLED].any():
        raise DataError(f'every pixel in {folder}/labels is {UNLABELLED}, unlabelled: nothing to learn')
    return Pairs(tuple(images), tuple(masks), labels, counts, brightest)


def _checked(image: Path, mask: Path, labels: LabelSet) -> tuple[Image, Image]:
    """Read a pair and check it."""
    if not mask.is_file():
        raise DataError(f'{image.name}: no mask {mask}')
    try:
        pixels, label = read_pair(image, mask)
    except (OSError, ValueError) as error:
        raise DataError(str(error)) from error  # names the file
    if pixels.shape[:2] != label.shape:
        sizes = [f'{array.shape[1]}x{array.shape[0]}' for array in (pixels, label)]
        raise DataError(f'{image.name} is {sizes[0]}, its mask {sizes[1]}')
    if unknown := [i for i in np.unique(label).tolist() if len(labels.names) <= i < UNLABELLED]:
        most = len(labels.names) - 1
        raise DataError(
            f'{mask.name} holds class ids {unknown}, not 0 to {most} or {UNLABELLED}: '
            'lw_refinenet label --from-masks --map FILE converts other ids'
        )
    if fault := foreign_color(mask, label, labels):
        raise DataError(f'{mask.name}: {fault}')
    return pixels, label


def read_pair(image: Path, mask: Path) -> tuple[Image, Image]:
    """Read an image, uint8 (H, W, 3) RGB, and its mask, uint8 (H, W) class ids.

    Greyscale images become three equal channels; 16-bit images keep their upper 8 bits.

    Raises:
        ValueError: one of them cannot be decoded.
        OSError: one of them cannot be read.
    """
    rgb = cv2.cvtColor(read_image(image), cv2.COLOR_BGR2RGB)
    return np.asarray(rgb, np.uint8), read_label_png(mask)
