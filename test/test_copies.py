# SPDX-License-Identifier: Apache-2.0
"""Pixels are where docs/fast_path.md says they are: addresses are compared, code is not read."""

from array import array

import numpy as np
import pytest

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.image.encodings import pixels
from lw_refinenet_ros.image.frame import parse_image


def address(pixels_or_bytes) -> int:
    return np.frombuffer(pixels_or_bytes, np.uint8).ctypes.data


@pytest.fixture
def message(street):
    """A serialized image as the middleware hands it over: bytes that may not be written."""
    pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    image = Image(height=96, width=128, encoding='rgb8', step=384)
    image.data = array('B', street.tobytes())
    return serialize_message(image)


@pytest.mark.parametrize('confidence', [False, True])
def test_the_network_reads_the_bytes_of_the_message_where_they_lie(message, tiny_weights, confidence):
    pytest.importorskip('openvino')
    segmenter = Segmenter.load(str(tiny_weights), engine='openvino')
    frame = parse_image(message)
    payload = address(message) + len(message) - frame.data.size
    image, order = pixels(frame)
    assert image.ctypes.data == frame.data.ctypes.data
    assert address(message) < image.ctypes.data <= payload
    segmenter.segment(image, order=order, confidence=confidence)
    ((request, _),) = segmenter.engine._compiled.values()
    assert request.get_tensor('image').data.ctypes.data == image.ctypes.data


def test_an_odd_sized_label_is_written_by_the_network_itself(tiny_weights, street):
    pytest.importorskip('openvino')
    segmenter = Segmenter.load(str(tiny_weights), engine='openvino')
    label = np.empty((95, 127), np.uint8)
    segmenter.segment(np.ascontiguousarray(street[:95, :127]), out=label)
    ((request, _),) = segmenter.engine._compiled.values()
    assert request.get_tensor('label').data.ctypes.data == label.ctypes.data


def test_an_output_is_filled_in_the_memory_of_the_message_that_is_published(street):
    pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')
    from lw_refinenet_ros.node.outputs import ImageOutput

    class Publisher:
        def publish(self, message):
            self.message = message

    publisher = Publisher()
    for encoding in ('mono8', 'rgb8'):
        output = ImageOutput(publisher, encoding)
        first = output.pixels(96, 128)
        again = output.pixels(96, 128)
        assert first.ctypes.data == again.ctypes.data, 'memory is used again'
        from std_msgs.msg import Header

        output.publish(Header())
        assert address(publisher.message.data) == first.ctypes.data


def test_colours_and_overlays_are_written_where_the_caller_wants_them(tiny_weights, street):
    result = Segmenter.load(str(tiny_weights), engine='torch').segment(street)
    memory = np.empty_like(street)
    assert result.color(out=memory) is memory
    assert result.overlay(0.5, out=memory) is memory
