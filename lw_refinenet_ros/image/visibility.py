# SPDX-License-Identifier: Apache-2.0
"""Which pixel of an image shows a point: points in the frame of any sensor, hidden ones left out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.image.point_cloud import Pinhole

__all__ = ['Pose', 'locate', 'look_up']

STEEPEST = 0.5  # parallax per pixel of a surface, which is steeper only within two baselines of the camera
WIDEST = 16  # pixels of a window, however few points there are


@dataclass(frozen=True)
class Pose:
    """Where a frame lies in that of a camera: a point is at rotation @ point + position there.

    Attributes:
        position: float64 (3,), in metres.
        rotation: float64 (3, 3).

    """

    position: npt.NDArray[np.float64]
    rotation: npt.NDArray[np.float64]

    @classmethod
    def build(cls, values: tuple[float, ...]) -> Pose:
        """Build from x, y, z in metres and the quaternion qx, qy, qz, qw, of any length.

        Raises:
            ValueError: these are not seven finite numbers, or the quaternion is zero.

        """
        numbers = np.array(values, float)
        if numbers.shape != (7,) or not np.isfinite(numbers).all() or not numbers[3:].any():
            given = ' '.join(map(str, values))
            raise ValueError(f'a pose is x y z qx qy qz qw, seven numbers, not {given!r}')
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
    stride = width + 2
    intrinsics = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    matrix, shift = ((intrinsics @ part).astype(np.float32) for part in (pose.rotation, pose.position))
    projected = matrix @ xyz.reshape(3, -1)
    projected += shift[:, None]
    near = np.maximum(projected[2], 0)
    np.reciprocal(near, out=near)  # inf behind the camera
    for pixel, side in zip(projected, (width, height)):
        pixel *= near
        pixel += np.float32(1.5)  # the border, and half a pixel to round
        # Floats are ordered as their bits are, NaN and below 0 come last: all that lie beside the image.
        bits = pixel.view(np.uint32)
        np.minimum(bits, np.float32(side + 1).view(np.uint32), out=bits)
    column, row = projected[:2].astype(np.int32)
    row *= stride
    row += column
    index: npt.NDArray[np.intp] = row.astype(np.intp)

    reach = _parallax(camera, pose, baseline)
    if reach:
        nearest = np.zeros((height + 2, stride), np.float32)
        np.maximum.at(nearest.reshape(-1), index, near)
        nearest[[0, -1]] = nearest[:, [0, -1]] = 0
        window = _spacing(nearest)
        around = cv2.dilate(nearest, np.ones((2 * window + 1, 2 * window + 1), np.uint8)).reshape(-1)
        np.subtract(around, STEEPEST * (window + 1) / reach, out=around)
        index[around.take(index) > near] = 0
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
    padded = np.full((image.shape[0] + 2, image.shape[1] + 2), outside, np.uint32)
    padded[1:-1, 1:-1] = image
    return padded.reshape(-1).take(index)


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
