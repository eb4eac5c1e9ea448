# SPDX-License-Identifier: Apache-2.0
"""Where the frame of a depth or cloud lies in that of the image."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

import rclpy
from rclpy.context import Context
from std_msgs.msg import Header

from lw_refinenet_ros.image.visibility import Pose
from lw_refinenet_ros.node.frames import Frames

pytestmark = pytest.mark.ros


def test_frames_that_differ_take_the_parameter_or_tf_and_are_refused_without_both():
    frames, lidar = Frames(None), Header(frame_id='lidar')
    given = Pose.build((1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0))
    same = frames.pose(lidar, 'lidar', given)
    assert not same.position.any()
    np.testing.assert_array_equal(same.rotation, np.eye(3))
    assert frames.pose(lidar, 'camera', given) is given
    with pytest.raises(ValueError, match="'lidar' is another frame than that of the image, 'camera': "):
        frames.pose(lidar, 'camera', None)


def test_listening_to_tf_again_begins_empty_and_offers_its_service_once():
    pytest.importorskip('tf2_ros', reason='tf2_ros is not installed')
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node('frames', context=context)
    frames = Frames(node)
    for _ in range(2):
        with pytest.raises(ValueError, match=r'is another frame than that of the image.*: waiting for tf'):
            frames.pose(Header(frame_id='lidar'), 'camera', None)
        frames.follow()
        assert {each.topic_name for each in node.subscriptions} >= {'/tf', '/tf_static'}
        with pytest.raises(ValueError, match=r'does not exist.*; publish it on tf, or set points_transform'):
            frames.pose(Header(frame_id='lidar'), 'camera', None)
        frames.close()
        assert not {each.topic_name for each in node.subscriptions} & {'/tf', '/tf_static'}
    assert [each.srv_name for each in node.services if 'tf2_frames' in each.srv_name] == ['tf2_frames']
    node.destroy_node()
    rclpy.shutdown(context=context)
