# SPDX-License-Identifier: Apache-2.0
"""Pixels are where docs/fast_path.md says they are: addresses and allocations tell, code is not read."""

import time
import tracemalloc
from array import array
from collections.abc import Callable
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.image.compressed import parse_compressed_image
from lw_refinenet_ros.image.encodings import ENCODINGS, _cv_bridge, color_image
from lw_refinenet_ros.image.frame import parse_image
from lw_refinenet_ros.image.painting import paint_label, paint_overlay
from lw_refinenet_ros.image.point_cloud import (
    POINT,
    Pinhole,
    metres,
    pack_class,
    pack_color,
    project,
    write_points,
)
from lw_refinenet_ros.inference.segmenter import _packed
from lw_refinenet_ros.labels import LabelSet
from test.support.cdr import compressed_cdr, image_cdr

HEIGHT, WIDTH = 480, 640  # NumPy 1 reduces them in a buffer of 9 KB, a tenth of a byte for 240x320
VIEWED = {'rgb8', 'bgr8', '8UC3'}


def address(pixels_or_bytes) -> int:
    return np.frombuffer(pixels_or_bytes, np.uint8).ctypes.data


@pytest.fixture
def message(street):
    """A serialized image as the middleware hands it over: bytes that may not be written."""
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    image = Image(height=96, width=128, encoding='rgb8', step=384)
    image.data = array('B', street.tobytes())
    return serialize_message(image)


@pytest.mark.ros
@pytest.mark.parametrize('confidence', [False, True])
def test_the_network_reads_the_bytes_of_the_message_where_they_lie(message, tiny_weights, confidence):
    pytest.importorskip('openvino')
    segmenter = Segmenter.load(str(tiny_weights), engine='openvino')
    frame = parse_image(message)
    payload = address(message) + len(message) - frame.data.size
    image, order = color_image(frame)
    assert image.ctypes.data == frame.data.ctypes.data
    assert address(message) < image.ctypes.data <= payload
    segmenter.segment(image, order=order, confidence=confidence)
    (request,) = segmenter.engine._compiled.values()
    assert request.get_tensor('image').data.ctypes.data == image.ctypes.data


@pytest.mark.parametrize('size', [(96, 128), (95, 127)])
@pytest.mark.parametrize('engine', ['openvino', 'torch'])
def test_the_label_is_written_where_the_caller_wants_it(tiny_weights, street, engine, size):
    if engine == 'openvino':
        pytest.importorskip('openvino')
    segmenter = Segmenter.load(str(tiny_weights), engine=engine)
    image, memory = np.ascontiguousarray(street[: size[0], : size[1]]), np.full(size, 77, np.uint8)
    result = segmenter.segment(image, out=memory)
    assert result.label.ctypes.data == memory.ctypes.data
    assert memory.max() < 3


def test_a_batch_and_a_resized_image_are_copied_once_into_memory_that_is_kept(tiny_weights, street):
    pytest.importorskip('openvino')
    segmenter = Segmenter.load(str(tiny_weights), engine='openvino')
    image = cv2.resize(street, (WIDTH, HEIGHT))
    for batch, network_size in ((2, (0, 0)), (1, (96, 128))):
        job = segmenter.job((HEIGHT, WIDTH), network_size=network_size, batch=batch)
        first = segmenter.engine._input(job, [image] * batch)
        assert new_bytes_per_pixel(lambda job=job, n=batch: segmenter.engine._input(job, [image] * n)) < 0.1
        assert segmenter.engine._input(job, [image] * batch).ctypes.data == first.ctypes.data


@pytest.mark.ros
@pytest.mark.parametrize('serialized', [True, False])
@pytest.mark.parametrize('encoding', ['mono8', 'rgb8'])
def test_an_output_is_filled_in_the_memory_of_the_message_that_is_published(
    monkeypatch, encoding, serialized
):
    from std_msgs.msg import Header

    from lw_refinenet_ros.node import outputs

    published = []  # the addresses of the pixels

    class Publisher:
        def publish(self, message):
            published.append(address(message.data))

    def publish_serialized(_, cdr):
        assert parse_image(memoryview(cdr)).encoding == encoding
        published.append(address(cdr) + len(cdr) - first.size)

    monkeypatch.setattr(outputs, 'publishes_serialized', lambda: serialized)
    monkeypatch.setattr(outputs, 'publish_serialized', publish_serialized)
    output = outputs.ImageOutput(Publisher(), encoding)
    first = output.memory(96, 128)
    again = output.memory(96, 128)
    assert first.ctypes.data == again.ctypes.data, 'memory is used again'
    output.publish(Header(), again)
    output.publish(Header(frame_id='front_camera'), np.full_like(first, 3))
    assert published == [first.ctypes.data] * 2
    assert (first == 3).all(), 'an image that lies elsewhere is copied'


