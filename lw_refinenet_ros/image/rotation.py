# SPDX-License-Identifier: Apache-2.0
"""Rotate images of a camera that is mounted upside down or sideways."""

from __future__ import annotations

import cv2
import numpy as np

from lw_refinenet_ros.image.frame import Pixels

__all__ = ['ROTATIONS', 'rotate']

_CODES = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
ROTATIONS = (0, *_CODES)  # degrees clockwise


def rotate(image: Pixels, degrees: int, out: Pixels | None = None) -> Pixels:
    """Rotate an image clockwise.

    Args:
        image: uint8 (H, W) or (H, W, 3), any strides.
        degrees: one of `ROTATIONS`.
        out: C-contiguous, of the rotated shape, to write the result into unless `degrees` is 0.

    Returns:
        The image itself for 0 degrees; else the rotated one, which is `out` if that was given.
    """
    if degrees == 0:
        return image
    if out is None:
        height, width = image.shape[:2]
        out = np.empty((width, height, *image.shape[2:]) if degrees % 180 else image.shape, np.uint8)
    cv2.rotate(image, _CODES[degrees], dst=out)
    return out
