# SPDX-License-Identifier: Apache-2.0
"""Where the frames of depths and clouds lie in those of the images: a parameter, or tf."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from lw_refinenet_ros.image.visibility import Pose

try:
    import tf2_ros
except ImportError:
    tf2_ros = None

__all__ = ['Frames']

SAME = Pose(np.zeros(3), np.eye(3))


class Frames:
    """Looks up poses; listens to tf only once a pose is needed that no parameter gives."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._needed = threading.Event()
        self._buffer: Any = None
        self._listener: Any = None

    # In the executor's thread

    def follow(self) -> None:
        """Begin to listen to tf if that is needed."""
        if self._needed.is_set() and self._listener is None:
            if self._buffer is None:  # created once: its service is never removed
                self._buffer = tf2_ros.Buffer(node=self._node)
            self._listener = tf2_ros.TransformListener(self._buffer, self._node)

    def close(self) -> None:
        """Stop listening, and forget what was heard."""
        self._needed.clear()
        if self._listener is not None:
            self._listener.unregister()
            self._listener = None
            self._buffer.clear()

    # In the inference thread

    def pose(self, of: Header, frame: str, given: Pose | None) -> Pose:
        """Return the pose of a header's frame in another frame, at the header's stamp.

        Args:
            of: of the depth or cloud.
            frame: of the image.
            given: by the parameter, if it is.

        Raises:
            ValueError: the frames differ, and neither parameter nor tf connects them.
        """
        if of.frame_id == frame:
            return SAME
        if given is not None:
            return given
        what = f'{of.frame_id!r} is another frame than that of the image, {frame!r}'
        if tf2_ros is None:
            raise ValueError(f'{what}: set points_transform, since tf2_ros is not installed')
        self._needed.set()
        if self._listener is None:
            raise ValueError(f'{what}: waiting for tf')
        try:
            found = self._buffer.lookup_transform(frame, of.frame_id, Time.from_msg(of.stamp)).transform
        except tf2_ros.TransformException as error:
            raise ValueError(f'{what}: {error}; publish it on tf, or set points_transform') from error
        position, turn = found.translation, found.rotation
        return Pose.build((position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w))
