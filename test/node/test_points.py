# SPDX-License-Identifier: Apache-2.0
"""Labelled point clouds over real DDS: a front camera with a depth image, a rear one with a cloud."""

import itertools

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from array import array

from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from lw_refinenet_ros.image.point_cloud import POINT, Pinhole, project
from lw_refinenet_ros.node.cloud_message import FIELDS, CloudWriter
from test.support.node_process import NodeProcess, pixels_of, stamp_of

pytestmark = pytest.mark.ros

stamps = itertools.count(12_000_000_000, 100_000_000)
K = [100.0, 0.0, 63.5, 0.0, 90.0, 47.5, 0.0, 0.0, 1.0]
CAMERA = Pinhole(height=96, width=128, fx=100.0, fy=90.0, cx=63.5, cy=47.5)
DEPTH = np.linspace(500, 8000, 96 * 128).astype(np.uint16).reshape(96, 128)
DEPTH[10:20, 30:50] = 0
TOPICS = ('front/label', 'front/points', 'rear/points')


@pytest.fixture(scope='module')
def node(tiny_weights):
    running = NodeProcess(weights=str(tiny_weights), cameras=['front', 'rear'])
    make = running.client.create_publisher
    running.cameras = {}
    for name in ('front', 'rear'):
        running.images = running.cameras[name] = make(Image, f'{name}/image', running.qos)
        running.wait_active()
    assert not running.client.get_subscriptions_info_by_topic('/front/depth'), 'nobody wants points yet'
    running.depth = make(Image, 'front/depth', running.qos)
    running.info = make(CameraInfo, 'front/camera_info', running.qos)
    running.cloud = make(PointCloud2, 'rear/points', running.qos)
    running.listen(*TOPICS)
    for publisher in (running.depth, running.info, running.cloud):
        running.spin_until(publisher.get_subscription_count, f'subscription to {publisher.topic_name}')
    settle(running, running.depth, running.info, running.cloud)
    yield running
    running.close()


def settle(node, *publishers):
    """Until the node listens as reliably as it is published."""
    for publisher in publishers:
        node.images = publisher
        node.wait_active()


def stamped(message, stamp_ns, frame_id='camera_optical'):
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    message.header.frame_id = frame_id
    return message


def send_depth(node, stamp_ns, depth=DEPTH, frame_id='camera_optical', **fields):
    height, width = depth.shape
    encoding = '16UC1' if depth.dtype == np.uint16 else '32FC1'
    message = Image(height=height, width=width, step=depth.strides[0], encoding=encoding)
    message.data = array('B', depth.tobytes())
    node.depth.publish(stamped(message, stamp_ns, frame_id))


def send_info(node, **fields):
    node.info.publish(CameraInfo(**({'height': 96, 'width': 128, 'k': K} | fields)))


def receive(node, topic, stamp_ns):
    def found():
        return next((m for m in node.received[topic] if stamp_of(m) == stamp_ns), None)

    return node.spin_until(found, f'{topic} of stamp {stamp_ns}')


def image_at(node, street, stamp_ns, camera='front'):
    node.send(street, stamp_ns=stamp_ns, publisher=node.cameras[camera])


def receive_again(node, street, **info):
    """Send good pairs until one has come out: compiled for, camera_info known, nothing bad under way."""
    sent = []

    def served():
        sent.append(next(stamps))
        send_info(node, **info)
        send_depth(node, sent[-1])
        image_at(node, street, sent[-1])
        node.executor.spin_once(timeout_sec=0.3)
        return {stamp_of(m) for m in node.received['front/points']} & set(sent)

    node.spin_until(served, 'cloud')
    return receive(node, 'front/points', sent[-1])


def points_of(message):
    assert len(message.data) == message.row_step * message.height
    return np.frombuffer(message.data, POINT).reshape(message.height, message.width)


def expected_xyz(metres):
    expected = np.empty(metres.shape, POINT)
    project(np.where(metres > 0, metres, np.nan).astype(np.float32), CAMERA, expected)
    return expected


