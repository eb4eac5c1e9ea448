# SPDX-License-Identifier: Apache-2.0
"""Messages taken into our own memory: the same bytes as rclpy's, and never a byte outside."""

import ctypes
import random
import time
import weakref
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from lw_refinenet_ros.image.frame import parse_image
from lw_refinenet_ros.node import message_buffers
from lw_refinenet_ros.node.message_buffers import (
    MAX_BUFFERS,
    Memory,
    MessageBuffers,
    has_known_layout,
    publish_serialized,
    rcl,
)
from lw_refinenet_ros.node.subscription import quality
from test.support.fast_dds import fast_dds_only
from test.support.faults.messages import GuardedMemory, damaged, fate, originals
from test.support.node_process import PATIENCE_S

pytestmark = pytest.mark.ros
requires_rcl = pytest.mark.skipif(rcl() is None, reason='rcl cannot be called here: rclpy takes the messages')


@pytest.fixture
def topic():
    """A publisher of images, a subscription, and `send`, which publishes and takes."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('taking', context=context, use_global_arguments=False)
    reliable = quality(ReliabilityPolicy.RELIABLE)
    publisher = node.create_publisher(Image, 'pictures', reliable)
    subscription = node.create_subscription(Image, 'pictures', lambda _: None, reliable, raw=True)
    buffers = MessageBuffers(subscription)

    def send(cdr: bytes, take=buffers.take, publish=publisher.publish):
        publish(cdr)
        end = time.monotonic() + PATIENCE_S
        while (message := take()) is None:
            assert time.monotonic() < end, 'no message came'
            time.sleep(0.0002)
        return message

    while not publisher.get_subscription_count():
        time.sleep(0.01)
    with subscription.handle:
        yield SimpleNamespace(publisher=publisher, subscription=subscription, buffers=buffers, send=send)
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def serialized(length: int) -> bytes:
    """A message of so many pixels, all of the value `length`."""
    message = Image(height=1, width=length, step=length, encoding='mono8')
    message.data = bytes([length % 256]) * length
    return serialize_message(message)


@requires_rcl
def test_the_bytes_and_numbers_are_those_of_rclpy(topic):
    ways = [topic.buffers.take, topic.buffers._take_by_rclpy]
    messages = []
    for length in (1, 1000, 3, 70_000):
        cdr = serialized(length)
        messages += [topic.send(cdr, way) for way in ways]
    for ours, theirs in zip(messages[::2], messages[1::2]):
        assert isinstance(ours.cdr, memoryview)
        assert ours.cdr.readonly
        assert bytes(ours.cdr) == theirs.cdr
    if messages[1].sequence is not None:
        first = messages[0].sequence
        assert [message.sequence for message in messages] == list(range(first, first + len(messages)))
    assert len({message.publisher for message in messages[::2]}) == 1


@requires_rcl
def test_a_buffer_is_not_written_to_while_a_frame_or_any_view_of_it_is_alive(topic):
    messages = [topic.send(serialized(length)) for length in range(1, 3 * MAX_BUFFERS)]
    if messages[0].sequence is not None:
        assert [message.sequence - messages[0].sequence for message in messages] == list(range(len(messages)))
    assert len({message.publisher for message in messages}) == 1
    frames = [parse_image(message.cdr) for message in messages]
    del messages
    for length, frame in enumerate(frames, 1):
        assert frame.data.tolist() == [length] * length
    assert len(topic.buffers._buffers) == MAX_BUFFERS
    kept = frames[3].data[1:3]
    del frames, frame
    topic.send(serialized(9))
    for length in range(100):
        parse_image(topic.send(serialized(length)).cdr) if length else None
    assert kept.tolist() == [4, 4]
    assert len(topic.buffers._buffers) == MAX_BUFFERS


@requires_rcl
def test_a_frame_outlives_its_subscription_and_frees_the_memory(topic, monkeypatch):
    freed = []
    fini = topic.buffers._library.rcutils_uint8_array_fini
    monkeypatch.setattr(
        topic.buffers._library, 'rcutils_uint8_array_fini', lambda array: freed.append(fini(array)) or 0
    )
    frame = parse_image(topic.send(serialized(1000)).cdr)
    topic.buffers._buffers.clear()
    assert freed == []
    assert (frame.data == 1000 % 256).all()
    del frame
    assert freed == [0]


@requires_rcl
def test_a_frame_that_is_let_go_is_followed_by_one_in_the_same_memory(topic):
    for length in (5000, 900, 4999):
        address = np.frombuffer(topic.send(serialized(length)).cdr, np.uint8).ctypes.data
        assert address == topic.buffers._buffers[0].array.buffer
    assert len(topic.buffers._buffers) == 1


@requires_rcl
def test_the_memory_of_one_huge_message_is_given_back(topic, monkeypatch):
    monkeypatch.setattr(message_buffers, 'SPARE_BYTES', 10_000)
    topic.send(serialized(1_000_000))
    assert topic.buffers._buffers[0].array.capacity >= 1_000_000
    topic.send(serialized(100))
    topic.send(serialized(100))
    assert [buffer.array.capacity < 10_000 for buffer in topic.buffers._buffers] == [True]


@pytest.mark.parametrize('by_rclpy', [False, True])
@fast_dds_only
def test_a_serialized_message_is_published_where_it_lies(topic, monkeypatch, by_rclpy):
    if by_rclpy:
        monkeypatch.setattr(message_buffers, 'rcl', lambda: None)
    for length in (1, 70_000):
        cdr = serialized(length)
        message = topic.send(cdr, publish=lambda cdr: publish_serialized(topic.publisher, cdr))
        assert bytes(message.cdr) == cdr


@requires_rcl
def test_a_message_that_the_middleware_refuses_is_an_error(topic, monkeypatch):
    monkeypatch.setattr(rcl(), 'rcl_publish_serialized_message', lambda *_: 1)
    with pytest.raises(RCLError, match='returned 1'):
        publish_serialized(topic.publisher, serialized(1))


class Guarded:
    """Hands out memory that ends at a page that nobody may touch; what is freed may not be touched either."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.error: Exception | None = None
        self.allocated = 0
        self.warnings: list[str] = []
        self.memory = Memory(self.allocate, self.warnings.append)

    def allocate(self, size):
        if self.error is not None:
            raise self.error
        self.allocated += 1
        memory = GuardedMemory(size)
        block = np.frombuffer(memory.place(bytes(size)), np.uint8)
        self.sizes[block.ctypes.data] = size
        weakref.finalize(block, lambda address, kept: self.sizes.pop(address), block.ctypes.data, memory)
        return block


