# SPDX-License-Identifier: Apache-2.0
"""Where the frame of a depth or cloud lies in that of the image."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from std_msgs.msg import Header

from lw_refinenet_ros.image.visibility import Pose
from lw_refinenet_ros.node import frames as frames_module
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


def test_tf_is_asked_where_the_frame_of_the_points_lies_in_that_of_the_image_at_their_stamp(monkeypatch):
    asked = []
    position, turn = SimpleNamespace(x=1.0, y=2.0, z=3.0), SimpleNamespace(x=0.0, y=0.0, z=1.0, w=1.0)

    def lookup(target, source, time):
        asked.append((target, source, time.nanoseconds))
        return SimpleNamespace(transform=SimpleNamespace(translation=position, rotation=turn))

    monkeypatch.setattr(frames_module, 'tf2_ros', SimpleNamespace(TransformException=LookupError))
    frames = Frames(None)
    frames._listener, frames._buffer = object(), SimpleNamespace(lookup_transform=lookup)
    found = frames.pose(Header(frame_id='lidar', stamp=Time(sec=5, nanosec=7)), 'camera', None)
    assert asked == [('camera', 'lidar', 5_000_000_007)]
    np.testing.assert_array_equal(found.position, [1, 2, 3])
    np.testing.assert_allclose(found.rotation @ [1, 0, 0], [0, 1, 0], atol=1e-12)


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
