# SPDX-License-Identifier: Apache-2.0
"""Labelled point clouds over real DDS: a front camera with a depth image, a rear one with a cloud."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from array import array

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField, RegionOfInterest
from std_msgs.msg import Header

from lw_refinenet_ros.image.cloud import copy_xyz, parse_cloud
from lw_refinenet_ros.image.point_cloud import POINT, Pinhole, project
from lw_refinenet_ros.image.visibility import Pose
from lw_refinenet_ros.inference.segmenter import Segmentation
from lw_refinenet_ros.node import depth_pairing
from lw_refinenet_ros.node.cloud_message import FIELDS, CloudWriter
from lw_refinenet_ros.node.label_info import LATCHED
from lw_refinenet_ros.node.labelled_cloud import CloudOutputs, Geometry, pinhole
from lw_refinenet_ros.node.points import PointsOutput
from test.support.node_process import NodeProcess, pixels_of, stamp_of

pytestmark = pytest.mark.ros

stamps = itertools.count(12_000_000_000, 100_000_000)
K = [100.0, 0.0, 63.5, 0.0, 90.0, 47.5, 0.0, 0.0, 1.0]
CAMERA = Pinhole(height=96, width=128, fx=100.0, fy=90.0, cx=63.5, cy=47.5)
DEPTH = np.linspace(500, 8000, 96 * 128).astype(np.uint16).reshape(96, 128)
DEPTH[10:20, 30:50] = 0
TOPICS = (
    'front/label',
    'front/points',
    'front/points/label',
    'front/points/confidence',
    'rear/label',
    'rear/points',
)


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
    settle(running, *running.cameras.values(), running.depth, running.info, running.cloud)
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
    expected = np.empty((3, *metres.shape), np.float32)
    project(np.where(metres > 0, metres, np.nan).astype(np.float32), CAMERA, expected)
    return dict(zip('xyz', expected))


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


def test_an_organised_cloud_with_a_point_for_each_pixel_gives_its_own_places(node, segmenter, street):
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
    infos = node.client.create_publisher(
        CameraInfo, 'rear/camera_info', node.qos
    )  # not calibrated, nor needed
    other = node.client.create_publisher(CompressedImage, 'rear/depth', node.qos)  # no depth that can be used
    node.spin_until(infos.get_subscription_count, 'subscription to camera_info')

    def cloud_there():
        infos.publish(CameraInfo(height=96, width=128))
        node.cloud.publish(stamped(message, stamp_ns))
        image_at(node, street, stamp_ns, 'rear')
        node.executor.spin_once(timeout_sec=0.2)
        return next((m for m in done if stamp_of(m) == stamp_ns), None)

    cloud = node.spin_until(cloud_there, 'cloud of the rear camera')
    for publisher in (infos, other):
        node.client.destroy_publisher(publisher)
    points = points_of(cloud)
    unknown = (0, 3), (0, 4)  # one at the origin, one infinitely far
    np.testing.assert_array_equal(np.isnan([points[axis][unknown] for axis in 'xyz']), True)
    for axis in 'xyz':
        points = points.copy()
        points[axis][unknown] = places[axis][unknown]
        np.testing.assert_array_equal(points[axis], places[axis])
    np.testing.assert_array_equal(points['label'], segmenter.segment(street).label)


def test_stamps_a_few_milliseconds_apart_are_paired_and_the_cloud_has_the_images(node, street):
    receive_again(node, street)
    stamp_ns = next(stamps)
    send_depth(node, stamp_ns + 4_000_000)
    image_at(node, street, stamp_ns)
    label, confidence, cloud = (
        receive(node, f'front/{topic}', stamp_ns) for topic in ('points/label', 'points/confidence', 'points')
    )
    assert label.header == confidence.header == cloud.header


NEAR = Pinhole(height=48, width=64, fx=40.0, fy=41.0, cx=31.3, cy=22.9)  # of the depth camera
BESIDE = '0.1137 -0.017 0.04 0 0 0 1'  # where it is


def labels_seen(label, xyz, missing=255):
    """The label of each point (3, N) in the camera's frame, by exact arithmetic."""
    u = np.rint(CAMERA.fx * xyz[0] / xyz[2] + CAMERA.cx)
    v = np.rint(CAMERA.fy * xyz[1] / xyz[2] + CAMERA.cy)
    inside = (u >= 0) & (u < CAMERA.width) & (v >= 0) & (v < CAMERA.height)
    rows, columns = (np.where(inside, a, 0).astype(int) for a in (v, u))
    return np.where(inside, label[rows, columns], missing)


