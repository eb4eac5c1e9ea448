# SPDX-License-Identifier: Apache-2.0
"""Where points of other sensors lie in an image, and which are hidden, against exact geometry."""

import numpy as np
import pytest

from lw_refinenet_ros.image.point_cloud import POINT, Pinhole, pack_class, pack_color, write_points
from lw_refinenet_ros.image.visibility import Pose, locate, look_up

CAMERA = Pinhole(height=240, width=320, fx=260.0, fy=255.0, cx=158.3, cy=121.9)
SENSOR = Pinhole(height=200, width=300, fx=180.0, fy=180.0, cx=149.5, cy=99.5)
TURN = np.array([0.02, -0.03, 0.01, 1.0])
SAME = Pose(np.zeros(3), np.eye(3))
BOARD = (1.5, np.array([[-0.35, 0.25], [-0.3, 0.2]]))  # z, and from where to where in x and y, camera's frame
WALL = (np.array([0.1, -0.35, 0.9]), 3.6)  # n . p = d: floor and wall in one, slanted


def pose(offset):
    return Pose.build((*offset, *TURN))


def rays(height, width, camera):
    v, u = np.mgrid[:height, :width].astype(float)
    return np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)])


def hit(origin, directions):
    """Distances along rays, in the camera's frame, to the board and the wall: (N,), inf where none."""
    normal, distance = WALL
    wall = (distance - normal @ origin) / (normal @ directions)
    z, limits = BOARD
    board = (z - origin[2]) / directions[2]
    x, y = origin[:2, None] + board * directions[:2]
    inside = (limits[0, 0] <= x) & (x <= limits[0, 1]) & (limits[1, 0] <= y) & (y <= limits[1, 1])
    return np.where(inside & (board > 0), board, np.inf), np.where(wall > 0, wall, np.inf)


def scan(directions, place):
    """The points that a sensor at a place sees along directions of its own, both (3, N)."""
    return directions * np.minimum(*hit(place.position, place.rotation @ directions))


def lidar_rays(beams, columns):
    """Directions of a spinning lidar, in an optical frame: x right, y down."""
    tilt = np.radians(np.linspace(-20, 20, beams))[:, None]
    turn = np.radians(np.linspace(-40, 40, columns))
    return np.stack([a.ravel() for a in np.broadcast_arrays(np.sin(turn), np.tan(tilt), np.cos(turn))])


SCANS = {
    'depth': rays(200, 300, SENSOR).reshape(3, -1),
    'fine depth': rays(600, 900, Pinhole(600, 900, 540.0, 540.0, 449.5, 299.5)).reshape(3, -1),
    'lidar': lidar_rays(64, 700),
}


@pytest.mark.parametrize('offset', [(0.06, 0.0, 0.0), (-0.15, 0.02, -0.05), (0.05, -0.3, -0.1)])
@pytest.mark.parametrize('kind', SCANS)
def test_every_point_is_in_its_pixel_or_hidden_where_the_camera_sees_something_nearer(kind, offset):
    place = pose(offset)
    points = scan(SCANS[kind], place)
    index = locate(np.float32(points)[:, None], CAMERA, place)[0]

    exact = place.rotation @ points + place.position[:, None]
    u = CAMERA.fx * exact[0] / exact[2] + CAMERA.cx
    v = CAMERA.fy * exact[1] / exact[2] + CAMERA.cy
    row, column = index // (CAMERA.width + 2) - 1, index % (CAMERA.width + 2) - 1
    shown = (row >= 0) & (row < CAMERA.height) & (column >= 0) & (column < CAMERA.width)
    assert shown.sum() > 2000
    assert np.abs(column - u)[shown].max() < 0.501
    assert np.abs(row - v)[shown].max() < 0.501

    board, _ = hit(np.zeros(3), exact / exact[2])
    hidden = board < 0.99 * exact[2]
    z, ((left, right), (top, bottom)) = BOARD
    edges = [CAMERA.fx * x / z + CAMERA.cx for x in (left, right)]
    edges += [CAMERA.fy * y / z + CAMERA.cy for y in (top, bottom)]
    outside = np.maximum.reduce(
        [edges[0] - u, u - edges[1], edges[2] - v, v - edges[3]]
    )  # pixels from the board
    inside = (u > 0) & (u < CAMERA.width - 1) & (v > 0) & (v < CAMERA.height - 1)
    assert hidden[inside].sum() > 100, 'nothing is hidden: this proves nothing'
    assert not shown[hidden & (outside < -1)].any()
    assert shown[inside & ~hidden & ((outside > 3) | (exact[2] < 1.6))].all()


