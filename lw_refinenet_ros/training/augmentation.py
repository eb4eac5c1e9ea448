# SPDX-License-Identifier: Apache-2.0
"""The geometry of random training crops, and which classes are rare."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.model.network import enlarged
from lw_refinenet_ros.training.config import TrainingConfig

__all__ = ['random_crop', 'rare_classes']

Image = NDArray[np.uint8]
Random = np.random.Generator


def random_crop(image: Image, label: Image, config: TrainingConfig, random: Random) -> tuple[Image, Image]:
    """Resize, crop and flip at random; deterministic for a given generator state.

    Only the pixels of the crop are resized, so that large images need neither time nor memory.

    Returns:
        uint8 (crop_height, crop_width, 3) and uint8 (crop_height, crop_width), padded with `UNLABELLED`.
    """
    seen = enlarged((image.shape[0], image.shape[1]), (config.least_height, config.least_width))
    scale = seen[0] / image.shape[0]
    scale *= float(np.exp(random.uniform(np.log(config.min_scale), np.log(config.max_scale))))
    target = _pixel_of_a_random_class(label, random) if random.random() < config.class_uniform else None
    windows, sizes = [], []
    for axis, crop in enumerate((config.crop_height, config.crop_width)):
        whole = label.shape[axis]
        size = min(crop, max(1, round(whole * scale)))  # of the window in the crop
        covered = min(whole, max(1, round(size / scale)))  # of the window in the image
        first = int(random.integers(whole - covered + 1))
        if target is not None:
            first = int(np.clip(target[axis] - random.integers(covered), 0, whole - covered))
        windows.append(slice(first, first + covered))
        sizes.append(size)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    window, size_xy = tuple(windows), (sizes[1], sizes[0])
    pixels = cv2.resize(image[window], size_xy, interpolation=interpolation)
    ids = cv2.resize(label[window], size_xy, interpolation=cv2.INTER_NEAREST_EXACT)
    cropped = np.full((config.crop_height, config.crop_width, 3), 127, np.uint8)
    cropped[: sizes[0], : sizes[1]] = pixels
    mask = np.full(cropped.shape[:2], UNLABELLED, np.uint8)
    mask[: sizes[0], : sizes[1]] = ids
    if random.random() < 0.5:
        return np.asarray(cv2.flip(cropped, 1), np.uint8), np.asarray(cv2.flip(mask, 1), np.uint8)
    return cropped, mask


def _pixel_of_a_random_class(label: Image, random: Random) -> tuple[int, int] | None:
    """Return (row, column) of a random pixel of a class sampled uniformly; None without classes."""
    present = np.flatnonzero(cv2.calcHist([label], [0], None, [256], [0, 256])[:UNLABELLED])
    if not present.size:
        return None
    hits = label == random.choice(present)
    in_row = hits.sum(1)
    row = int(random.choice(len(hits), p=in_row / in_row.sum()))
    return row, int(random.choice(np.flatnonzero(hits[row])))


def rare_classes(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which ids are rare by their pixel counts, both (256,): the half with the fewest."""
    present = np.flatnonzero(counts[:UNLABELLED])
    rare = np.zeros(256, np.bool_)
    rare[present[np.argsort(counts[present])[: len(present) // 2]]] = True
    return rare