def broadcast(node):
    """Publish on tf where the depth camera is."""
    tf2_ros = pytest.importorskip('tf2_ros', reason='tf2_ros is not installed')
    geometry = pytest.importorskip('geometry_msgs.msg')
    x, y, z, *turn = map(float, BESIDE.split())
    transform = geometry.TransformStamped(child_frame_id='depth_optical')
    transform.header.frame_id = 'camera_optical'
    transform.transform.translation = geometry.Vector3(x=x, y=y, z=z)
    transform.transform.rotation = geometry.Quaternion(**dict(zip('xyzw', turn)))
    broadcaster = tf2_ros.StaticTransformBroadcaster(node.client)
    broadcaster.sendTransform(transform)
    return broadcaster


@pytest.mark.parametrize(('rotate', 'by'), [*((turn, 'parameter') for turn in (0, 90, 180, 270)), (0, 'tf')])
def test_depth_of_another_camera_is_labelled_where_the_image_shows_its_points(
    node, segmenter, street, rotate, by
):
    tf = broadcast(node) if by == 'tf' else None
    receive_again(node, street)
    quarters = -rotate // 90 % 4
    assert node.set_atomically(points_transform='' if tf else BESIDE, rotate=rotate).successful
    infos = node.client.create_publisher(CameraInfo, 'front/depth/camera_info', node.qos)
    node.spin_until(infos.get_subscription_count, 'subscription to depth/camera_info')
    settle(node, infos)
    depth = np.full((48, 64), 2.0, np.float32)
    depth[5:9, 7:20] = np.nan
    kept, sent = node.received['front/points/label'], []

    def served():
        sent.append(next(stamps))
        k = [NEAR.fx, 0.0, NEAR.cx, 0.0, NEAR.fy, NEAR.cy, 0.0, 0.0, 1.0]
        infos.publish(CameraInfo(height=48, width=64, k=k))
        send_info(node)
        send_depth(node, sent[-1], depth, 'depth_optical')
        image_at(node, street, sent[-1])
        node.executor.spin_once(timeout_sec=0.3)
        return {stamp_of(m) for m in kept} & set(sent)

    stamp_ns = node.spin_until(served, 'label of the points').pop()
    label, confidence, cloud = (
        receive(node, f'front/{topic}', stamp_ns) for topic in ('points/label', 'points/confidence', 'points')
    )
    node.client.destroy_publisher(infos)
    assert node.set_atomically(points_transform='', rotate=0).successful

    assert label.header == confidence.header == cloud.header
    assert label.header.frame_id == 'depth_optical'
    assert (label.height, label.width, label.encoding) == (48, 64, 'mono8')
    upright = segmenter.segment(np.ascontiguousarray(np.rot90(street, quarters)), confidence=True)
    v, u = np.mgrid[:48, :64]
    xyz = np.stack([2 * (u - NEAR.cx) / NEAR.fx, 2 * (v - NEAR.cy) / NEAR.fy, np.full((48, 64), 2.0)])
    seen = xyz + np.array([0.1137, -0.017, 0.04])[:, None, None]
    expected = labels_seen(np.rot90(upright.label, -quarters), seen)
    expected[5:9, 7:20] = 255
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(pixels_of(label), expected)
    sure = labels_seen(np.rot90(upright.confidence, -quarters), seen, 0)
    sure[5:9, 7:20] = 0
    np.testing.assert_array_equal(pixels_of(confidence), sure)
    points = points_of(cloud)
    np.testing.assert_array_equal(points['label'], expected)
    colors = labels_seen(street.astype(np.uint32) @ np.uint32([1 << 16, 1 << 8, 1]), seen, 0)
    colors[5:9, 7:20] = 0
    np.testing.assert_array_equal(np.ascontiguousarray(points['rgb']).view(np.uint32), colors)
    for axis, plane in zip('xyz', xyz):
        np.testing.assert_allclose(points[axis], np.where(np.isnan(depth), np.nan, plane), rtol=1e-5)


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


