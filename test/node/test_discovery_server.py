# SPDX-License-Identifier: Apache-2.0
"""The node where Fast DDS' discovery server tells each process of the topics that it has, and no others."""

import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

import rclpy
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from lw_refinenet_ros.cli.live import die_with_parent, ros_environment
from lw_refinenet_ros.node.process.middleware import DEFAULT, DISCOVERY, SERVER, profile_variables
from test.node.test_doctor import until
from test.node.test_points import cloud_of
from test.support.node_process import NodeProcess

pytestmark = pytest.mark.ros

PROFILE = """<?xml version="1.0" encoding="UTF-8"?>
<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <participant profile_name="server" is_default_profile="true"><rtps>
    <prefix>44.53.00.5f.45.50.52.4f.53.49.4d.41</prefix>
    <builtin>
      <discovery_config><discoveryProtocol>SERVER</discoveryProtocol></discovery_config>
      <metatrafficUnicastLocatorList><locator>
        <udpv4><address>127.0.0.1</address><port>{port}</port></udpv4>
      </locator></metatrafficUnicastLocatorList>
    </builtin>
  </rtps></participant>
</profiles>
"""
RUN_SERVER = (
    'import rclpy; rclpy.init(); node = rclpy.create_node("server"); print(flush=True); rclpy.spin(node)'
)


@pytest.fixture(scope='module')
def node(tiny_weights, tmp_path_factory):
    """A node and its client, which know a discovery server only."""
    if rclpy.get_rmw_implementation_identifier() != DEFAULT:
        pytest.skip('the server is of Fast DDS')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    profile = tmp_path_factory.mktemp('server') / 'server.xml'
    profile.write_text(PROFILE.format(port=port))
    server = subprocess.Popen(
        [sys.executable, '-c', RUN_SERVER],
        env=os.environ
        | {profile_variables()[0]: str(profile), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SYSTEM_DEFAULT'},
        stdout=subprocess.PIPE,
        preexec_fn=die_with_parent,
    )
    assert server.stdout.readline() == b'\n'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SERVER, f'127.0.0.1:{port}')
        running = NodeProcess(weights=str(tiny_weights))
        running.cloud = running.client.create_publisher(PointCloud2, 'points', running.qos)
        yield running
        running.close()
    server.send_signal(signal.SIGTERM)
    server.wait()


def test_nobody_blames_a_camera_that_is_only_not_told_of(node):
    node.wait_active()
    before = node.status_s
    node.spin_until(lambda: node.status_s > before + 3, 'more diagnostics')
    assert node.status[0] == 'idle: no output has subscribers, so /image is not subscribed to'


def send(node, street):
    """Publish an image, and a cloud of a point for each of its pixels."""
    stamp = node.client.get_clock().now()
    node.send(street, stamp_ns=stamp.nanoseconds)
    places = np.ones(street.shape[:2], [(axis, '<f4') for axis in 'xyz'])
    header = Header(stamp=stamp.to_msg(), frame_id='camera_optical')
    node.cloud.publish(cloud_of(places, header=header))


def test_clouds_are_found_and_labelled(node, street):
    node.listen('points')

    def served():
        send(node, street)
        node.executor.spin_once(timeout_sec=0.1)
        return node.received['points']

    cloud = node.spin_until(served, 'points')[0]
    assert (cloud.height, cloud.width) == street.shape[:2]


def test_the_doctor_is_told_of_topics_that_it_does_not_subscribe_to(node, street, tmp_path):
    node.client.destroy_publisher(node.images)
    elsewhere = node.client.create_publisher(Image, '/camera/image_raw', 1)

    def is_told(found):
        return 'image' in found and '/camera/image_raw' in found['image']['remedy']

    _, found = until(node, street, tmp_path / 'doctor.json', is_told, sends=lambda: None)
    node.client.destroy_publisher(elsewhere)
    assert found['image']['remedy'] == 'start the camera, or remap image; there is /camera/image_raw'


def test_the_demo_has_a_discovery_of_its_own(monkeypatch):
    for name in DISCOVERY:
        monkeypatch.setenv(name, '192.0.2.1:11811')
    assert not {*DISCOVERY} & ros_environment().keys()
