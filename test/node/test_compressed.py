# SPDX-License-Identifier: Apache-2.0
"""Compressed images in and out, as image_transport has them."""

import itertools

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage

from lw_refinenet_ros.image.compressed import parse_compressed_image
from lw_refinenet_ros.image.encodings import rgb
from test.support.node_process import NodeProcess, pixels_of, stamp_of

pytestmark = pytest.mark.ros

stamps = itertools.count(12_000_000_000)


@pytest.fixture(scope='module', params=['/front/rgb', '/front/rgb/compressed'])
def node(request, tiny_weights):
    """A node that takes compressed images, its topic remapped, and a publisher to it."""
    remap = f'image:={request.param}'
    running = NodeProcess(weights=str(tiny_weights), image_transport='compressed', remap=remap)
    running.images = running.client.create_publisher(CompressedImage, '/front/rgb/compressed', running.qos)
    running.listen('label', 'overlay', 'overlay/compressed')
    running.wait_active()
    yield running
    running.close()


def count(node, reason):
    return node.status[2].get(f'bad: {reason}', 0)


def compress(picture, suffix='.png', written='bgr8; png compressed bgr8'):
    data = cv2.imencode(suffix, picture[..., ::-1])[1].tobytes()
    message = CompressedImage(format=written, data=data)
    message.header.frame_id = 'camera_optical'
    return message


def segment(node, topic, message):
    """Send a compressed image until its result is there."""
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(next(stamps), 10**9)

    def found():
        return next((m for m in node.received[topic] if stamp_of(m) == stamp_of(message)), None)

    for _ in range(10):
        node.images.publish(message)
        for _ in range(20):
            node.executor.spin_once(timeout_sec=0.1)
            if found():
                return found()
    raise AssertionError(node.status)


@pytest.mark.parametrize(
    ('suffix', 'written'),
    [
        ('.png', 'bgr8; png compressed bgr8'),
        ('.jpg', 'rgb8; jpeg compressed bgr8'),
        ('.jpg', 'jpeg'),
    ],
)
def test_compressed_images_come_from_the_remapped_topic(node, segmenter, street, suffix, written):
    message = compress(street, suffix, written)
    label = segment(node, 'label', message)
    assert label.header == message.header
    seen = rgb(parse_compressed_image(serialize_message(message)))
    np.testing.assert_array_equal(pixels_of(label), segmenter.segment(seen).label)


@pytest.mark.parametrize(
    ('reason', 'spoil'), [('truncated', lambda data: data[:-20]), ('decode', lambda _: b'no image at all')]
)
def test_a_damaged_compressed_image_is_counted_and_the_next_is_served(node, street, reason, spoil):
    message = compress(street, '.jpg')
    message.data = spoil(bytes(message.data))
    before = count(node, reason)
    node.images.publish(message)
    node.spin_until(lambda: count(node, reason) > before, f'count of {reason}')
    segment(node, 'label', compress(street))


def test_the_compressed_overlay_is_a_jpeg_of_the_overlay(node, segmenter, street):
    message = compress(street)
    jpeg = segment(node, 'overlay/compressed', message)
    assert jpeg.header == message.header
    assert jpeg.format == 'rgb8; jpeg compressed bgr8'
    decoded = rgb(parse_compressed_image(serialize_message(jpeg)))
    overlay = segmenter.segment(street).overlay(0.5)
    assert np.abs(decoded.astype(int) - overlay).mean() < 10
    swapped = np.abs(decoded[..., ::-1].astype(int) - overlay).mean()
    assert swapped > 20, 'the picture cannot tell red from blue'