def test_points_of_a_lidar_of_another_rate_get_the_labels_of_the_nearest_image(node, segmenter, street):
    infos = node.client.create_publisher(CameraInfo, 'rear/camera_info', node.qos)
    node.spin_until(infos.get_subscription_count, 'subscription to camera_info')
    settle(node, infos)
    places = np.random.default_rng(3).uniform([-3, -2, 2.5], [3, 2, 4], (500, 3)).astype(np.float32)
    fields = [
        PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate('xyz')
    ]
    message = PointCloud2(height=1, width=500, fields=fields, point_step=12, row_step=6000)
    message.data = array('B', places.tobytes())
    assert node.set(points_transform='0 0 0 0 0 0 1', points_tolerance=0.05)[0].successful
    done, sent = node.received['rear/points'], []

    def served():
        stamp_ns = next(stamps)
        sent.append(stamp_ns - 30_000_000)
        infos.publish(CameraInfo(height=96, width=128, k=K))
        node.cloud.publish(stamped(message, sent[-1], 'lidar'))
        for image, apart_ns in ((255 - street, -70_000_000), (street, 0)):
            image_at(node, image, stamp_ns + apart_ns, 'rear')
            receive(node, 'rear/label', stamp_ns + apart_ns)
        return {stamp_of(m) for m in done} & set(sent)

    stamp_ns = node.spin_until(served, 'cloud of the lidar').pop()
    cloud = next(m for m in done if stamp_of(m) == stamp_ns)
    assert node.set(points_transform='0 0 -9 0 0 0 1')[0].successful  # behind the camera
    behind = "the image shows no point of 'lidar': check its pose in 'camera_optical', which must be an "
    node.spin_until(lambda: served() and behind in node.camera_status['rear'][0], 'complaint')
    node.client.destroy_publisher(infos)
    assert node.set(points_transform='', points_tolerance=0.005)[0].successful
    assert (cloud.height, cloud.width, cloud.header.frame_id) == (1, 500, 'lidar')
    points = points_of(cloud)[0]
    np.testing.assert_array_equal([points[axis] for axis in 'xyz'], places.T)
    expected = labels_seen(segmenter.segment(street).label, places.T.astype(float))
    assert np.count_nonzero(expected != 255) > 50
    np.testing.assert_array_equal(points['label'], expected)


@pytest.mark.parametrize(('height', 'width'), [(2**31, 2**31), (1, 5), (0, 7)])
def test_a_cloud_of_more_points_than_it_has_data_for_is_refused_before_memory_is_taken(height, width):
    cloud = PointCloud2(height=height, width=width, point_step=12, row_step=0, data=bytes(48))
    with pytest.raises(ValueError, match=f'the cloud is {width}x{height} points in 48 bytes of data'):
        Geometry.of_cloud(serialize_message(cloud))


def cloud_of(places, **fields):
    """A serialized cloud of a structured array (H, W)."""
    kinds = {'f4': PointField.FLOAT32, 'f8': PointField.FLOAT64}
    named = [
        PointField(name=name, offset=offset, datatype=kinds[dtype.str[1:]], count=1)
        for name, (dtype, offset) in places.dtype.fields.items()
    ]
    height, width = places.shape
    return serialize_message(
        PointCloud2(
            height=height,
            width=width,
            fields=named,
            is_bigendian=places.dtype[0].byteorder == '>',
            point_step=places.itemsize,
            row_step=places.strides[0],
            data=array('B', places.tobytes()),
            **fields,
        )
    )


