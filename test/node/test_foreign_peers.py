# SPDX-License-Identifier: Apache-2.0
"""A camera and a subscriber on another vendor's DDS, without ROS, and the real node between them."""

import importlib.util
import json
import platform
import subprocess
import sys

import cv2
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')
if not importlib.util.find_spec('cyclonedds'):  # not imported: two vendors' DDS in one process crash
    is_available = sys.version_info < (3, 14) and platform.machine() == 'x86_64'
    reason = 'cyclonedds is not installed' if is_available else 'no wheel of cyclonedds for this Python'
    pytest.skip(reason, allow_module_level=True)

from test.support.node_process import NodeProcess

pytestmark = pytest.mark.ros


@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_labels_return_to_cyclone_dds_with_the_header_of_its_frames(
    tiny_weights, street, tmp_path, transport
):
    height, width = street.shape[:2]
    image = f'{width}x{height}'
    if transport == 'compressed':
        image = str(tmp_path / 'street.jpg')
        cv2.imwrite(image, street)
    node = NodeProcess(weights=str(tiny_weights), image_transport=transport)
    try:
        node.client.destroy_publisher(node.images)
        for reliability in ([], ['--best-effort']):
            command = [sys.executable, '-m', 'test.support.foreign_peer', image, *reliability]
            peer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            node.spin_until(lambda peer=peer: peer.poll() is not None, 'end of the peer', 90.0)
            output, errors = peer.communicate()
            assert peer.returncode == 0, errors
            result = json.loads(output)
            labels = result['labels']
            assert len(labels) >= 3, (result, node.status)
            assert labels == sorted(set(labels))
            assert result['header'] == [labels[-1], 777, 'camera_optical']
            assert result['image'] == [height, width, 'mono8', width, height * width]
    finally:
        node.close()
