# SPDX-License-Identifier: Apache-2.0
"""How far rectification moves the pixels of a camera's raw images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

__all__ = ['largest_shift']

GRID = 16  # pixels looked at, across and down
FISHEYE = 'equidistant'


def largest_shift(info: Any) -> float:
    """Return how far apart a point's pixels in the raw and in the rectified image are at most.

    Args:
        info: a sensor_msgs/CameraInfo.

    Returns:
        A share of the width; 0 if it is not calibrated, or of a model of distortion that OpenCV does not
        know.
    """
    raw, rotation = np.reshape(info.k, (3, 3)), np.reshape(info.r, (3, 3))
    rectified = np.reshape(info.p, (3, 4))[:, :3] if any(info.p) else raw
    across, down = np.linspace(0, info.width - 1, GRID), np.linspace(0, info.height - 1, GRID)
    pixels = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2)
    try:
        ray_of = np.linalg.inv(rectified @ (rotation if rotation.any() else np.eye(3)))
        rays = np.column_stack([pixels, np.ones(len(pixels))]) @ ray_of.T
        coefficients = np.array(info.d) if len(info.d) else np.zeros(4)
        if info.distortion_model == FISHEYE:
            there = cv2.fisheye.distortPoints((rays[:, None, :2] / rays[:, None, 2:]), raw, coefficients)
        else:
            there, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), raw, coefficients)
    except (np.linalg.LinAlgError, cv2.error):
        return 0.0
    there = there.reshape(-1, 2)
    seen = ((there >= 0) & (there < (info.width, info.height))).all(1)
    return float(np.hypot(*(there - pixels)[seen].T).max(initial=0) / max(info.width, 1))