@pytest.mark.parametrize('kind', ['<f4', '<f8', '>f4'])
def test_a_cloud_is_read_where_it_lies_and_a_damaged_one_refused_wherever_it_ends(kind):
    places = np.zeros((3, 5), [(axis, kind) for axis in 'zyx'])
    for factor, axis in enumerate('xyz', 1):
        places[axis] = np.arange(15).reshape(3, 5) * factor
    places['y'][1, 2] = np.inf
    cdr = cloud_of(places)
    cloud, xyz = parse_cloud(cdr), np.empty((3, 3, 5), np.float32)
    assert np.shares_memory(cloud.xyz, np.frombuffer(cdr, np.uint8))
    copy_xyz(cloud, xyz)
    expected = np.stack([places[axis] for axis in 'xyz']).astype(np.float32)
    expected[:, 1, 2] = expected[:, 0, 0] = np.nan  # what is at the origin, no camera has measured
    np.testing.assert_array_equal(xyz, expected)
    for end in range(len(cdr) - 4):  # the last four are is_dense and what fills up
        with pytest.raises(ValueError, match=r'needs|encapsulation'):
            parse_cloud(cdr[:end])
    with pytest.raises(ValueError, match='the cloud has 65 fields, more than 64'):
        parse_cloud(serialize_message(PointCloud2(height=1, width=1, fields=[PointField()] * 65)))
    with pytest.raises(
        ValueError, match='the cloud has fields x, y, w: x, y and z of 32 or 64 bits are needed'
    ):
        parse_cloud(cloud_of(places.astype([(axis, kind) for axis in 'xyw'])))


def test_rows_of_a_cloud_may_have_padding_or_no_step_of_their_own():
    places = np.zeros((3, 7), [(axis, '<f4') for axis in 'xyz'])
    for factor, axis in enumerate('xyz', 1):
        places[axis] = np.arange(21).reshape(3, 7) * factor
    message = deserialize_message(cloud_of(places), PointCloud2)
    for message.width, message.row_step in ((5, 7 * 12), (7, 0)):
        xyz = parse_cloud(serialize_message(message)).xyz
        np.testing.assert_array_equal(xyz, [places[axis][:, : message.width] for axis in 'xyz'])
    message.row_step = 7 * 12 + 1
    with pytest.raises(ValueError, match='the cloud has 252 bytes of data, its steps need more: send whole'):
        parse_cloud(serialize_message(message))


def test_coordinates_lie_where_the_fields_of_a_cloud_say_whatever_is_between():
    places = np.zeros((3, 7), [(name, '<f4') for name in ('x', 'y', 'intensity', 'z')])
    for factor, name in enumerate(places.dtype.names, 1):
        places[name] = np.arange(21).reshape(3, 7) * factor
    np.testing.assert_array_equal(parse_cloud(cloud_of(places)).xyz, [places[axis] for axis in 'xyz'])


@pytest.mark.parametrize(('camera', 'seen'), [(None, 255), (CAMERA, 7)], ids=['cloud', 'depth'])
def test_points_behind_others_have_no_label_in_a_cloud_that_may_have_been_seen_from_elsewhere(camera, seen):
    xyz = np.full((3, 2, 40 * 60), 0, np.float32)
    v, u = (a.ravel() for a in np.mgrid[20:60, 30:90])
    for row, z in enumerate((1.0, 3.0)):  # a wall, and as many points behind it
        xyz[0, row], xyz[1, row] = (u - CAMERA.cx) / CAMERA.fx * z, (v - CAMERA.cy) / CAMERA.fy * z
        xyz[2, row] = z
    got = []
    label = SimpleNamespace(wanted=True, publish=lambda _, image: got.append(image.copy()))
    nobody = SimpleNamespace(wanted=False)
    sevens = np.full((96, 128), 7, np.uint8)
    result = Segmentation(np.zeros((96, 128, 3), np.uint8), 'rgb', sevens, sevens, None)
    geometry = Geometry(Header(), (2, 40 * 60), camera, lambda memory: np.copyto(memory, xyz))
    same = Pose(np.zeros(3), np.eye(3))
    assert CloudOutputs(nobody, label, nobody).publish(Header(), result, geometry, CAMERA, lambda: same)
    assert (got[0][0] == 7).all()
    assert (got[0][1].reshape(40, 60)[6:-6, 6:-6] == seen).all()


