# SPDX-License-Identifier: Apache-2.0
"""Images serialized as ROS 2 sends them, good or not, and the reason for which one is refused."""

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from lw_refinenet_ros.image.frame import FrameError

TYPES = get_typestore(Stores.ROS2_HUMBLE)
IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'


def header(frame_id='camera', sec=12, nanosec=34):
    stamp = TYPES.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    return TYPES.types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)


def image_cdr(data=None, height=2, width=3, encoding='rgb8', step=9, little=True, bigendian=0, **stamp):
    data = np.arange(step * height, dtype=np.uint8) if data is None else data
    message = TYPES.types[IMAGE](
        header=header(**stamp),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=bigendian,
        step=step,
        data=data,
    )
    return bytes(TYPES.serialize_cdr(message, IMAGE, little_endian=little))


def compressed_cdr(content, written='jpeg'):
    message = TYPES.types[COMPRESSED](header=header(), format=written, data=np.frombuffer(content, np.uint8))
    return bytes(TYPES.serialize_cdr(message, COMPRESSED))


def reason(function, *args):
    with pytest.raises(FrameError) as caught:
        function(*args)
    return caught.value.reason