@pytest.fixture
def guarded(topic):
    """Guarded memory that the subscription's messages come into."""
    made = Guarded()
    topic.buffers._origin = made.memory
    return made


@requires_rcl
@fast_dds_only
def test_damaged_messages_are_taken_within_guarded_memory_and_viewed_inside_or_refused(topic, guarded):
    rng = random.Random(0)
    good, fates = originals()['Image'], Counter()
    for _ in range(1500):
        sent = damaged(rng.choice(good), rng)
        if len(sent) < 4:  # the middleware itself refuses less than an encapsulation
            continue
        message = topic.send(sent)
        (size,) = guarded.sizes.values()
        assert bytes(message.cdr[: len(sent)]) == sent
        assert len(message.cdr) <= size
        fates[fate('Image', message.cdr)] += 1
        del message
    assert fates['viewed'] > 50
    assert fates.total() - fates['viewed'] > 50
    assert guarded.allocated > 2


@requires_rcl
def test_a_message_that_memory_is_missing_for_is_lost_and_the_next_one_taken(topic, guarded):
    topic.send(serialized(100))
    guarded.error = MemoryError()
    with pytest.raises(RCLError):
        topic.send(serialized(1000))
    guarded.error = None
    assert parse_image(topic.send(serialized(50)).cdr).data.tolist() == [50] * 50
    assert len(guarded.sizes) == 1