@pytest.mark.parametrize(
    ('camera', 'said'),
    [
        (
            replace(CAMERA, height=48, width=64),
            'the image is 128x96, but camera_info is of 64x48: publish the one',
        ),
        (
            replace(CAMERA, height=128, width=96),
            'the image is 128x96, but camera_info is of 96x128: publish the',
        ),
        (None, 'the image is 128x96, but no camera_info comes: publish the one of the image'),
    ],
)
def test_a_cloud_whose_image_has_a_camera_info_of_another_size_is_not_labelled(camera, said):
    sevens, got = np.full((96, 128), 7, np.uint8), []
    label = SimpleNamespace(wanted=True, publish=lambda *each: got.append(each))
    outputs = CloudOutputs(SimpleNamespace(wanted=False), label, SimpleNamespace(wanted=False))
    result = Segmentation(np.zeros((96, 128, 3), np.uint8), 'rgb', sevens, sevens, None)
    geometry = Geometry(Header(), (2, 6), None, lambda xyz: xyz.fill(1))
    with pytest.raises(ValueError, match=said):
        outputs.publish(Header(), result, geometry, camera, lambda: Pose(np.zeros(3), np.eye(3)))
    assert not got


def test_a_camera_info_of_another_size_than_the_image_of_a_lidar_is_named(node, street):
    infos = node.client.create_publisher(CameraInfo, 'rear/camera_info', node.qos)
    node.spin_until(infos.get_subscription_count, 'subscription to camera_info')
    settle(node, infos)
    fields = [
        PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate('xyz')
    ]
    message = PointCloud2(height=1, width=50, fields=fields, point_step=12, row_step=600)
    message.data = array('B', np.full((50, 3), 2, np.float32).tobytes())
    assert node.set(points_transform='0 0 0 0 0 0 1')[0].successful

    def said():
        stamp_ns = next(stamps)
        infos.publish(CameraInfo(height=48, width=64, k=K))
        node.cloud.publish(stamped(message, stamp_ns, 'lidar'))
        image_at(node, street, stamp_ns, 'rear')
        node.executor.spin_once(timeout_sec=0.1)
        return (
            'no ~/points: the image is 128x96, but camera_info is of 64x48' in node.camera_status['rear'][0]
        )

    node.spin_until(said, 'complaint')
    node.client.destroy_publisher(infos)
    assert node.set(points_transform='')[0].successful


def test_clouds_of_one_shape_and_another_are_labelled_and_one_without_a_point_is_no_fault():
    sevens, got = np.full((96, 128), 7, np.uint8), []
    label = SimpleNamespace(wanted=True, publish=lambda header, image: got.append((header, image.copy())))
    outputs = CloudOutputs(SimpleNamespace(wanted=False), label, SimpleNamespace(wanted=False))
    result = Segmentation(np.zeros((96, 128, 3), np.uint8), 'rgb', sevens, sevens, None)
    images, own = stamped(Image(), 5).header, stamped(Image(), 9, 'lidar').header
    same = Pose(np.zeros(3), np.eye(3))

    def seen(size, z):
        points = np.stack([np.full(size, value) for value in (0, 0, z)])
        geometry = Geometry(own, size, None, lambda xyz: np.copyto(xyz, points))
        return outputs.publish(images, result, geometry, CAMERA, lambda: same)

    assert seen((2, 6), 1.0)
    assert seen((3, 4), 1.0)
    assert not seen((3, 4), -1.0), 'all are behind the camera'
    assert seen((3, 4), np.nan), 'there is none that could be seen'
    assert [image.shape for _, image in got] == [(2, 6), *[(3, 4)] * 3]
    assert [set(image.ravel()) for _, image in got] == [{7}, {7}, {255}, {255}]
    assert all(header == own for header, _ in got)