@pytest.mark.ros
@pytest.mark.parametrize('frame_id', ['', 'c', 'front_camera', 'x' * 2000])
def test_an_image_is_published_as_the_same_message_serialized_or_not(monkeypatch, frame_id):
    from rclpy.serialization import deserialize_message, serialize_message
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from lw_refinenet_ros.node import outputs

    typed, serialized = [], []
    publisher = SimpleNamespace(publish=lambda message: typed.append(serialize_message(message)))
    monkeypatch.setattr(outputs, 'publish_serialized', lambda _, cdr: serialized.append(bytes(cdr)))
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = -3, 999_999_999
    for encoding, shape in (('mono8', (5, 7)), ('rgb8', (5, 7, 3)), ('rgb8', (2, 1, 3))):
        image = np.random.default_rng(1).integers(0, 255, shape, np.uint8)
        for way in (True, False):
            monkeypatch.setattr(outputs, 'publishes_serialized', lambda way=way: way)
            outputs.ImageOutput(publisher, encoding).publish(header, image)
    assert len(typed) == len(serialized) == 3
    for one, other in zip(typed, serialized):  # not their bytes: rclpy does not clear its padding
        assert deserialize_message(one, Image) == deserialize_message(other, Image)


def test_colours_and_overlays_are_written_where_the_caller_wants_them(tiny_weights, street):
    result = Segmenter.load(str(tiny_weights), engine='torch').segment(street)
    memory = np.empty_like(street)
    assert result.color(out=memory) is memory
    assert result.overlay(0.5, out=memory) is memory
    mask = np.empty_like(result.label)
    assert result.mask(['car'], out=mask) is mask


def new_bytes_per_pixel(call: Callable[[], object]) -> float:
    """The most memory that a call holds beyond what was there before; NumPy's and OpenCV's is traced."""
    call()  # what is kept from call to call is there by now
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / (HEIGHT * WIDTH)
    finally:
        tracemalloc.stop()


