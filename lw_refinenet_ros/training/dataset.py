# SPDX-License-Identifier: Apache-2.0
"""A folder of images and masks, and random training crops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lw_refinenet_ros.image.compressed import decode_image
from lw_refinenet_ros.image.label_png import read_label_png
from lw_refinenet_ros.labels import UNLABELLED, LabelSet, find_classes
from lw_refinenet_ros.model.network import enlarged
from lw_refinenet_ros.sources.images import IMAGE_SUFFIXES, images_in
from lw_refinenet_ros.training.config import TrainingConfig

__all__ = ['DataError', 'LoadedPairs', 'Pairs', 'find_pairs', 'read_pair']

KEPT_BYTES = 2 << 30  # of decoded images and masks: 3100 of 480x360
Image = NDArray[np.uint8]


class DataError(ValueError):
    """Unusable training data; the message lists every fault."""


@dataclass(frozen=True)
class Pairs:
    """Images with their masks.

    Attributes:
        images: image files.
        masks: their masks, in the same order.
        labels: the classes of the masks.
        counts: pixels of each id in all masks, int64 (256,).

    """

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    labels: LabelSet
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def __add__(self, other: Pairs) -> Pairs:
        """Append pairs of the same classes."""
        return Pairs(
            self.images + other.images, self.masks + other.masks, self.labels, self.counts + other.counts
        )


class LoadedPairs:
    """A cache of decoded pairs up to a memory limit; pairs beyond it are decoded each time.

    Args:
        pairs: the image and mask files.
        most_bytes: maximum bytes of pixels to keep.

    """

    def __init__(self, pairs: Pairs, most_bytes: int = KEPT_BYTES) -> None:
        self._files = list(zip(pairs.images, pairs.masks))
        self._kept: dict[int, tuple[Image, Image]] = {}
        self._left = most_bytes

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Image, Image]:
        """Return an image and its mask; see `read_pair`."""
        if index in self._kept:
            return self._kept[index]
        pair = read_pair(*self._files[index])
        size = sum(array.nbytes for array in pair)
        if size <= self._left:
            self._left -= size
            self._kept[index] = pair
        return pair


def find_pairs(
    folder: Path, classes: Path | None = None, progress: Callable[[int, int], None] = lambda _done, _of: None
) -> Pairs:
    """Find `images/NAME.*` with `labels/NAME.png` in a folder and check every pair.

    Args:
        folder: holds `images/` and `labels/`.
        classes: the label set; by default `classes.yaml` in the folder or its parent.
        progress: takes the number of pairs checked, and of all pairs.

    Raises:
        DataError: a file is missing, has another size or an unknown class id; lists all faults at once.

    """
    if not (folder / 'images').is_dir():
        raise DataError(f'{folder} {"has no images/ folder" if folder.exists() else "does not exist"}')
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
    masks = [folder / 'labels' / f'{path.stem}.png' for path in images]
    counts = np.zeros(256, np.int64)
    faults = []
    for index, pair in enumerate(zip(images, masks)):
        try:
            counts += _count(*pair, len(labels.names))
        except DataError as error:
            faults.append(str(error))
        progress(index + 1, len(images))
    if faults:
        count = f'{len(faults)} of {len(images)} pairs in {folder} cannot be used'
        raise DataError('\n  '.join([f'{count}:', *faults]))
    if not counts[:UNLABELLED].any():
        raise DataError(f'every pixel in {folder}/labels is {UNLABELLED}, unlabelled: nothing to learn')
    return Pairs(tuple(images), tuple(masks), labels, counts)


def _count(image: Path, mask: Path, num_classes: int) -> NDArray[np.int64]:
    """Check a pair and count the pixels of each id in its mask, int64 (256,)."""
    if not mask.is_file():
        raise DataError(f'{image.name}: no mask {mask}')
    try:
        pixels, label = read_pair(image, mask)
    except (OSError, ValueError) as error:
        raise DataError(str(error)) from error  # names the file
    if pixels.shape[:2] != label.shape:
        sizes = [f'{array.shape[1]}x{array.shape[0]}' for array in (pixels, label)]
        raise DataError(f'{image.name} is {sizes[0]}, its mask {sizes[1]}')
    counts = np.bincount(label.ravel(), minlength=256)
    if unknown := (np.flatnonzero(counts[num_classes:UNLABELLED]) + num_classes).tolist():
        raise DataError(f'{mask.name} holds class ids {unknown}, not 0 to {num_classes - 1} or {UNLABELLED}')
    return counts


def read_pair(image: Path, mask: Path) -> tuple[Image, Image]:
    """Read an image, uint8 (H, W, 3) RGB, and its mask, uint8 (H, W) class ids.

    Greyscale images become three equal channels; 16-bit images keep their upper 8 bits.

    Raises:
        ValueError: one of them cannot be decoded.
        OSError: one of them cannot be read.

    """
    try:
        bgr = decode_image(image.read_bytes())
    except ValueError as error:
        raise ValueError(f'{image}: {error}') from error
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8), read_label_png(mask)


def random_crop(
    image: Image, label: Image, config: TrainingConfig, random: np.random.Generator
) -> tuple[Image, Image]:
    """Resize, crop, flip and recolour at random; deterministic for a given generator state.

    Returns:
        uint8 (crop_height, crop_width, 3) and uint8 (crop_height, crop_width), padded with `UNLABELLED`.

    """
    seen = enlarged((image.shape[0], image.shape[1]), (config.least_height, config.least_width))
    scale = seen[0] / image.shape[0]
    scale *= float(np.exp(random.uniform(np.log(config.min_scale), np.log(config.max_scale))))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
    label = np.asarray(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    bottom, right = (max(0, c - s) for c, s in zip((config.crop_height, config.crop_width), label.shape))
    if bottom or right:
        image = np.pad(image, ((0, bottom), (0, right), (0, 0)), constant_values=127)
        label = np.pad(label, ((0, bottom), (0, right)), constant_values=UNLABELLED)
    top = int(random.integers(label.shape[0] - config.crop_height + 1))
    left = int(random.integers(label.shape[1] - config.crop_width + 1))
    present = np.setdiff1d(np.unique(label), [UNLABELLED])
    if random.random() < config.class_uniform and present.size:
        rows, columns = np.nonzero(label == random.choice(present))
        chosen = int(random.integers(rows.size))
        top, left = (
            int(np.clip(pixel[chosen] - random.integers(crop), 0, size - crop))
            for pixel, crop, size in zip(
                (rows, columns), (config.crop_height, config.crop_width), label.shape
            )
        )
    window = (slice(top, top + config.crop_height), slice(left, left + config.crop_width))
    image, label = image[window], label[window]
    if random.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    return _recolour(np.ascontiguousarray(image), config.jitter, random), np.ascontiguousarray(label)


def _recolour(image: Image, strength: float, random: np.random.Generator) -> Image:
    """Change brightness, contrast and saturation by up to `strength`, hue by a tenth of it."""
    contrast, brightness, saturation, hue = random.uniform(-strength, strength, 4)
    if strength == 0:
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(float(hue) * 18)) % 180
    hsv[..., 1] = cv2.convertScaleAbs(hsv[..., 1], alpha=1 + float(saturation))
    image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
    offset = 128 * float(brightness) - 128 * float(contrast)
    table = np.clip(np.arange(256) * (1 + float(contrast)) + offset, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), np.uint8)
