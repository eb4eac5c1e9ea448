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
from lw_refinenet_ros.image.frame import Frame, serialize_fields
from lw_refinenet_ros.inference.engine import Pixels
from lw_refinenet_ros.node.message_buffers import publish_serialized, publishes_serialized

__all__ = ['ImageOutput', 'JpegOutput', 'fill_image', 'fill_jpeg', 'header_of', 'jpeg_message']

CHANNELS = {'mono8': 1, 'rgb8': 3}
JPEG_QUALITY = 90
ROOM = 1024  # bytes before the pixels of a message: with a longer frame id, they are copied


def header_of(frame: Frame | Cloud) -> Header:
    """Return the header of a frame or cloud, unchanged."""
    header = Header(frame_id=frame.frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(frame.stamp_ns, 1_000_000_000)
    return header


def fill_image(message: Image, frame: Frame) -> None:
    """Copy a frame into a message, whose memory is used again if the size is the same."""
    _fill_fields(message, frame)
    if len(message.data) != frame.data.size:
        message.data = array('B', bytes(frame.data.size))
    np.copyto(np.frombuffer(message.data, np.uint8), frame.data)


def _fill_fields(message: Image, frame: Frame) -> None:
    message.header = header_of(frame)
    message.height, message.width, message.step = frame.height, frame.width, frame.step
    message.encoding, message.is_bigendian = frame.encoding, int(frame.is_bigendian)


class ImageOutput:
    """Publishes images of one encoding, 'mono8' or 'rgb8', with tight rows.

    Their pixels lie where they are published from: in a serialized message, behind room for its other fields,
    or in a typed one where the middleware is not given serialized ones.
    """

    def __init__(self, publisher: Publisher, encoding: str) -> None:
        self._publisher, self._encoding = publisher, encoding
        self._typed = None if publishes_serialized() else Image()
        self._cdr: Pixels = np.empty(0, np.uint8)
        self._memory: Pixels = np.empty((0, 0), np.uint8)

    @property
    def wanted(self) -> bool:
        """Whether there are subscribers."""
        return bool(self._publisher.get_subscription_count())

    def memory(self, height: int, width: int) -> Pixels:
        """Return the message's own memory, uint8 (H, W) or (H, W, 3): an image there is not copied."""
        if self._memory.shape[:2] != (height, width):
            channels = CHANNELS[self._encoding]
            size = height * width * channels
            if self._typed is None:
                self._cdr = np.empty(ROOM + size, np.uint8)
                pixels = self._cdr[ROOM:]
            else:
                self._typed.data = array('B', bytes(size))
                pixels = np.frombuffer(self._typed.data, np.uint8)
            self._memory = pixels.reshape((height, width) if channels == 1 else (height, width, channels))
        return self._memory

    def publish(self, header: Header, image: Pixels) -> None:
        """Publish uint8 (H, W) or (H, W, 3) RGB; copied unless it is the array that `memory` returned."""
        memory = self.memory(*image.shape[:2])
        if image is not memory:
            np.copyto(memory, image)
        stamp_ns = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        encoding = self._encoding
        frame = Frame.from_array(memory, stamp_ns=stamp_ns, frame_id=header.frame_id, encoding=encoding)
        if self._typed is not None:
            _fill_fields(self._typed, frame)
            self._publisher.publish(self._typed)
            return
        fields = serialize_fields(frame)
        start = ROOM - len(fields)
        if start < 0:
            publish_serialized(self._publisher, fields + memory.tobytes())
            return
        self._cdr[start:ROOM] = np.frombuffer(fields, np.uint8)
        publish_serialized(self._publisher, self._cdr[start:])


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