def test_allocations_are_seen_wherever_they_are_made():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert new_bytes_per_pixel(lambda: image[::-1]) < 0.1
    for copy in (image.copy, image.tobytes, lambda: cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
        assert 3 <= new_bytes_per_pixel(copy) < 3.1


@pytest.mark.parametrize('padding', [0, 16])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_raw_pixels_are_viewed_or_copied_once_into_three_bytes(encoding, padding):
    layout = ENCODINGS[encoding]
    step = WIDTH * layout.channels * layout.depth // 8 + padding
    rows = HEIGHT * layout.planes[0] // layout.planes[1]
    data = np.zeros(rows * step, np.uint8)
    cdr = image_cdr(data, HEIGHT, WIDTH, encoding, step)
    # Into the hands of the engine, which reads them there: see the addresses above.
    used = new_bytes_per_pixel(lambda: _packed(color_image(parse_image(cdr)).array))
    if encoding in VIEWED and not padding:
        expected = 0
    elif encoding == 'mono16':
        expected = 3 + (2 if _cv_bridge() else 1)  # OpenCV takes it scaled to eight bits
    elif encoding.startswith('bayer') and layout.depth == 16:
        expected = 9  # its colours in 16 bits, then in eight
    else:
        expected = {'nv24': 10}.get(encoding, 3)  # packed with each brightness twice, then in colours
    assert expected <= used < expected + 0.1


@pytest.mark.parametrize(('suffix', 'written', 'expected'), [
    ('.jpg', 'rgb8; jpeg compressed bgr8', 3),
    ('.png', 'bgr8; png compressed bgr8', 3),
    ('.jpg', 'mono8; jpeg compressed mono8', 3),
    ('.png', 'bayer_rggb8; png compressed ', 4),
])  # fmt: skip
def test_compressed_pixels_are_decoded_once(suffix, written, expected, street):
    picture = cv2.resize(street, (WIDTH, HEIGHT))
    content = cv2.imencode(suffix, picture[..., 0] if 'bayer' in written else picture)[1].tobytes()
    cdr = compressed_cdr(content, written)
    stored = len(content) / (HEIGHT * WIDTH)  # the compressed bytes are copied for the decoder
    used = new_bytes_per_pixel(lambda: _packed(color_image(parse_compressed_image(cdr)).array))
    assert expected <= used < expected + stored + 0.1


@pytest.mark.parametrize(('painted', 'mask'), [(['sky'], 0), (None, 0), (['road'], 1)])
@pytest.mark.parametrize(('order', 'turned'), [('rgb', 0), ('bgr', 3)])
def test_an_overlay_takes_a_mask_where_something_is_left_out_and_turns_bgr_once(painted, mask, order, turned):
    labels = LabelSet('two', ('sky', 'road'), ((0, 0, 0), (1, 2, 3)))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    label, memory = image[..., 0].copy(), np.empty_like(image)
    colours = 3 if cv2.__version__.startswith('4.5.') else 0  # Humble's OpenCV makes them, then copies them
    assert new_bytes_per_pixel(lambda: paint_label(label, labels, out=memory)) < colours + 0.1
    expected = max(mask, colours) + turned
    used = new_bytes_per_pixel(lambda: paint_overlay(image, label, labels, 0.5, painted, order, out=memory))
    assert expected <= used < expected + 0.1


def test_points_are_written_where_they_lie_from_one_image_of_depths_in_metres():
    cdr = image_cdr(np.full(HEIGHT * WIDTH * 2, 3, np.uint8), HEIGHT, WIDTH, '16UC1', WIDTH * 2)
    depth, camera = metres(parse_image(cdr)), Pinhole(HEIGHT, WIDTH, 300.0, 300.0, 160.0, 120.0)
    image, points = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.empty((HEIGHT, WIDTH), POINT)
    masks = 3  # a byte each, while it is made
    assert 4 <= new_bytes_per_pixel(lambda: metres(parse_image(cdr))) < 4 + masks + 0.1
    # What NumPy turns into floats piece by piece is a part of the image.
    xyz, packed = np.empty((3, HEIGHT, WIDTH), np.float32), np.zeros((HEIGHT, WIDTH), np.uint32)
    assert new_bytes_per_pixel(lambda: project(depth, camera, xyz)) < 1
    assert 4 <= new_bytes_per_pixel(lambda: pack_color(image, 'bgr')) < 4.1
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    assert 5 <= new_bytes_per_pixel(lambda: pack_class(label, label)) < 5.1
    assert new_bytes_per_pixel(lambda: write_points(points, xyz, packed, packed)) < 1


@pytest.mark.ros
def test_a_message_is_taken_without_a_copy_into_python():
    import rclpy
    from rclpy.qos import ReliabilityPolicy
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    from lw_refinenet_ros.node.message_buffers import MessageBuffers, rcl
    from lw_refinenet_ros.node.subscription import quality

    if rcl() is None:
        pytest.skip('rcl cannot be called here: rclpy takes the messages')
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        node = rclpy.create_node('taking', context=context, use_global_arguments=False)
        reliable = quality(ReliabilityPolicy.RELIABLE)
        publisher = node.create_publisher(Image, 'taken', reliable)
        subscription = node.create_subscription(Image, 'taken', lambda _: None, reliable, raw=True)
        cdr = serialize_message(Image(data=array('B', bytes(3 * HEIGHT * WIDTH))))
        while not publisher.get_subscription_count():
            time.sleep(0.01)
        buffers = MessageBuffers(subscription)

        def send(take):
            publisher.publish(cdr)
            while (message := take()) is None:
                pass
            assert len(message.cdr) == len(cdr)

        assert new_bytes_per_pixel(lambda: send(buffers.take)) < 0.1
        assert 3 <= new_bytes_per_pixel(lambda: send(buffers._take_by_rclpy)) < 3.1
    finally:
        rclpy.try_shutdown(context=context)


@pytest.mark.ros
@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_messages_for_a_cuda_engine_come_into_page_locked_memory(monkeypatch, device):
    """There nothing copies them: see `FrameBuffer` in test_cuda_failures.py."""
    from lw_refinenet_ros.inference.cuda import pinned_memory
    from lw_refinenet_ros.node.inference_thread import InferenceThread

    locked = torch.zeros(100, dtype=torch.uint8)
    monkeypatch.setattr(pinned_memory, 'page_locked', lambda size: locked[:size])
    model = SimpleNamespace(segmenter=SimpleNamespace(engine=SimpleNamespace(device=device)))
    allocate = InferenceThread(model, lambda: None, lambda _: None).allocate
    if device == 'cpu':
        assert allocate is None
    else:
        memory = allocate(70)
        assert (memory.ctypes.data, memory.size) == (locked.data_ptr(), 70)


@pytest.mark.ros
def test_publishing_an_image_allocates_no_pixels(street):
    import rclpy
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from lw_refinenet_ros.node.outputs import ImageOutput

    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        node = rclpy.create_node('copies', context=context, use_global_arguments=False)
        output = ImageOutput(node.create_publisher(Image, 'copies', 1), 'rgb8')

        def publish():
            memory = output.memory(HEIGHT, WIDTH)
            memory[...] = 7
            output.publish(Header(), memory)

        assert new_bytes_per_pixel(publish) < 0.2
    finally:
        rclpy.try_shutdown(context=context)
