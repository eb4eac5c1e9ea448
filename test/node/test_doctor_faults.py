# SPDX-License-Identifier: Apache-2.0
"""`doctor` on a node that was started wrongly, and then on its cameras, one missing, one late and lossy."""

import itertools
import json
import signal
from array import array

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import String

from lw_refinenet_ros.node.label_info import LATCHED
from lw_refinenet_ros.node.process.fast_dds import VARIABLES
from test.node.test_doctor import find
from test.support.fast_dds import fast_dds_only
from test.support.node_process import NodeProcess

pytestmark = pytest.mark.ros

LATE_NS, STEP_NS = 2 * 10**9, 30_000_000


@pytest.fixture(scope='module')
def node():
    """A node without weights, on simulated time, whose Fast DDS profile does not exist."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in VARIABLES:
            patch.setenv(variable, '/none.xml')
        running = NodeProcess(weights='/none', use_sim_time=True, cameras=['front', 'rear'])
    running.client.destroy_publisher(running.images)
    yield running
    running.close()


@pytest.fixture
def publisher(node):
    """Make publishers that end with the test."""
    made = []

    def make(kind, topic, qos=1):
        made.append(node.client.create_publisher(kind, topic, qos))
        return made[-1].publish

    yield make
    for each in made:
        node.client.destroy_publisher(each)


def stamped(message, stamp_ns):
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    message.header.frame_id = 'camera'
    return message


def image(stamp_ns):
    message = Image(height=48, width=64, encoding='mono8', step=64, data=array('B', bytes(48 * 64)))
    return stamped(message, stamp_ns)


def names(*ids):
    """A latched list of classes, each called 'same'."""
    return String(data=json.dumps({'classes': [{'id': each, 'name': 'same'} for each in ids]}))


@fast_dds_only
def test_the_faults_of_a_node_that_was_started_wrongly(node, publisher, tmp_path):
    publisher(String, '/lw_refinenet/label_names')  # which says nothing
    expected = (
        ('node', 'fault', '/lw_refinenet is unconfigured', 'its log says why'),
        ('diagnostics', 'fault', '/none', 'log'),
        ('use_sim_time', 'fault', 'true, but nobody publishes /clock', 'publish /clock'),
        ('middleware', 'warning', 'profile /none.xml not found', 'fastdds_large_images.xml'),
        ('label_names', 'fault', 'nothing is latched', 'transient local'),
    )
    find(node, None, tmp_path / 'report.json', expected, sends=lambda: None)


@fast_dds_only
def test_the_faults_of_a_camera_that_is_missing_and_of_one_that_is_late_and_lossy(
    node, tiny_weights, publisher, tmp_path
):
    assert node.set_atomically(weights=str(tiny_weights), use_sim_time=False).successful
    assert node.transition('configure')
    assert node.transition('activate')
    send, send_depth = publisher(Image, 'rear/image'), publisher(Image, 'rear/depth')
    send_info, send_names = (
        publisher(CameraInfo, 'rear/camera_info'),
        publisher(String, '/lw_refinenet/label_names', LATCHED),
    )
    turn = itertools.count()

    def sends():
        stamp_ns = node.client.get_clock().now().nanoseconds - LATE_NS
        node.process.send_signal(signal.SIGSTOP)  # it finds the last of these images only
        for index in range(4):
            send(image(stamp_ns + index * STEP_NS))
        node.process.send_signal(signal.SIGCONT)
        send_depth(image(stamp_ns + (next(turn) % 3 > 0) * STEP_NS // 2))
        send_info(CameraInfo(height=48, width=64))
        send_names(names(0, 1, 2, 255))

    expected = (
        ('front: image', 'fault', 'nobody publishes /front/image', '/rear/image'),
        ('front: diagnostics', 'warning', 'nobody publishes /front/image', 'log'),
        ('rear: frames', 'warning', ' lost', 'images so small need no profile: lower their rate'),
        ('rear: age', 'warning', ' ms', 'a smaller network_height is faster'),
        ('rear: depth with image', 'warning', ' stamps', 'let the camera stamp both alike'),
        ('label_names', 'fault', 'same names several ids', 'rename the class'),
    )
    find(node, None, tmp_path / 'report.json', expected, sends=sends)


@fast_dds_only  # since the cameras are those of the test before
def test_the_faults_of_a_node_that_is_disabled_and_of_a_cloud_of_another_clock(node, publisher, tmp_path):
    assert node.set(enabled=False)[0].successful
    send, send_cloud = publisher(Image, 'rear/image'), publisher(PointCloud2, 'rear/points')
    send_names = publisher(String, '/lw_refinenet/label_names', LATCHED)
    stamps = itertools.count(10**9, 10**9)

    def sends():
        stamp_ns = next(stamps)
        send(image(stamp_ns))
        send_cloud(stamped(PointCloud2(height=1, width=0, point_step=12), stamp_ns + 10**8))
        send_names(names(1))

    expected = (
        ('rear: label: rate', 'fault', 'no label though images come: disabled', 'log'),
        ('rear: cloud with image', 'fault', 'the nearest are 100.0 ms apart', 'stamp both alike'),
        ('label_names', 'fault', 'no name for 0, 255', 'name every id, 255 included'),
    )
    find(node, None, tmp_path / 'report.json', expected, sends=sends)
