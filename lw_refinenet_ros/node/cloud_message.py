# SPDX-License-Identifier: Apache-2.0
"""Point clouds as messages, written by sensor_msgs_py where it is installed."""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt
from rclpy.publisher import Publisher
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from lw_refinenet_ros.image.point_cloud import POINT

try:
    from sensor_msgs_py.point_cloud2 import create_cloud
except ImportError:
    create_cloud = None

__all__ = ['CloudWriter', 'Points']

Points = npt.NDArray[np.void]  # of POINT
CODES = {np.dtype('<f4'): PointField.FLOAT32, np.dtype('<u2'): PointField.UINT16}
FIELDS = [
    PointField(name=name, offset=field[1], datatype=CODES[field[0]], count=1)
    for name, field in (POINT.fields or {}).items()
]


class CloudWriter:
    """Publishes clouds of `POINT`, its memory used again."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._message = PointCloud2(fields=FIELDS, point_step=POINT.itemsize, is_dense=False)
        self._points: Points = np.empty((0, 0), POINT)

    @property
    def wanted(self) -> bool:
        """Whether there are subscribers."""
        return bool(self._publisher.get_subscription_count())

    def points(self, height: int, width: int) -> Points:
        """Return the memory of (height, width) points, to be filled before `publish`."""
        if self._points.shape != (height, width):
            message = self._message
            message.height, message.width, message.row_step = height, width, width * POINT.itemsize
            message.data = array('B', bytes(height * message.row_step))
            self._points = np.frombuffer(message.data, POINT).reshape(height, width)
        return self._points

    def publish(self, header: Header) -> None:
        """Publish the memory that `points` returned."""
        self._publisher.publish(self.message(header))

    def message(self, header: Header) -> PointCloud2:
        """Return the cloud as a message, in the memory of `points` unless sensor_msgs_py wrote it."""
        height, width = self._points.shape
        if create_cloud is None:
            self._message.header = header
            return self._message
        # Its own notion of an organised cloud has changed: the shape is given here.
        cloud = create_cloud(header, FIELDS, self._points.reshape(-1))
        cloud.height, cloud.width, cloud.row_step = height, width, width * POINT.itemsize
        cloud.is_dense = False
        return cloud
