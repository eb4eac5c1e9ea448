# SPDX-License-Identifier: Apache-2.0
"""Where the frame of a depth or cloud lies in that of the image."""

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

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
