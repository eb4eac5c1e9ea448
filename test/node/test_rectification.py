# SPDX-License-Identifier: Apache-2.0
"""How far rectification moves pixels, against OpenCV's maps of every pixel."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.node.doctor.rectification import largest_shift

HEIGHT, WIDTH = 480, 640
K = np.array([[520.0, 0, 322], [0, 515, 238], [0, 0, 1]])
R = cv2.Rodrigues(np.array([0.01, -0.02, 0.005]))[0]
P = np.array([[480.0, 0, 310, -50], [0, 480, 245, 0], [0, 0, 1, 0]])


def info(d=(), r=None, p=None, model='plumb_bob', k=K):
    r, p = np.zeros((3, 3)) if r is None else r, np.zeros((3, 4)) if p is None else p
    return SimpleNamespace(
        height=HEIGHT, width=WIDTH, distortion_model=model, d=[*d], k=k.ravel(), r=r.ravel(), p=p.ravel()
    )


@pytest.mark.parametrize(
    ('d', 'r', 'p', 'model'),
    [
        ([-0.1, 0.02, 1e-3, -1e-3, 0], None, None, 'plumb_bob'),
        ([-0.1, 0.02, 1e-3, -1e-3, 0], R, P, 'plumb_bob'),
        ([0.5, 0.1, 0, 0, 0, 0.6, 0.1, 0], None, P, 'rational_polynomial'),
        ([], R, P, 'plumb_bob'),
        ([0.03, -0.01, 0.002, 0], R, P, 'equidistant'),
    ],
)
def test_the_largest_shift_is_that_of_the_maps(d, r, p, model):
    library = cv2.fisheye if model == 'equidistant' else cv2
    target, turned = K if p is None else p[:, :3], np.eye(3) if r is None else r
    size = (WIDTH, HEIGHT)
    maps = library.initUndistortRectifyMap(K, np.array([*d] or [0.0] * 4), turned, target, size, cv2.CV_32FC1)
    there, here = np.stack(maps), np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)))
    seen = (there[0] >= 0) & (there[0] < WIDTH) & (there[1] >= 0) & (there[1] < HEIGHT)
    expected = np.hypot(*(there - here))[seen].max() / WIDTH
    assert expected > 0.005
    assert largest_shift(info(d, r, p, model)) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    'given',
    [
        info(),
        info(np.zeros(5), np.eye(3), np.hstack([K, np.zeros((3, 1))])),
        info([0.1] * 5, k=np.zeros((3, 3))),  # not calibrated
        info([0.1] * 6),  # of a model that OpenCV does not know
        info([0.1] * 3, model='equidistant'),
        info([float('nan')] * 5),
    ],
)
def test_a_rectified_an_uncalibrated_and_an_unknown_camera_shift_nothing(given):
    assert largest_shift(given) == pytest.approx(0, abs=1e-9)