@pytest.mark.parametrize('fx', [100.0, 50.0])
def test_depth_of_the_images_size_and_frame_but_of_another_camera_is_not_taken_pixel_by_pixel(fx):
    columns, got = np.tile(np.arange(128, dtype=np.uint8), (96, 1)), []
    label = SimpleNamespace(wanted=True, publish=lambda _, image: got.append(image.copy()))
    nobody = SimpleNamespace(wanted=False)
    result = Segmentation(np.zeros((96, 128, 3), np.uint8), 'rgb', columns, columns, None)
    middle = np.reshape([0.005, 0.0, 1.0], (3, 1, 1))  # of column 64
    depth = Geometry(Header(), (96, 128), replace(CAMERA, fx=fx), lambda xyz: np.copyto(xyz, middle))
    same = Pose(np.zeros(3), np.eye(3))
    assert CloudOutputs(nobody, label, nobody).publish(Header(), result, depth, CAMERA, lambda: same)
    np.testing.assert_array_equal(got[0], columns if fx == CAMERA.fx else np.full_like(columns, 64))


def waiting_output():
    """What `PointsOutput.add` needs of one."""
    return SimpleNamespace(
        _pairing=depth_pairing.DepthPairing(),
        _publish_pairs=lambda: None,
        _settings=lambda: SimpleNamespace(points_tolerance=0.005),
        unpaired=0,
        published=0,
        _published_then=0,
        _complaint='',
    )


def test_a_label_that_waits_for_its_depth_is_not_that_of_the_next_image_whose_message_it_was_in():
    output, label = waiting_output(), np.full((2, 3), 1, np.uint8)
    image = np.zeros((2, 3, 3), np.uint8)
    PointsOutput.add(output, Header(), 0, Segmentation(image, 'rgb', label, label, None))
    label[:] = 2
    output._pairing.add_depth(0, 'depth')
    (((_, kept), _),) = output._pairing.pop_pairs()
    assert (kept.label == 1).all()


def test_images_without_depth_are_complained_of_only_where_no_points_come_between():
    output, label = waiting_output(), np.zeros((2, 3), np.uint8)
    result = Segmentation(np.zeros((2, 3, 3), np.uint8), 'rgb', label, label, None)
    complaints = []
    for index in range(depth_pairing.KEPT + 3):
        output.published += index != depth_pairing.KEPT + 2  # depths come at another rate than images
        PointsOutput.add(output, Header(), index * 10**8, result)
        complaints.append(output._complaint)
    assert output.unpaired == 3
    assert not any(complaints[:-1])
    assert complaints[-1].startswith('no ~/points: no depth within 5 ms of an image, there is none: ')


def test_a_pose_that_is_none_is_refused(node):
    (result,) = node.set(points_transform='1 2 3')
    assert 'points_transform: a pose is x y z qx qy qz qw, seven numbers' in result.reason


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