@pytest.mark.parametrize('kind', ['16UC1', '32FC1'])
@pytest.mark.parametrize('first', ['depth', 'image'])
def test_depth_and_camera_info_give_a_labelled_organised_cloud(node, segmenter, street, kind, first):
    receive_again(node, street)
    stamp_ns = next(stamps)
    depth = DEPTH if kind == '16UC1' else (DEPTH / np.float32(1000)).astype(np.float32)
    if first == 'depth':
        send_depth(node, stamp_ns, depth)
    image_at(node, street, stamp_ns)
    mask = receive(node, 'front/label', stamp_ns)
    if first == 'image':
        send_depth(node, stamp_ns, depth)
    cloud = receive(node, 'front/points', stamp_ns)

    assert cloud.header == mask.header
    assert (cloud.height, cloud.width) == (mask.height, mask.width) == (96, 128)
    assert [(f.name, f.offset, f.count) for f in cloud.fields] == [
        (name, POINT.fields[name][1], 1) for name in ('x', 'y', 'z', 'rgb', 'label', 'confidence')
    ]
    assert (cloud.point_step, cloud.is_bigendian, cloud.is_dense) == (20, False, False)
    points = points_of(cloud)
    expected = expected_xyz(DEPTH / 1000)
    assert np.isnan(points['z'])[10:20, 30:50].all()
    for axis in 'xyz':
        np.testing.assert_allclose(points[axis], expected[axis], rtol=1e-6)
    result = segmenter.segment(street, confidence=True)
    np.testing.assert_array_equal(points['label'], pixels_of(mask))
    np.testing.assert_array_equal(points['label'], result.label)
    np.testing.assert_array_equal(points['confidence'], result.confidence)
    packed = np.ascontiguousarray(points['rgb']).view(np.uint32)
    np.testing.assert_array_equal(packed, street.astype(np.uint32) @ np.uint32([1 << 16, 1 << 8, 1]))


def test_an_organised_cloud_gives_its_own_places_in_its_own_frame(node, segmenter, street):
    places = np.zeros((96, 128), [('z', '<f8'), ('pad', 'u1', 4), ('x', '<f4'), ('y', '<f4')])
    for factor, axis in enumerate('xyz', 1):
        places[axis] = np.arange(96 * 128).reshape(96, 128) * factor
    places['x'][3, 4] = np.inf
    names = {'z': PointField.FLOAT64, 'x': PointField.FLOAT32, 'y': PointField.FLOAT32}
    fields = [
        PointField(name=n, offset=places.dtype.fields[n][1], datatype=t, count=1) for n, t in names.items()
    ]
    message = PointCloud2(height=96, width=128, fields=fields, point_step=20, row_step=20 * 128)
    message.data = array('B', places.tobytes())
    stamp_ns = next(stamps)
    done = node.received['rear/points']

    def cloud_there():
        node.cloud.publish(stamped(message, stamp_ns, 'depth_optical'))
        image_at(node, street, stamp_ns, 'rear')
        node.executor.spin_once(timeout_sec=0.2)
        return next((m for m in done if stamp_of(m) == stamp_ns), None)

    cloud = node.spin_until(cloud_there, 'cloud of the rear camera')
    assert cloud.header.frame_id == 'depth_optical'
    points = points_of(cloud)
    np.testing.assert_array_equal(np.isnan([points[axis][3, 4] for axis in 'xyz']), True)
    for axis in 'xyz':
        points = points.copy()
        points[axis][3, 4] = places[axis][3, 4]
        np.testing.assert_array_equal(points[axis], places[axis])
    np.testing.assert_array_equal(points['label'], segmenter.segment(street).label)


def test_stamps_a_few_milliseconds_apart_are_paired_and_the_cloud_has_the_images(node, street):
    receive_again(node, street)
    stamp_ns = next(stamps)
    send_depth(node, stamp_ns + 4_000_000)
    image_at(node, street, stamp_ns)
    receive(node, 'front/points', stamp_ns)


def complaint(node, provoke, text):
    """Until the front camera's diagnostics say so, and only a warning."""

    def said():
        provoke()
        node.executor.spin_once(timeout_sec=0.1)
        status = node.camera_status.get('front')
        return status and text in status[0] and status[0]

    message = node.spin_until(said, f'{text!r} on /diagnostics')
    assert message.startswith('no ~/points: ')
    return message