@pytest.mark.parametrize(('baseline', 'hides'), [(0.0, False), (0.3, True)])
def test_a_baseline_hides_points_in_the_cameras_frame_that_were_seen_from_elsewhere(baseline, hides):
    place = pose((0.05, -0.3, -0.1))
    points = place.rotation @ scan(SCANS['lidar'], place) + place.position[:, None]
    z, ((left, right), (top, bottom)) = BOARD
    x, y = points[:2] / points[2] * z
    behind = (points[2] > 1.1 * z) & (left + 0.02 < x) & (x < right - 0.02)
    behind &= (top + 0.02 < y) & (y < bottom - 0.02)
    index = locate(np.float32(points)[:, None], CAMERA, SAME, baseline)
    missing = look_up(np.zeros((240, 320), np.uint32), index, 1)[0].astype(bool)
    assert behind.sum() > 100, 'nothing is hidden: this proves nothing'
    assert (missing[behind] == hides).all()


def test_points_behind_the_camera_beside_the_image_and_without_coordinates_are_shown_by_no_pixel():
    points = np.float32([[0, 0, -1], [9, 0, 1], [0, -9, 1], [np.nan] * 3, [0, 0, 0], [0, 0, 2]])
    label = np.full((240, 320), 7, np.uint8)
    for place in (SAME, Pose(np.array([0.1, 0, 0]), np.eye(3))):
        index = locate(np.ascontiguousarray(points.T)[:, None], CAMERA, place)
        assert look_up(pack_class(label, label), index, 255)[0].tolist() == [255] * 5 + [7 | 7 << 16]


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_what_is_looked_up_is_written_as_points(order):
    camera = Pinhole(2, 3, 1.0, 1.0, 1.0, 0.0)
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    label = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    xyz = np.float32([[[-1, 1, 0, 5]], [[0, 1, 0, 0]], [[1, 1, 2, 1]]])
    index = locate(xyz, camera, SAME)
    points = np.empty((1, 4), POINT)
    classes = look_up(pack_class(label, label + 100), index, 255)
    write_points(points, xyz, look_up(pack_color(image, order), index, 0), classes)
    assert points['label'].tolist() == [[1, 6, 2, 255]]
    assert points['confidence'].tolist() == [[101, 106, 102, 0]]
    np.testing.assert_array_equal([points[axis] for axis in 'xyz'], xyz)
    colors = np.ascontiguousarray(points['rgb']).view(np.uint32)
    pixels = [image[0, 0], image[1, 2], image[0, 1], np.zeros(3, np.uint8)]
    channels = [pixel if order == 'rgb' else pixel[::-1] for pixel in pixels]
    assert colors[0].tolist() == [int(r) << 16 | int(g) << 8 | int(b) for r, g, b in channels]


def test_a_pose_is_a_position_and_a_quaternion_of_any_length():
    quarter = Pose.build((1.0, 2.0, 3.0, 0.0, 0.0, 5.0, 5.0))  # about z
    np.testing.assert_allclose(quarter.rotation @ [1, 0, 0] + quarter.position, [1, 3, 3], atol=1e-12)
    for values in ((1.0,) * 6, (0.0,) * 7, (1.0, 2.0, float('inf'), 0.0, 0.0, 0.0, 1.0)):
        with pytest.raises(ValueError, match='x y z qx qy qz qw, seven numbers'):
            Pose.build(values)
