# SPDX-License-Identifier: Apache-2.0
"""What comes in: every pixel format, bad bytes, publishers that come and go."""

import itertools

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from builtin_interfaces.msg import Time
from rclpy import get_rmw_implementation_identifier
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from lw_refinenet_ros.image.encodings import ENCODINGS, rgb
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.node.process.middleware import remedy
from test.support.fast_dds import IS_FAST_DDS
from test.support.node_process import NodeProcess, pixels_of

pytestmark = pytest.mark.ros

stamps = itertools.count(12_000_000_000)


@pytest.fixture(scope='module')
def node(tiny_weights):
    running = NodeProcess(weights=str(tiny_weights), use_sim_time=True)
    running.listen('label', 'overlay')
    running.wait_active()
    yield running
    running.close()


def encode(street, encoding):
    """The picture in another format, by OpenCV; what only a camera makes, from its grey values."""
    grey = cv2.cvtColor(street, cv2.COLOR_RGB2GRAY)
    layout = ENCODINGS[encoding]
    if layout.depth == 16:
        return (encode(street, f'{encoding[:-2]}8').astype('<u2') * 257).view(np.uint8)
    if layout.channels == 4:
        return np.dstack([street if layout.order == 'rgb' else street[..., ::-1], grey])
    if layout.channels == 3:
        return street if layout.order == 'rgb' else street[..., ::-1]
    if layout.channels == 2:
        return np.dstack([street[..., 0], grey] if encoding in {'yuv422', 'uyvy'} else [grey, street[..., 0]])
    if encoding == 'nv24':
        return np.vstack([grey, street[..., :2].reshape(2 * len(grey), -1)])
    if layout.planes == (3, 2):
        return np.vstack([grey, street[::2, :, 0]])
    return grey


@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize('padding', [0, 24])
def test_every_pixel_format_with_any_step_gives_the_segmenters_label(
    node, segmenter, street, encoding, padding
):
    rows = np.ascontiguousarray(encode(street, encoding)).reshape(-1)
    height, width = street.shape[:2]
    rows = rows.reshape(height * ENCODINGS[encoding].planes[0] // ENCODINGS[encoding].planes[1], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    frame = Frame(0, '', height, width, encoding, rows.shape[1], rows.reshape(-1))
    answer = node.answer('label', rows, next(stamps), encoding=encoding, height=height, width=width)
    assert answer.encoding == 'mono8'
    np.testing.assert_array_equal(pixels_of(answer), segmenter.segment(rgb(frame)).label)


def test_a_least_confidence_counts_though_nobody_subscribes_to_the_confidence(node, segmenter, street):
    sure = segmenter.segment(street, confidence=True)
    threshold = float(np.median(sure.confidence)) / 255
    expected = np.where(sure.confidence < threshold * 255, 255, sure.label)
    assert 0 < (expected == 255).mean() < 1
    assert node.set(min_confidence=threshold)[0].successful
    answer = node.answer('label', street, next(stamps))
    assert node.set(min_confidence=0.0)[0].successful
    np.testing.assert_array_equal(pixels_of(answer), expected)


def count(node, reason):
    return node.status[2].get(f'bad: {reason}', 0)


@pytest.mark.parametrize('kept', [3, 20, 60, 30000])
def test_a_truncated_message_is_counted_and_the_next_is_served(node, street, kept):
    whole = serialize_message(Image(height=96, width=128, step=384, encoding='rgb8', data=street.tobytes()))
    before = count(node, 'truncated')
    node.images.publish(whole[:kept])
    node.spin_until(lambda: count(node, 'truncated') > before, 'count of truncated frames')
    node.answer('label', street, next(stamps))


def test_size_and_encoding_may_change_with_every_frame(node, segmenter, street):
    for index, side in enumerate((96, 64, 96, 32, 64)):
        piece = np.ascontiguousarray(street[:side, : side + 32])
        encoding = ('rgb8', 'bgr8', 'mono8')[index % 3]
        sent = encode(piece, encoding)
        answer = node.answer('label', np.ascontiguousarray(sent), next(stamps), encoding=encoding)
        seen = Frame.from_array(np.ascontiguousarray(sent), stamp_ns=0, frame_id='', encoding=encoding)
        np.testing.assert_array_equal(pixels_of(answer), segmenter.segment(rgb(seen)).label)


def test_a_clock_that_jumps_back_stops_nothing(node, street):
    clock = node.client.create_publisher(Clock, '/clock', 1)
    node.spin_until(clock.get_subscription_count, 'subscription to the clock')

    def shows(seconds):
        clock.publish(Clock(clock=Time(sec=seconds)))  # a single one may be lost: it is best effort
        return node.status_s == seconds

    for seconds in (1000, 10, 1000):
        node.spin_until(lambda seconds=seconds: shows(seconds), 'the new clock')  # before the image
        node.answer('label', street, seconds * 10**9 - 5_000_000 - next(stamps) % 10**6)
        node.spin_until(lambda: 5 <= float(node.status[1].get('age_ms', 0)) < 2000, 'age by the new clock')


def test_a_publisher_that_dies_and_returns_is_served_and_missed(node, street):
    node.client.destroy_publisher(node.images)
    node.spin_until(lambda: node.status[0] == 'nobody publishes /image', 'warning')
    assert node.level == b'\x01'
    instead = 'set image_transport: compressed'
    for kind, todo in ((CompressedImage, instead), (Clock, 'ros2 run image_transport republish')):
        other = node.client.create_publisher(kind, 'image', node.qos)
        carried = f'/image carries {kind.__module__.split(".")[0]}/msg/{kind.__name__}, not sensor_msgs/'
        node.spin_until(lambda carried=carried: node.status[0].startswith(carried), 'its type')
        assert node.status[0].endswith(todo)
        node.client.destroy_publisher(other)
    jpegs = node.client.create_publisher(CompressedImage, 'image/compressed', node.qos)
    said = f'nobody publishes /image, but there is /image/compressed: {instead}'
    node.spin_until(lambda: node.status[0] == said, 'the other transport')
    node.images = node.client.create_publisher(Image, 'image', node.qos)
    node.wait_active()
    node.answer('label', street, next(stamps))
    silent, large = 'no frame for 2 s though /image has a publisher: ', 'if its images are large, '
    said = f'if only /image/compressed sends, {instead}; {large}'
    node.spin_until(lambda: node.status[0].startswith(silent) and said in node.status[0], 'silence')
    assert remedy(get_rmw_implementation_identifier()) in node.status[0]
    assert ('fastdds_large_images.xml' in node.status[0]) == IS_FAST_DDS
    node.client.destroy_publisher(jpegs)
    node.spin_until(lambda: large in node.status[0] and 'compressed' not in node.status[0], 'one transport')
