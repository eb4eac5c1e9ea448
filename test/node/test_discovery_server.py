# SPDX-License-Identifier: Apache-2.0
"""The node where Fast DDS' discovery server tells each process of the topics that it has, and no others."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from lw_refinenet_ros.cli.live import die_with_parent, ros_environment
from lw_refinenet_ros.node.process.middleware import DISCOVERY, SERVER, profile_variables
from test.support.fast_dds import fast_dds_only

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
SERVE = """
import rclpy

rclpy.init()
node = rclpy.create_node('server')
print('serves', flush=True)
rclpy.spin(node)
"""
# A camera and a viewer, in a process of their own: Fast DDS remembers the server as long as a process lives.
PEER = """
import sys
import time
from array import array

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image, PointCloud2, PointField

images, clouds = sys.argv[1:]
rclpy.init()
node = rclpy.create_node('peer')
image = Image(height=48, width=64, step=64, encoding='mono8', data=array('B', bytes(48 * 64)))
fields = [PointField(name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate('xyz')]
cloud = PointCloud2(height=48, width=64, fields=fields, point_step=12, row_step=768, data=bytes(48 * 768))
publishers = [(node.create_publisher(Image, images, 1), image)]

def diagnosed(array):
    print('says', array.status[0].message, flush=True)

node.create_subscription(DiagnosticArray, '/diagnostics', diagnosed, 1)
if clouds:
    publishers.append((node.create_publisher(PointCloud2, clouds, 1), cloud))
    seen = lambda points: print('points', points.height, points.width, flush=True)
    node.create_subscription(PointCloud2, '/lw_refinenet/points', seen, 1)
end = time.monotonic() + 60
while time.monotonic() < end:
    now = node.get_clock().now().to_msg()
    for publisher, message in publishers:
        message.header.stamp, message.header.frame_id = now, 'camera'
        publisher.publish(message)
    rclpy.spin_once(node, timeout_sec=0.1)
"""


@pytest.fixture
def start(tiny_weights, tmp_path):
    """Start processes that know a discovery server only: `start(command)`; the node is one of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    profile = tmp_path / 'server.xml'
    profile.write_text(PROFILE.format(port=port))
    environment = os.environ | ros_environment()
    of_server = {profile_variables()[0]: str(profile), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SYSTEM_DEFAULT'}
    with ExitStack() as stack:

        def run(*command, **variables):
            process = subprocess.Popen(
                [sys.executable, *command],
                env=environment | variables,
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=die_with_parent,
            )
            stack.callback(process.wait)
            stack.callback(process.send_signal, signal.SIGTERM)
            return process

        server = run('-c', SERVE, **of_server)
        assert any(line == 'serves\n' for line in server.stdout)
        environment[SERVER] = f'127.0.0.1:{port}'
        run('-m', 'lw_refinenet_ros.node.main', '--ros-args', '-p', f'weights:={tiny_weights}')
        yield run


@fast_dds_only
def test_nobody_blames_a_camera_that_the_node_is_not_told_of(start):
    peer = start('-c', PEER, '/image', '')
    said = (line for line in peer.stdout if line.startswith('says') and 'warming up' not in line)
    idle = 'says idle: no output has subscribers, so /image is not subscribed to\n'
    assert [next(said) for _ in range(4)] == [idle] * 4


@fast_dds_only
def test_clouds_are_found_and_labelled(start):
    peer = start('-c', PEER, '/image', '/points')
    assert next(line for line in peer.stdout if line.startswith('points')) == 'points 48 64\n'


@fast_dds_only
def test_the_doctor_is_told_of_topics_that_it_does_not_subscribe_to(start):
    peer = start('-c', PEER, '/camera/image_raw', '')
    assert any(line.startswith('says idle') or 'nobody publishes' in line for line in peer.stdout)
    doctor = start('-m', 'lw_refinenet_ros.cli.main', 'doctor', '--seconds', '3')
    assert '-> start the camera, or remap image; there is /camera/image_raw\n' in doctor.stdout.read()


def test_the_demo_has_a_discovery_of_its_own(monkeypatch):
    for name in DISCOVERY:
        monkeypatch.setenv(name, '192.0.2.1:11811')
    assert not {*DISCOVERY[:3]} & ros_environment().keys()
