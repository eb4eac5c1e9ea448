# SPDX-License-Identifier: Apache-2.0
"""Label images in the colours of their classes, alone and over an image."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import cv2
import numpy as np

from lw_refinenet_ros.image.encodings import ColorImage, Order, to_rgb
from lw_refinenet_ros.image.frame import Pixels
from lw_refinenet_ros.labels import OPACITY, UNLABELLED, UNLABELLED_NAME, LabelSet

__all__ = ['blend_table', 'paint_label', 'paint_mask', 'paint_overlay']


def paint_label(label: Pixels, labels: LabelSet, out: Pixels | None = None) -> Pixels:
    """Paint every pixel in the colour of its class.

    Args:
        label: uint8 (H, W) class ids.
        labels: the classes.
        out: uint8 (H, W, 3), C-contiguous, to write the result into.

    Returns:
        uint8 (H, W, 3) RGB; `out` if it was given.

    Raises:
        ValueError: an array is of another shape or type.
    """
    _check('label', label, label.shape[:2])
    out = _output(out, (*label.shape, 3))
    cv2.applyColorMap(label, labels.palette.reshape(256, 1, 3), dst=out)  # twice as fast as np.take
    return out


def paint_mask(
    label: Pixels, labels: LabelSet, classes: Collection[str], out: Pixels | None = None
) -> Pixels:
    """Mark the pixels of some classes.

    Args:
        label: uint8 (H, W) class ids.
        labels: the classes.
        classes: names, `unlabelled` among them for the id 255.
        out: uint8 (H, W), C-contiguous, to write the result into.

    Returns:
        uint8 (H, W), 255 for these classes and 0 for all others; `out` if it was given.

    Raises:
        ValueError: a class name, or an array's shape or type, is not as above.
    """
    _check('label', label, label.shape[:2])
    marks = _unpainted(labels, tuple(name for name in classes if name != UNLABELLED_NAME)).copy()
    if UNLABELLED_NAME in classes:
        marks[UNLABELLED] = 0
    out = _output(out, label.shape)
    cv2.LUT(label, ~marks, dst=out)
    return out


def paint_overlay(
    image: Pixels,
    label: Pixels,
    labels: LabelSet,
    alpha: float = OPACITY,
    classes: Collection[str] | None = None,
    order: Order = 'rgb',
    out: Pixels | None = None,
) -> Pixels:
    """Blend the classes' colours into an image: (1 - alpha) * image + alpha * color.

    Args:
        image: uint8 (H, W, 3), of any strides.
        label: uint8 (H, W) class ids; where an id has no class, the image stays.
        labels: the classes.
        alpha: 0 (the image) to 1 (the colours).
        classes: names of the classes to paint; the others leave the image as it is. None paints all.
        order: of the image's channels.
        out: uint8 (H, W, 3), C-contiguous, to write the result into; not the image's own memory.

    Returns:
        uint8 (H, W, 3) RGB; `out` if it was given.

    Raises:
        ValueError: alpha, a class name, or an array's shape or type is not as above.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f'alpha {alpha} must be from 0 to 1')
    _check('label', label, label.shape[:2])
    _check('image', image, (*label.shape, 3))
    unpainted = _unpainted(labels, None if classes is None else tuple(classes))
    if order == 'bgr' or image.strides[1:] != (3, 1):
        image = to_rgb(ColorImage(image, order))
    out = paint_label(label, labels, out)
    cv2.addWeighted(image, 1 - alpha, out, alpha, 0, dst=out)
    if unpainted[: int(label.max(initial=0)) + 1].any():  # else every pixel has an id that is painted
        cv2.copyTo(image, cv2.LUT(label, unpainted), out)
    return out


@lru_cache(maxsize=8)
def blend_table(
    labels: LabelSet, alpha: float | None = None, classes: tuple[str, ...] | None = None
) -> Pixels:
    """Return what `paint_overlay` makes of each id and byte, uint8 (256 ids, 256 bytes, 3 RGB), read-only.

    Without `alpha`, it is what `paint_label` makes of the id.
    """
    ids, values = np.indices((256, 256), np.uint8)
    if alpha is None:
        table = paint_label(ids, labels)
    else:
        table = paint_overlay(np.repeat(values[..., None], 3, 2), ids, labels, alpha, classes)
    table.flags.writeable = False
    return table


@lru_cache(maxsize=8)
def _unpainted(labels: LabelSet, classes: tuple[str, ...] | None) -> Pixels:
    """Mark the ids that are not painted: uint8 (256,), 255 or 0, read-only."""
    painted = set(labels.names if classes is None else classes)
    if unknown := sorted(painted.difference(labels.names)):
        names = ', '.join(map(repr, unknown))
        raise ValueError(f'no class {names}: {labels.name} has {", ".join(labels.names)}')
    marks = np.full(256, 255, np.uint8)
    marks[[index for index, name in enumerate(labels.names) if name in painted]] = 0
    marks.flags.writeable = False
    return marks


def _output(out: Pixels | None, shape: tuple[int, ...]) -> Pixels:
    """Return the array that OpenCV can write into."""
    if out is None:
        return np.empty(shape, np.uint8)
    _check('out', out, shape)
    if not (out.flags.c_contiguous and out.flags.writeable):  # OpenCV would leave it untouched
        raise ValueError('out must be writeable and C-contiguous')
    return out


def _check(what: str, array: Pixels, shape: tuple[int, ...]) -> None:
    """Refuse an array that is not uint8 of this shape."""
    if array.dtype != np.uint8 or array.shape != shape:
        raise ValueError(f'{what} is {array.dtype} {array.shape}: it must be uint8 {shape}')