def test_a_camera_info_that_was_latched_once_is_taken(node, street):
    assert node.transition('deactivate')
    node.client.destroy_publisher(node.info)
    latched = node.client.create_publisher(CameraInfo, 'front/camera_info', LATCHED)
    latched.publish(CameraInfo(height=96, width=128, k=[50.0, 0.0, 63.5, 0.0, 90.0, 47.5, 0.0, 0.0, 1.0]))
    assert node.transition('activate')
    expected, kept = expected_xyz(DEPTH / 1000)['x'] * 2, node.received['front/points']
    kept.clear()

    def served():
        stamp_ns = next(stamps)
        send_depth(node, stamp_ns)
        image_at(node, street, stamp_ns)
        node.executor.spin_once(timeout_sec=0.3)
        return kept

    points = points_of(node.spin_until(served, 'points of the latched camera')[0])
    np.testing.assert_allclose(points['x'], expected, rtol=1e-6)
    node.client.destroy_publisher(latched)
    node.info = node.client.create_publisher(CameraInfo, 'front/camera_info', node.qos)
    settle(node, node.info)


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


@pytest.mark.parametrize('calibrated', ['k', 'p'])
@pytest.mark.parametrize(
    ('fields', 'size', 'expected'),
    [
        ({}, (96, 128), (100.0, 90.0, 63.5, 47.5)),
        ({'binning_x': 2, 'binning_y': 2}, (48, 64), (50.0, 45.0, 31.75, 23.75)),
        ({'roi': (20, 10, 40, 60)}, (40, 60), (100.0, 90.0, 43.5, 37.5)),
        ({'roi': (20, 10, 40, 60), 'binning_x': 4, 'binning_y': 2}, (20, 15), (25.0, 45.0, 10.875, 18.75)),
        ({'binning_x': 2, 'binning_y': 2}, (96, 128), (100.0, 90.0, 63.5, 47.5)),  # images of the whole size
    ],
)
def test_binned_images_and_regions_have_a_camera_of_their_own(calibrated, fields, size, expected):
    k = [100.0, 0.0, 63.5, 0.0, 90.0, 47.5, 0.0, 0.0, 1.0]
    given = {'k': k} if calibrated == 'k' else {'p': [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]}
    x, y, height, width = fields.get('roi', (0, 0, 0, 0))
    roi = RegionOfInterest(x_offset=x, y_offset=y, height=height, width=width)
    info = CameraInfo(height=96, width=128, **given | fields | {'roi': roi})
    assert pinhole(serialize_message(info), size) == Pinhole(*size, *expected)


def test_images_of_neither_the_binned_nor_the_whole_size_have_the_camera_of_the_whole():
    info = CameraInfo(height=96, width=128, k=K, binning_x=2, binning_y=2)
    assert pinhole(serialize_message(info), (24, 32)) == CAMERA


def test_a_cloud_beside_the_depth_is_not_taken(node, street):
    cloud = node.client.create_publisher(PointCloud2, 'front/points', node.qos)
    for _ in range(2):  # the node looks who publishes before it tells its state
        node.camera_status.clear()
        node.spin_until(lambda: 'front' in node.camera_status, 'diagnostics')
    receive_again(node, street)
    taken = cloud.get_subscription_count()
    node.client.destroy_publisher(cloud)
    assert taken == 0


def test_a_depth_topic_of_another_type_is_named(node, street):
    node.client.destroy_publisher(node.depth)
    other = node.client.create_publisher(CompressedImage, 'front/depth', node.qos)
    text = (
        '/front/depth carries sensor_msgs/msg/CompressedImage, not sensor_msgs/msg/Image: convert or remap it'
    )
    # Alone, this test would otherwise send no image at all, and that is told first.
    complaint(node, lambda: image_at(node, street, next(stamps)), text)
    node.client.destroy_publisher(other)
    node.depth = node.client.create_publisher(Image, 'front/depth', node.qos)
    node.spin_until(node.depth.get_subscription_count, 'subscription to depth')
    receive_again(node, street)


def test_without_depth_for_two_seconds_the_diagnostics_say_so(node, street):
    complaint(node, lambda: image_at(node, street, next(stamps)), 'nothing came on /front/depth for 2 s')


def test_once_nobody_wants_the_points_the_depth_is_let_go(node, street):
    for subscription in list(node.client.subscriptions):
        if subscription.topic_name.startswith('/lw_refinenet/front/points'):
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
