# SPDX-License-Identifier: Apache-2.0
"""A labelled point for every pixel: depth through a pinhole camera, colours and labels beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.image.frame import FrameError

if TYPE_CHECKING:
    from lw_refinenet_ros.image.encodings import Order
    from lw_refinenet_ros.image.frame import Frame

__all__ = ['DEPTH_ENCODINGS', 'POINT', 'Pinhole', 'metres', 'paint', 'project']

# Metres in the optical frame (x right, y down, z ahead), the colour as PCL packs it, and what the pixels of
# the label and confidence images say: 16 bits each keep the floats aligned without padding.
POINT = np.dtype(
    [('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('rgb', '<f4'), ('label', '<u2'), ('confidence', '<u2')]
)
DEPTH_ENCODINGS = {'16UC1': ('u2', 1000.0), 'mono16': ('u2', 1000.0), '32FC1': ('f4', 1.0)}  # units per metre


@dataclass(frozen=True)
class Pinhole:
    """The camera that sees rectified images of (height, width): focal lengths and centre in pixels.

    The centre of the first pixel is at (0, 0).

    Raises:
        ValueError: a focal length is not a positive number.

    """

    height: int
    width: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if not (0 < self.fx < np.inf and 0 < self.fy < np.inf and np.isfinite((self.cx, self.cy)).all()):
            raise ValueError(
                f'fx={self.fx}, fy={self.fy}, cx={self.cx}, cy={self.cy} are invalid: calibrate the camera'
            )


def metres(frame: Frame) -> npt.NDArray[np.float32]:
    """Convert a depth image to float32 (H, W) in metres; NaN where it has no depth.

    16UC1 and mono16 are millimetres, 0 is no depth; 32FC1 is metres, what is not positive and finite is none.

    Raises:
        FrameError: 'encoding' (another one) or 'step' (smaller than a row).

    """
    if frame.encoding not in DEPTH_ENCODINGS:
        raise FrameError(
            f'depth of encoding {frame.encoding!r} is not supported: use {", ".join(DEPTH_ENCODINGS)}',
            'encoding',
        )
    kind, units = DEPTH_ENCODINGS[frame.encoding]
    dtype = np.dtype(('>' if frame.is_bigendian else '<') + kind)
    row = frame.width * dtype.itemsize
    if frame.step < row:
        raise FrameError(
            f'step {frame.step} is smaller than a row of {frame.encoding}: width {frame.width} needs {row}',
            'step',
        )
    raw = np.ndarray(
        (frame.height, frame.width), dtype, frame.data.data, strides=(frame.step, dtype.itemsize)
    )
    depth: npt.NDArray[np.float32] = np.divide(raw, np.float32(units), dtype=np.float32)
    depth[~((depth > 0) & (depth < np.inf))] = np.nan
    return depth


def project(depth: npt.NDArray[np.float32], camera: Pinhole, points: npt.NDArray[np.void]) -> None:
    """Write x, y and z of every pixel's point.

    Args:
        depth: float32 (H, W), metres along the optical axis, NaN where unknown: then all three are NaN.
        camera: that saw them.
        points: `POINT` (H, W).

    Raises:
        ValueError: the depths are of another size than the camera's images.

    """
    height, width = depth.shape
    if (height, width) != (camera.height, camera.width):
        raise ValueError(
            f'depth is {width}x{height}, camera_info is of {camera.width}x{camera.height}: use matching ones'
        )
    across = ((np.arange(width) - camera.cx) / camera.fx).astype(np.float32)
    down = ((np.arange(height) - camera.cy) / camera.fy).astype(np.float32)
    np.multiply(depth, across, out=points['x'])
    np.multiply(depth, down[:, None], out=points['y'])
    points['z'] = depth


def paint(
    points: npt.NDArray[np.void],
    image: npt.NDArray[np.uint8],
    order: Order,
    label: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.uint8],
) -> None:
    """Write colour, label and confidence of every pixel's point.

    Args:
        points: `POINT` (H, W), C-contiguous.
        image: uint8 (H, W, 3).
        order: of its channels, 'rgb' or 'bgr'.
        label: uint8 (H, W), as is the confidence.
        confidence: 0-255.

    """
    # 0x00RRGGBB in a float's four bytes, blue first; with the fourth set it could be NaN.
    colour = points.view(np.uint8).reshape(*points.shape, POINT.itemsize)[..., 12:16]
    colour[..., :3] = image[..., ::-1] if order == 'rgb' else image
    colour[..., 3] = 0
    points['label'], points['confidence'] = label, confidence
