# SPDX-License-Identifier: Apache-2.0
"""Which pixel of an image shows a point: points in the frame of any sensor, hidden ones left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.image.point_cloud import Pinhole

__all__ = ['Pose', 'locate', 'look_up']

STEEPEST = 0.5  # parallax per pixel of a surface, which is steeper only within two baselines of the camera
WIDEST = 16  # pixels of a window, however few points there are


@dataclass(frozen=True)
class Pose:
    """Where a frame lies in that of a camera: a point is at rotation @ point + position there."""

    position: npt.NDArray[np.float64]  #: float64 (3,), in metres
    rotation: npt.NDArray[np.float64]  #: float64 (3, 3)

    @classmethod
    def build(cls, values: tuple[float, ...]) -> Pose:
        """Build from x, y, z in metres and the quaternion qx, qy, qz, qw, of any length.

        Raises:
            ValueError: these are not seven finite numbers, or the quaternion is zero.
        """
        numbers = np.array(values, float)
        if numbers.shape != (7,) or not np.isfinite(numbers).all() or not numbers[3:].any():
            given = ' '.join(map(str, values))
            raise ValueError(
                f'a pose is x y z qx qy qz qw, seven numbers, not {given!r}; without rotation, qw is 1'
            )
        x, y, z, w = numbers[3:] / np.linalg.norm(numbers[3:])
        rotation = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        return cls(numbers[:3], np.array(rotation))


@np.errstate(divide='ignore', invalid='ignore', over='ignore')
def locate(
    xyz: npt.NDArray[np.float32], camera: Pinhole, pose: Pose, baseline: float = 0.0
) -> npt.NDArray[np.intp]:
    """Find the pixel that shows each point.

    A point is hidden behind a nearer one in the same window of the image, as wide as the points lie apart, if
    the parallax of the two viewpoints moves the nearer by more pixels than a slanted surface of both would.

    Args:
        xyz: float32 (3, H, W), metres; NaN where there is no point.
        camera: that took the image.
        pose: of the points' frame, whose origin they were seen from, in the camera's optical frame.
        baseline: least distance in metres of the viewpoints, for points that came from elsewhere.

    Returns:
        An index into the image with a border of one pixel, (H, W); points that the image does not show have
        one in the border.
    """
    height, width = camera.height, camera.width
    intrinsics = np.array([[camera.fx, 0, camera.cx + 1], [0, camera.fy, camera.cy + 1], [0, 0, 1]])  # border
    matrix, shift = intrinsics @ pose.rotation, intrinsics @ pose.position
    x, y, z = xyz.reshape(3, 1, -1)

    def project(axis: int) -> Any:
        from_x, from_y, from_z = matrix[axis]
        projected = cv2.addWeighted(x, from_x, y, from_y, shift[axis])
        return cv2.scaleAdd(z, from_z, projected, projected)

    near = project(2)
    cv2.threshold(near, 0, 0, cv2.THRESH_TOZERO, near)
    np.reciprocal(near, out=near)  # inf behind the camera

    def pixel(axis: int, side: int) -> Any:
        # Rounded to 16 bits; NaN becomes 0, and so does infinity, or the largest
        pixels = cv2.multiply(project(axis), near, dtype=cv2.CV_16U)
        return cv2.threshold(pixels, side + 1, 0, cv2.THRESH_TRUNC, pixels)[1][0]

    row = pixel(1, height).astype(np.int32)
    row *= width + 2
    row += pixel(0, width)
    index: npt.NDArray[np.intp] = row.astype(np.intp)

    reach = _parallax(camera, pose, baseline)
    if reach:
        nearest = np.zeros((height + 2, width + 2), np.float32)
        np.maximum.at(nearest.reshape(-1), index, near[0])
        nearest[[0, -1]] = nearest[:, [0, -1]] = 0
        window = _spacing(nearest)
        square = np.ones((2 * window + 1, 2 * window + 1), np.uint8)
        around = cv2.dilate(nearest, square, borderType=cv2.BORDER_REPLICATE).reshape(-1)
        np.subtract(around, STEEPEST * (window + 1) / reach, out=around)
        index[around.take(index, mode='wrap') > near[0]] = 0  # wrapping is cheaper than a check
    return index.reshape(xyz.shape[1:])


def look_up(
    image: npt.NDArray[np.uint32], index: npt.NDArray[np.intp], outside: int
) -> npt.NDArray[np.uint32]:
    """Return the pixels that `locate` found.

    Args:
        image: uint32 (H, W).
        index: from `locate`, for this size.
        outside: value of points that the image does not show.
    """
    padded = cv2.copyMakeBorder(image.view(np.int32), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=outside)
    found: npt.NDArray[np.uint32] = padded.view(np.uint32).reshape(-1).take(index, mode='wrap')
    return found


def _parallax(camera: Pinhole, pose: Pose, baseline: float) -> float:
    """Return how far the viewpoints move a point of 1 m depth apart in the image, at most, in pixels."""
    x, y, z = np.abs(pose.position)
    left, up = max(camera.cx, camera.width - camera.cx), max(camera.cy, camera.height - camera.cy)
    pixels = np.hypot(camera.fx * x + left * z, camera.fy * y + up * z)
    return float(max(pixels, baseline * camera.fx))


def _spacing(nearest: npt.NDArray[np.float32]) -> int:
    """Return how far apart the points lie in an image that is 0 where there is none, in whole pixels."""
    area = nearest.size / max(int(cv2.countNonZero(nearest)), 1)
    return min(max(1, round(math.sqrt(area))), WIDEST)
