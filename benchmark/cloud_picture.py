# SPDX-License-Identifier: Apache-2.0
"""A picture of a labelled cloud: a rendered street with its depth, segmented, seen from above the camera.

`python -m benchmark.cloud_picture FILE` labels the points by the functions behind the node's `~/points`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from benchmark.rendered_street import CAMERA, render, street
from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.image.point_cloud import Pinhole, project
from lw_refinenet_ros.labels import LabelSet

EYE = Pinhole(520, 1280, 800.0, 800.0, 690.0, 190.0)  # that sees the cloud
EYE_AT, EYE_PITCH, EYE_YAW = (-1.6, -2.6, 0.6), 0.2, 0.06  # metres and radians, from the camera


def look(xyz: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Draw points (3, N) of colours (N, 3) as `EYE` sees them, uint8 (H, W, 3) on white."""
    (sp, cp), (sy, cy) = ((np.sin(a), np.cos(a)) for a in (EYE_PITCH, EYE_YAW))
    turn = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    x, y, z = turn @ (xyz - np.array(EYE_AT)[:, None])
    # The sides of a point are three times those of the pixel that it was.
    half = 1.5 * EYE.fx / CAMERA.fx * xyz[2] / np.maximum(z, 0.1)
    picture = np.full((EYE.height * EYE.width, 3), 24, np.uint8)
    nearest = np.full(EYE.height * EYE.width, np.inf)
    for paints in (False, True):  # when the nearest point of every pixel is known
        for down, right in np.ndindex(9, 9):
            u = np.rint(EYE.fx * x / z + EYE.cx).astype(int) + right - 4
            v = np.rint(EYE.fy * y / z + EYE.cy).astype(int) + down - 4
            drawn = (z > 0.5) & (max(abs(down - 4), abs(right - 4)) <= half)
            drawn &= (u >= 0) & (u < EYE.width) & (v >= 0) & (v < EYE.height)
            at = v[drawn] * EYE.width + u[drawn]
            if paints:
                front = z[drawn] <= nearest[at]
                picture[at[front]] = colors[drawn][front]
            else:
                np.minimum.at(nearest, at, z[drawn])
    return picture.reshape(EYE.height, EYE.width, 3)


def legend(labels: LabelSet, present: np.ndarray) -> np.ndarray:
    """Return the names of classes beside their colours, uint8 (40, W, 3)."""
    strip, x = np.full((40, EYE.width, 3), 255, np.uint8), 8
    for index in present:
        cv2.rectangle(strip, (x, 10), (x + 20, 30), labels.colors[index], cv2.FILLED)
        name = labels.names[index]
        cv2.putText(strip, name, (x + 28, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (40,) * 3, 1, cv2.LINE_AA)
        x += 52 + cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)[0][0]
    return strip


def draw(path: Path) -> None:
    """Render, segment, project; write the cloud beside the image that it was labelled from."""
    random = np.random.default_rng(4)
    image, depth, _ = render(street(random), random)
    result = Segmenter.load('camvid', precision='fp32').segment(image)
    xyz = np.empty((3, *depth.shape), np.float32)
    project(depth, CAMERA, xyz)
    known = np.isfinite(depth)
    picture = look(xyz[:, known], result.overlay(0.65)[known])
    small = cv2.resize(image, None, fx=0.42, fy=0.42, interpolation=cv2.INTER_AREA)
    picture[-small.shape[0] :, : small.shape[1]] = small
    ids, counts = np.unique(result.label[known], return_counts=True)
    strip = legend(result.labels, ids[counts > 300])
    cv2.imwrite(str(path), np.vstack([picture, strip])[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


if __name__ == '__main__':
    draw(Path(sys.argv[1]))
