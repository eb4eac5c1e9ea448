# SPDX-License-Identifier: Apache-2.0
"""The arrays and pictures that Python code has at hand, as the image that a segmenter reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.image.encodings import Order
from lw_refinenet_ros.image.frame import Pixels

__all__ = ['as_image']

NEEDED = 'uint8 (H, W, 3) is needed'


def as_image(image: Any, order: Order = 'rgb') -> Pixels:
    """Return an image as uint8 (H, W, 3); without a copy where it is one, or has an alpha channel.

    Args:
        image: uint8 (H, W, 3); uint8 (H, W) or (H, W, 1), which is grey; uint8 (H, W, 4), whose alpha is
            ignored; or a Pillow image of any mode, which is converted to RGB.
        order: of the channels that are returned.

    Raises:
        ValueError: it is none of these; the message shows how to convert it.
    """
    if hasattr(image, 'convert') and hasattr(image, 'mode'):  # Pillow's, without importing it
        rgb = np.asarray(image.convert('RGB'))
        return rgb if order == 'rgb' else rgb[..., ::-1]
    if not isinstance(image, np.ndarray):
        raise ValueError(f'the image is a {type(image).__name__}; {NEEDED}: {_remedy(image)}')
    if image.dtype != np.uint8:
        raise ValueError(f'the image is {image.dtype} {image.shape}; {NEEDED}: {_to_bytes(image)}')
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.ndim == 3 and image.shape[2] == 4:
        return image[..., :3]
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'the image is uint8 {image.shape}; {NEEDED}{_arrange(image.shape)}')
    return image


def _remedy(image: object) -> str:
    if type(image).__module__.split('.')[0] == 'torch':
        return 'image.permute(1, 2, 0).cpu().numpy() for (3, H, W), times 255 and as uint8 if it is in [0, 1]'
    if isinstance(image, (str, bytes)) or hasattr(image, '__fspath__'):
        return "read the file first: cv2.imread(path) with order='bgr', or PIL.Image.open(path)"
    return 'numpy.asarray(image, numpy.uint8)'


def _to_bytes(image: npt.NDArray[Any]) -> str:
    if image.dtype == np.uint16:
        return '(image >> 8).astype(numpy.uint8) if it fills 16 bits'
    if image.dtype.kind == 'f':
        return '(image * 255).round().astype(numpy.uint8) if it is in [0, 1]'
    if image.dtype.kind == 'b':
        return 'image.astype(numpy.uint8) * 255'
    return 'image.astype(numpy.uint8) if it is in [0, 255]'


def _arrange(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return ': image.transpose(1, 2, 0)'
    if len(shape) == 4:
        return ': segment_batch(images) takes several'
    return ''
