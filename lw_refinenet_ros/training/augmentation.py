# SPDX-License-Identifier: Apache-2.0
"""Random training crops: geometry, colour, light, and pixels of other crops of the batch."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.model.network import enlarged
from lw_refinenet_ros.training.config import TrainingConfig

__all__ = ['mix_boxes', 'mix_classes', 'perturb', 'random_crop', 'rare_classes', 'recolour', 'relight']

Image = NDArray[np.uint8]
Random = np.random.Generator

GAMMA = 2.2  # of a camera's 8-bit values
GREY = 0.2  # share of strongly perturbed crops without colour


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
    step = -1 if random.random() < 0.5 else 1
    cropped = np.full((config.crop_height, config.crop_width, 3), 127, np.uint8)
    cropped[: sizes[0], : sizes[1]] = pixels
    mask = np.full(cropped.shape[:2], UNLABELLED, np.uint8)
    mask[: sizes[0], : sizes[1]] = ids
    return np.ascontiguousarray(cropped[:, ::step]), np.ascontiguousarray(mask[:, ::step])


def _pixel_of_a_random_class(label: Image, random: Random) -> tuple[int, int] | None:
    """Return (row, column) of a random pixel of a class sampled uniformly; None without classes."""
    present = np.flatnonzero(cv2.calcHist([label], [0], None, [256], [0, 256])[:UNLABELLED])
    if not present.size:
        return None
    hits = label == random.choice(present)
    in_row = hits.sum(1)
    row = int(random.choice(len(hits), p=in_row / in_row.sum()))
    return row, int(random.choice(np.flatnonzero(hits[row])))


def recolour(image: Image, strength: float, random: Random) -> Image:
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


def relight(image: Image, strength: float, random: Random) -> Image:
    """Change the light, in half of the calls; at a strength of 1 down to dusk.

    In linear light, exposure by -3 to +1 stops and colour temperature as gains of red against blue of up to
    1.5 (Afifi and Brown, ICCV 2019); then gamma of up to 1.3, and blur of up to 1.5 pixels and noise of up to
    20 of 255 (Hendrycks and Dietterich, ICLR 2019). All ranges are proportional to the strength.
    """
    if strength == 0 or random.random() < 0.5:
        return image
    stops, warmth, gamma, blur, noise = strength * random.uniform((-3, -1, -1, 0, 0), (1, 1, 1, 1.5, 20))
    gains = 2**stops * 1.5 ** (warmth * np.array([1, 0, -1]))
    light = np.minimum((np.arange(256)[:, None] / 255) ** GAMMA * gains, 1)
    table = np.rint(255 * light ** (1.3**gamma / GAMMA)).astype(np.uint8)
    image = np.asarray(cv2.LUT(image, table[:, None]), np.uint8)
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), max(blur, 0.1)), np.uint8)
    grain = random.standard_normal(image.shape, np.float32) * np.float32(noise)
    return np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)


def perturb(image: Image, random: Random) -> Image:
    """Change colour and light strongly: the student's view (FixMatch, Sohn et al., NeurIPS 2020)."""
    if random.random() < GREY:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    return relight(recolour(image, 0.5, random), 1.0, random)


def rare_classes(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which ids are rare, bool (256,): the half of the classes that has the fewest pixels.

    Args:
        counts: pixels of each id, (256,).
    """
    present = np.flatnonzero(counts[:UNLABELLED])
    rare = np.zeros(256, np.bool_)
    rare[present[np.argsort(counts[present])[: len(present) // 2]]] = True
    return rare


def mix_classes(
    images: Image, labels: Image, rare: NDArray[np.bool_], fraction: float, random: Random
) -> None:
    """Paste the rare classes of the next crop of a batch (after ClassMix, Olsson et al., WACV 2021).

    Args:
        images: uint8 (N, h, w, 3), changed in place.
        labels: uint8 (N, h, w), changed in place.
        rare: from `rare_classes`.
        fraction: probability of each crop.
        random: the generator.
    """
    _paste(images, labels, rare[np.roll(labels, -1, 0)], fraction, random)


def mix_boxes(images: Image, labels: Image, fraction: float, random: Random) -> None:
    """Paste a box of the next crop of a batch (CutMix; French et al., BMVC 2020); arguments as `mix_classes`.

    Its sides are 1/4 to 3/4 of the crop's.
    """
    boxes = np.zeros(labels.shape, np.bool_)
    for box in boxes:
        height, width = (int(side * random.uniform(0.25, 0.75)) for side in box.shape)
        top, left = random.integers(box.shape[0] - height + 1), random.integers(box.shape[1] - width + 1)
        box[top : top + height, left : left + width] = True
    _paste(images, labels, boxes, fraction, random)


def _paste(images: Image, labels: Image, where: NDArray[np.bool_], fraction: float, random: Random) -> None:
    """Replace pixels of a fraction of the crops by those of the next crop."""
    where = where & (random.random(len(labels)) < fraction)[:, None, None]
    for array in (images, labels):
        array[where] = np.roll(array, -1, 0)[where]
