# SPDX-License-Identifier: Apache-2.0
"""Points of pixels, against geometry that is known exactly."""

import numpy as np
import pytest

from lw_refinenet_ros.image.frame import Frame, FrameError
from lw_refinenet_ros.image.point_cloud import (
    POINT,
    Pinhole,
    metres,
    pack_class,
    pack_color,
    project,
    write_points,
)

CAMERA = Pinhole(height=96, width=128, fx=100.0, fy=80.0, cx=63.5, cy=40.25)
NORMAL, DISTANCE = np.array([0.1, -0.5, 0.8]), 2.0  # the plane n . p = d


def rays(camera):
    """(H, W, 3) of each pixel, z = 1."""
    v, u = np.mgrid[: camera.height, : camera.width].astype(float)
    return np.dstack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)])


def depth_frame(array, encoding, *, padding=0, big=False):
    rows = array.astype(array.dtype.newbyteorder('>' if big else '<')).view(np.uint8)
    rows = np.pad(rows.reshape(len(array), -1), ((0, 0), (0, padding)), constant_values=255)
    height, width = array.shape
    return Frame(0, '', height, width, encoding, rows.shape[1], rows.reshape(-1), big)


def test_the_depths_of_a_plane_give_points_on_that_plane_and_on_each_pixels_ray():
    directions = rays(CAMERA)
    depth = (DISTANCE / (directions @ NORMAL)).astype(np.float32)
    planes = np.empty((3, *depth.shape), np.float32)
    project(depth, CAMERA, planes)
    xyz = np.moveaxis(planes, 0, -1).astype(float)
    np.testing.assert_allclose(xyz @ NORMAL, DISTANCE, rtol=1e-5)
    np.testing.assert_allclose(xyz, depth[..., None] * directions, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(planes[2], depth)


def test_the_pixel_at_the_centre_looks_straight_ahead_and_x_is_right_y_is_down():
    camera = Pinhole(height=5, width=9, fx=2.0, fy=4.0, cx=4.0, cy=2.0)
    xyz = np.empty((3, 5, 9), np.float32)
    project(np.full((5, 9), 3.0, np.float32), camera, xyz)
    assert xyz[:, 2, 4].tolist() == [0.0, 0.0, 3.0]
    assert xyz[:, 2, 8].tolist() == [6.0, 0.0, 3.0]
    assert xyz[:, 4, 4].tolist() == [0.0, 1.5, 3.0]


@pytest.mark.parametrize('padding', [0, 8])
@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize(
    ('encoding', 'raw'),
    [
        ('16UC1', np.array([[0, 1, 1500], [65535, 0, 250]], np.uint16)),
        ('mono16', np.array([[0, 1, 1500], [65535, 0, 250]], np.uint16)),
        ('32FC1', np.array([[0, 0.001, 1.5], [65.535, -1.0, 0.25]], np.float32)),
        ('32FC1', np.array([[np.nan, 0.001, 1.5], [65.535, np.inf, 0.25]], np.float32)),
    ],
)
def test_millimetres_and_metres_are_read_and_what_is_no_depth_is_nan(encoding, raw, big, padding):
    depth = metres(depth_frame(raw, encoding, padding=padding, big=big))
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, np.float32([[np.nan, 0.001, 1.5], [65.535, np.nan, 0.25]]))


def test_a_pixel_without_depth_has_no_x_and_y_either_but_its_label():
    depth = np.full((2, 2), 1.0, np.float32)
    depth[1, 0] = np.nan
    points = np.empty((2, 2), POINT)
    xyz = np.empty((3, 2, 2), np.float32)
    project(depth, Pinhole(2, 2, 1.0, 1.0, 0.0, 0.0), xyz)
    label = np.array([[0, 1], [255, 3]], np.uint8)
    color = pack_color(np.zeros((2, 2, 3), np.uint8), 'rgb')
    write_points(points, xyz, color, pack_class(label, label + 10))
    for axis in 'xyz':
        np.testing.assert_array_equal(np.isnan(points[axis]), [[False, False], [True, False]])
    np.testing.assert_array_equal(points['label'], label)
    np.testing.assert_array_equal(points['confidence'], label + 10)


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_the_colour_is_packed_as_pcl_does_it_and_never_nan(order):
    image = np.array([[[255, 254, 253], [1, 2, 3]]], np.uint8)
    points = np.empty((1, 2), POINT)
    color = pack_color(image if order == 'rgb' else image[..., ::-1], order)
    write_points(points, np.zeros((3, 1, 2), np.float32), color, pack_class(*np.zeros((2, 1, 2), np.uint8)))
    packed = [int.from_bytes(np.float32(value).tobytes(), 'little') for value in points['rgb'][0]]
    assert packed == [0xFFFEFD, 0x010203]
    assert not np.isnan(points['rgb']).any()


def test_what_is_no_depth_image_and_no_camera_is_refused_with_the_remedy():
    with pytest.raises(FrameError, match="'rgb8' is not supported: use 16UC1, mono16, 32FC1"):
        metres(Frame(0, '', 2, 2, 'rgb8', 6, np.zeros(12, np.uint8)))
    with pytest.raises(FrameError, match='step 3 is smaller than a row of 16UC1: width 2 needs 4'):
        metres(Frame(0, '', 2, 2, '16UC1', 3, np.zeros(8, np.uint8)))
    for fx, fy, cx in ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (1.0, np.inf, 0.0), (1.0, 1.0, np.nan)):
        with pytest.raises(ValueError, match=rf'fx={fx}, fy={fy}, cx={cx}.*calibrate'):
            Pinhole(2, 2, fx, fy, cx, 0.0)
    with pytest.raises(ValueError, match='depth is 2x2, camera_info is of 128x96'):
        project(np.ones((2, 2), np.float32), CAMERA, np.empty((3, 2, 2), np.float32))
