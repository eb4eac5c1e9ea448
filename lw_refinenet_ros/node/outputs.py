# SPDX-License-Identifier: Apache-2.0
"""Image publishers whose messages' memory is filled in place and used again."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
from rclpy.publisher import Publisher
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from lw_refinenet_ros.image.cloud import Cloud
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.inference.engine import Pixels

__all__ = ['ImageOutput', 'JpegOutput', 'fill_image', 'fill_jpeg', 'header_of', 'jpeg_message']

CHANNELS = {'mono8': 1, 'rgb8': 3}
JPEG_QUALITY = 90


def header_of(frame: Frame | Cloud) -> Header:
    """Return the header of a frame or cloud, unchanged."""
    header = Header(frame_id=frame.frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(frame.stamp_ns, 1_000_000_000)
    return header


def fill_image(message: Image, frame: Frame) -> None:
    """Copy a frame into a message, whose memory is used again if the size is the same."""
    message.header = header_of(frame)
    message.height, message.width, message.step = frame.height, frame.width, frame.step
    message.encoding, message.is_bigendian = frame.encoding, int(frame.is_bigendian)
    if len(message.data) != frame.data.size:
        message.data = array('B', bytes(frame.data.size))
    np.copyto(np.frombuffer(message.data, np.uint8), frame.data)


class ImageOutput:
    """Publishes images of one encoding, 'mono8' or 'rgb8', with tight rows."""

    def __init__(self, publisher: Publisher, encoding: str) -> None:
        self._publisher = publisher
        self._channels = CHANNELS[encoding]
        self._message = Image(encoding=encoding)
        self._memory = np.empty(0, np.uint8)

    @property
    def wanted(self) -> bool:
        """Whether there are subscribers."""
        return bool(self._publisher.get_subscription_count())

    def memory(self, height: int, width: int) -> Pixels:
        """Return the message's own memory, uint8 (H, W) or (H, W, 3): an image there is not copied."""
        if (self._message.height, self._message.width) != (height, width):
            self._message.height, self._message.width = height, width
            self._message.step = width * self._channels
            self._message.data = array('B', bytes(height * self._message.step))
            shape = (height, width) if self._channels == 1 else (height, width, self._channels)
            self._memory = np.frombuffer(self._message.data, np.uint8).reshape(shape)
        return self._memory

    def publish(self, header: Header, image: Pixels) -> None:
        """Publish uint8 (H, W) or (H, W, 3) RGB; copied unless it is the array that `memory` returned."""
        memory = self.memory(*image.shape[:2])
        if image is not memory:
            np.copyto(memory, image)
        self._message.header = header
        self._publisher.publish(self._message)


def jpeg_message() -> CompressedImage:
    """Return a message for `fill_jpeg`, in the words of image_transport."""
    return CompressedImage(format='rgb8; jpeg compressed bgr8')


def fill_jpeg(message: CompressedImage, header: Header, image: Pixels) -> None:
    """Compress uint8 (H, W, 3) RGB into a message."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode('.jpg', bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    message.header = header
    message.data = array('B', jpeg.tobytes())


class JpegOutput:
    """Publishes RGB images as JPEG."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._message = jpeg_message()

    @property
    def wanted(self) -> bool:
        """Whether there are subscribers."""
        return bool(self._publisher.get_subscription_count())

    def publish(self, header: Header, image: Pixels) -> None:
        """Compress and publish uint8 (H, W, 3) RGB."""
        fill_jpeg(self._message, header, image)
        self._publisher.publish(self._message)