@requires_rcl
def test_memory_of_a_kind_grows_is_used_again_and_freed_with_the_last_view(topic, guarded):
    for length in (100, 5000, 300):
        first = None
        first = parse_image(topic.send(serialized(length)).cdr)
        ((address, size),) = guarded.sizes.items()
        assert 0 < first.data.ctypes.data - address <= size - length
        assert first.data.tolist() == [length % 256] * length
    parse_image(topic.send(serialized(7)).cdr)
    assert len(guarded.sizes) == 2
    topic.buffers._buffers.clear()
    assert first.data.tolist() == [300 % 256] * 300
    del first
    assert not guarded.sizes


@requires_rcl
def test_where_memory_of_a_kind_is_missing_ordinary_memory_does_and_a_warning_says_so_once(topic, guarded):
    frames = [parse_image(topic.send(serialized(10)).cdr)]
    guarded.error = RuntimeError('CUDA error: out of memory\nand more')
    frames += [parse_image(topic.send(serialized(length)).cdr) for length in (2000, 3000)]
    assert guarded.warnings == ['messages are received into pageable memory: CUDA error: out of memory']
    assert [frame.data.size for frame in frames] == [10, 2000, 3000]


class Rearranged:
    """The functions of rcutils, for a structure with its first fields in another order, or with more."""

    def __init__(self, order: tuple[int, int, int], more: int = 0) -> None:
        self.places, self.more, self.rcutils_get_default_allocator = (
            order,
            more,
            rcl().rcutils_get_default_allocator,
        )

    def write(self, words, buffer: int, length: int, capacity: int) -> int:
        for place, value in zip(self.places, (buffer, length, capacity)):
            words[place] = value
        return 0

    def rcutils_uint8_array_init(self, words, capacity, _) -> int:
        words[3:8] = self.rcutils_get_default_allocator().words[:5]
        words[8 : 8 + self.more] = [0] * self.more
        return self.write(words, 0x1000, 0, capacity)

    def rcutils_uint8_array_resize(self, words, capacity) -> int:
        buffer, length, _ = (words[place] for place in self.places)
        return self.write(words, buffer, min(length, capacity), capacity)

    def rcutils_uint8_array_fini(self, words) -> int:
        return self.write(words, 0, 0, 0)


@requires_rcl
@pytest.mark.parametrize(
    ('order', 'more', 'known'),
    [((0, 1, 2), 0, True), ((1, 0, 2), 0, False), ((0, 2, 1), 0, False), ((2, 1, 0), 0, False),
     ((0, 1, 2), 1, False), ((0, 1, 2), 3, False)],
)  # fmt: skip
def test_a_structure_of_another_layout_is_noticed(order, more, known):
    assert has_known_layout(Rearranged(order, more)) is known


def test_where_rcl_cannot_be_called_rclpy_takes_the_messages(topic):
    topic.buffers._library = None
    message = topic.send(serialized(3))
    assert isinstance(message.cdr, bytes)
    assert parse_image(message.cdr).data.tolist() == [3, 3, 3]


@requires_rcl
def test_after_a_message_info_of_another_layout_rclpy_takes_the_messages(topic, monkeypatch):
    monkeypatch.setattr(topic.buffers._library, 'rmw_get_implementation_identifier', lambda: 0x1234)
    first, second = topic.send(serialized(3)), topic.send(serialized(4))
    assert first.sequence is None
    assert parse_image(first.cdr).data.tolist() == [3, 3, 3]
    assert isinstance(second.cdr, bytes)


def test_memory_that_is_enlarged_or_made_smaller_keeps_what_was_written():
    memory = message_buffers.Memory(lambda size: np.zeros(size, np.uint8), print)
    address = memory._new(8, None)
    ctypes.memmove(address, b'pixels 8', 8)
    for size in (100, 6):
        address = memory._resized(address, size, None)
        assert ctypes.string_at(address, 6) == b'pixels'
