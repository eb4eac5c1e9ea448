# SPDX-License-Identifier: Apache-2.0
"""Pixels that are never labelled, such as those of the robot's own body."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lw_refinenet_ros.image.frame import Pixels
from lw_refinenet_ros.image.label_png import content_of, read_label_png
from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.one_line import reason

__all__ = ['misfit', 'read_ignore_mask', 'unlabel']


def read_ignore_mask(path: Path | str | None) -> Pixels | None:
    """Read an `ignore_mask`: uint8 (H, W), 255 where it is not 0, else 0; None without a path.

    Raises:
        ValueError: it cannot be read, or is not such a PNG as labels are.
    """
    if not path:
        return None
    try:
        if (kind := content_of(path)) not in ('ids', 'palette'):  # else it would be told about class ids
            raise ValueError(f'{path} is {"in colour" if kind else "no PNG"}')
        return np.where(read_label_png(path), np.uint8(UNLABELLED), np.uint8(0))
    except OSError as error:
        raise ValueError(f'ignore_mask: {path}: {reason(error)}') from error
    except ValueError as error:
        raise ValueError(f'ignore_mask: {error}; use a greyscale PNG of 8 bits') from error


def misfit(ignored: Pixels | None, size: tuple[int, int]) -> str:
    """Return in one line why an ignore mask does not fit images of (height, width), or an empty string."""
    if ignored is None or ignored.shape == size:
        return ''
    (height, width), (rows, columns) = size, ignored.shape
    return f'ignore_mask is {columns}x{rows}, the image {width}x{height}: give one of its size'


def unlabel(label: Pixels, ignored: Pixels | None) -> None:
    """Set the ignored pixels of a label, uint8 (H, W), to unlabelled.

    Raises:
        ValueError: the mask is of another size.
    """
    if fault := misfit(ignored, label.shape):
        raise ValueError(fault)
    if ignored is not None:
        np.maximum(label, ignored, out=label)  # UNLABELLED is the highest id
