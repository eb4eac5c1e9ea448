# SPDX-License-Identifier: Apache-2.0
"""Labelled points: depth through a pinhole camera, with the colours and labels of an image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.image.encodings import Order
from lw_refinenet_ros.image.frame import Frame, FrameError

__all__ = [
    'DEPTH_ENCODINGS',
    'POINT',
    'Pinhole',
    'metres',
    'pack_class',
    'pack_color',
    'project',
    'write_points',
]

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


def metres(frame: Frame, out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
    """Convert a depth image to float32 (H, W) in metres, in `out` if given; NaN where it has no depth.

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
    depth: npt.NDArray[np.float32] = np.divide(raw, np.float32(units), out=out, dtype=np.float32)
    depth[raw == 0 if dtype.kind == 'u' else ~((depth > 0) & (depth < np.inf))] = np.nan
    return depth


def project(depth: npt.NDArray[np.float32], camera: Pinhole, xyz: npt.NDArray[np.float32]) -> None:
    """Write x, y and z of every pixel's point.

    Args:
        depth: float32 (H, W), metres along the optical axis, NaN where unknown: then all three are NaN. It is
            not copied if it is the last plane of `xyz`.
        camera: that saw them.
        xyz: float32 (3, H, W).

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
    np.multiply(depth, across, out=xyz[0])
    np.multiply(depth, down[:, None], out=xyz[1])
    if not np.may_share_memory(depth, xyz[2]):
        xyz[2] = depth


def pack_color(image: npt.NDArray[np.uint8], order: Order) -> npt.NDArray[np.uint32]:
    """Pack uint8 (H, W, 3) as PCL does, 0x00RRGGBB, uint32 (H, W)."""
    if image.strides[1:] != (3, 1):
        image = np.ascontiguousarray(image)
    code = cv2.COLOR_RGB2BGRA if order == 'rgb' else cv2.COLOR_BGR2BGRA
    packed: npt.NDArray[np.uint32] = cv2.cvtColor(image, code).view('<u4')[..., 0]
    packed &= np.uint32(0xFFFFFF)  # with the fourth byte set, the float of these four could be NaN
    return packed


def pack_class(label: npt.NDArray[np.uint8], confidence: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Pack label and confidence, uint8 (H, W), as the last two fields of `POINT`, uint32 (H, W)."""
    zero = np.zeros_like(label)
    packed: npt.NDArray[np.uint32] = cv2.merge([label, zero, confidence, zero]).view('<u4')[..., 0]
    return packed


def write_points(
    points: npt.NDArray[np.void],
    xyz: npt.NDArray[np.float32],
    color: npt.NDArray[np.uint32],
    classes: npt.NDArray[np.uint32],
) -> None:
    """Write whole points: `POINT` (H, W), C-contiguous.

    Args:
        points: to be written.
        xyz: float32 (3, H, W).
        color: uint32 (H, W), of `pack_color`.
        classes: uint32 (H, W), of `pack_class`.
    """
    fields = points.view('<f4').reshape(*points.shape, POINT.itemsize // 4)
    cv2.merge([*xyz, color.view('<f4'), classes.view('<f4')], fields)