def test_stamps_too_far_apart_are_not_paired_and_the_diagnostics_say_how_far(node, street):
    receive_again(node, street)
    begin = next(stamps)
    apart = itertools.count(begin + 30_000_000_000, 100_000_000)

    def provoke():
        stamp_ns = next(apart)
        send_depth(node, stamp_ns - 20_000_000)
        image_at(node, street, stamp_ns)

    complaint(node, provoke, 'the nearest is 20.0 ms away')
    assert not any(stamp_of(m) > begin + 10**9 for m in node.received['front/points'])
    assert int(node.camera_status['front'][1]['points without depth']) > 0


@pytest.mark.parametrize(
    ('depth', 'frame_id', 'text'),
    [
        (DEPTH[:48, :64].copy(), 'camera_optical', 'depth is 64x48 in'),
        (DEPTH, 'depth_optical', "in 'depth_optical', the image 128x96 in 'camera_optical'"),
    ],
)
def test_depth_that_is_not_aligned_with_the_image_is_refused_with_the_remedy(
    node, street, depth, frame_id, text
):
    receive_again(node, street)

    def provoke():
        stamp_ns = next(stamps)
        send_depth(node, stamp_ns, depth, frame_id)
        image_at(node, street, stamp_ns)

    before = len(node.received['front/points'])
    assert 'align_depth.enable' in complaint(node, provoke, text)
    assert len(node.received['front/points']) == before
    receive_again(node, street)


@pytest.mark.parametrize(
    ('info', 'text'),
    [({'k': [0.0] * 9}, 'calibrate'), ({'height': 48, 'width': 64}, 'camera_info is of 64x48')],
)
def test_a_camera_info_that_cannot_be_is_refused(node, street, info, text):
    def provoke():
        send_info(node, **info)
        stamp_ns = next(stamps)
        send_depth(node, stamp_ns)
        image_at(node, street, stamp_ns)

    complaint(node, provoke, text)
    receive_again(node, street)


def test_the_rectified_camera_of_camera_info_comes_before_the_raw_one(node, street):
    p = [50.0, 0.0, 10.0, 0.0, 0.0, 50.0, 20.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    receive_again(node, street, p=p)
    points = points_of(receive_again(node, street, p=p))
    assert points['x'][50, 10] == 0
    np.testing.assert_allclose(points['y'][50], (50 - 20) / 50 * points['z'][50], rtol=1e-6)


def test_without_depth_for_two_seconds_the_diagnostics_say_so(node, street):
    complaint(node, lambda: image_at(node, street, next(stamps)), 'nothing came on /front/depth for 2 s')


def test_once_nobody_wants_the_points_the_depth_is_let_go(node, street):
    for subscription in list(node.client.subscriptions):
        if subscription.topic_name == '/lw_refinenet/front/points':
            node.client.destroy_subscription(subscription)
    node.spin_until(lambda: not node.depth.get_subscription_count(), 'end of the subscription to depth')
    assert node.cloud.get_subscription_count(), 'the rear camera still wants its cloud'


def test_sensor_msgs_py_writes_the_same_cloud_as_we_do(monkeypatch):
    module = pytest.importorskip('sensor_msgs_py.point_cloud2', reason='sensor_msgs_py is not installed')
    values = np.random.default_rng(1).integers(0, 255, (3, 4, POINT.itemsize), np.uint8)
    values[..., 12:16] = 0
    written = []
    for create_cloud in (None, module.create_cloud):
        monkeypatch.setattr('lw_refinenet_ros.node.cloud_message.create_cloud', create_cloud)
        writer = CloudWriter(None)
        writer.points(3, 4)[...] = values.view(POINT)[..., 0]
        written.append(writer.message(stamped(Image(), 5).header))
    ours, theirs = written
    assert ours == theirs
    assert list(ours.fields) == FIELDS
    read = module.read_points(ours, field_names=['label'])
    np.testing.assert_array_equal(read['label'], values.view(POINT)['label'].reshape(-1))
