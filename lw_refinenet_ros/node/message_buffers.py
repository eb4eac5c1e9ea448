# SPDX-License-Identifier: Apache-2.0
"""Serialized messages in memory of our own, where rclpy copies them from and to `bytes` objects.

rcl writes each message into a buffer that is reused once nothing refers to the message any more. Python's
lock, which rclpy holds meanwhile, is released. The memory may be page-locked, so that a CUDA device reads it
by itself. The layout of rcl's structures is checked, not assumed: where
it differs or a symbol is missing, rclpy takes the messages.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from rclpy import _rclpy_pybind11, get_rmw_implementation_identifier
from rclpy._rclpy_pybind11 import RCLError
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription

from lw_refinenet_ros.inference.engine import Pixels

__all__ = [
    'MAX_BUFFERS',
    'Memory',
    'Message',
    'MessageBuffers',
    'has_known_layout',
    'publish_serialized',
    'publishes_serialized',
    'rcl',
]

MAX_BUFFERS = 4  # of a subscription; more messages in use at once have memory of their own, freed with them
# Free buffers above both SPARE times the last message and SPARE_BYTES are released.
SPARE = 4
SPARE_BYTES = 64 << 20
WORDS = 64  # of memory for a structure of rcl's, more than any of them has
TAKE_FAILED = 401  # RCL_RET_SUBSCRIPTION_TAKE_FAILED: there is no message
UNSUPPORTED = (1 << 64) - 1  # RMW_MESSAGE_INFO_SEQUENCE_NUMBER_UNSUPPORTED
PATTERN = 0x5AA5C33C

_Words = ctypes.c_size_t * WORDS


class _Allocator(ctypes.Structure):
    """An rcutils_allocator_t: five pointers; there is room for more."""

    _fields_ = (('words', _Words),)


class Memory:
    """Hands out memory for messages by the functions that rcutils calls.

    Args:
        allocate: returns so many bytes, or raises RuntimeError where there are none of its kind.
        warn: is told once that ordinary memory has to do.

    Attributes:
        allocator: an rcutils_allocator_t; this object must outlive what came from it.
    """

    def __init__(self, allocate: Callable[[int], Pixels], warn: Callable[[str], None]) -> None:
        self._allocate, self._warn = allocate, warn
        self._blocks: dict[int, Pixels] = {}  # by address
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._functions = (
            ctypes.CFUNCTYPE(pointer, size, pointer)(self._new),
            ctypes.CFUNCTYPE(None, pointer, pointer)(lambda address, _: self._blocks.pop(address, None)),
            ctypes.CFUNCTYPE(pointer, pointer, size, pointer)(self._resized),
            ctypes.CFUNCTYPE(pointer, size, size, pointer)(lambda *_: None),  # nobody needs zeros
        )
        self.allocator = _Allocator()
        for index, function in enumerate(self._functions):
            self.allocator.words[index] = ctypes.cast(function, pointer).value or 0

    def _new(self, size: int, _: object) -> int | None:
        try:
            block = self._block(max(size, 1))
        except MemoryError:
            return None
        self._blocks[block.ctypes.data] = block
        return int(block.ctypes.data)

    def _block(self, size: int) -> Pixels:
        try:
            return self._allocate(size)
        except RuntimeError as error:
            self._warn(f'messages are received into pageable memory: {str(error).partition(chr(10))[0]}')
            self._allocate, self._warn = _ordinary, lambda _: None
            return _ordinary(size)

    def _resized(self, address: int | None, size: int, _: object) -> int | None:
        new = self._new(size, None)
        if new is not None and address is not None:
            old = self._blocks.pop(address)
            ctypes.memmove(new, address, min(size, old.size))
        return new


def _ordinary(size: int) -> Pixels:
    return np.empty(size, np.uint8)


class _Array(ctypes.Structure):
    """An rcutils_uint8_array_t, which rcl_serialized_message_t is; see `has_known_layout`."""

    _fields_ = (
        ('buffer', ctypes.c_void_p),
        ('length', ctypes.c_size_t),
        ('capacity', ctypes.c_size_t),
        ('allocator', ctypes.c_void_p * 5),
    )


class Message(NamedTuple):
    """A serialized message, read-only, and its number among those of its publisher, where that is known."""

    cdr: bytes | memoryview
    publisher: object = None
    sequence: int | None = None


@cache
def rcl() -> ctypes.CDLL | None:
    """Return the libraries that rclpy is linked with; None where they cannot be called safely."""
    try:
        library = ctypes.CDLL(_rclpy_pybind11.__file__)  # a symbol is searched in all that it depends on
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        library.rcl_take_serialized_message.argtypes = (pointer,) * 4
        library.rcl_publish_serialized_message.argtypes = (pointer,) * 3
        library.rcutils_uint8_array_init.argtypes = (pointer, size, pointer)
        library.rcutils_uint8_array_resize.argtypes = (pointer, size)
        library.rcutils_uint8_array_fini.argtypes = (pointer,)
        library.rcutils_get_default_allocator.restype = _Allocator
        library.rmw_get_implementation_identifier.restype = pointer
        library.rcutils_reset_error.restype = None
    except (AttributeError, OSError):
        return None
    return library if has_known_layout(library) else None


def has_known_layout(library: Any) -> bool:
    """Check that rcutils' arrays are as `_Array` says, by letting it make, shrink and free one.

    That happens within a larger memory full of a pattern: every word must be where it is expected, with the
    expected value, and none beyond may be written.
    """
    allocator, words = library.rcutils_get_default_allocator(), _Words(*[PATTERN] * WORDS)
    first, after = 3, 3 + 5  # words of the allocator

    def is_array(length: int, capacity: int) -> bool:
        return (
            words[0] not in (0, PATTERN)
            and words[1:first] == [length, capacity]
            and words[first:after] == allocator.words[: after - first]
            and words[after:] == [PATTERN] * (WORDS - after)
        )

    if library.rcutils_uint8_array_init(words, 64, ctypes.byref(allocator)) or not is_array(0, 64):
        return False
    words[1] = 48
    if library.rcutils_uint8_array_resize(words, 32) or not is_array(32, 32):
        return False
    return library.rcutils_uint8_array_fini(words) == 0 and words[0] == 0


@cache
def publishes_serialized() -> bool:
    """Whether images are to be published serialized: Cyclone DDS has had trouble with that."""
    return 'fastrtps' in get_rmw_implementation_identifier()


def publish_serialized(publisher: Publisher, cdr: bytes | Pixels) -> None:
    """Publish a serialized message where it lies; rclpy would copy a message that is not.

    Raises:
        RCLError: the middleware did not take it.
    """
    library = rcl()
    if library is None:
        publisher.publish(bytes(cdr))
        return
    memory = np.frombuffer(cdr, np.uint8)
    allocator = library.rcutils_get_default_allocator()
    array = _Array(memory.ctypes.data, memory.size, memory.size, (ctypes.c_void_p * 5)(*allocator.words[:5]))
    with publisher.handle:
        code = library.rcl_publish_serialized_message(publisher.handle.pointer, ctypes.byref(array), None)
    if code:
        library.rcutils_reset_error()
        raise RCLError(
            f'the middleware has no room for {publisher.topic_name}: a reliable subscriber may have stopped '
            f'reading (rcl_publish_serialized_message returned {code})'
        )


class _Buffer:
    """Memory of one message; the middleware enlarges it where a message is longer."""

    def __init__(self, library: Any, capacity: int, memory: Memory | None) -> None:
        self._library, self._origin, self.array = library, memory, _Array()
        allocator = library.rcutils_get_default_allocator() if memory is None else memory.allocator
        if library.rcutils_uint8_array_init(ctypes.byref(self.array), capacity, ctypes.byref(allocator)):
            library.rcutils_reset_error()
            raise MemoryError(f'no memory for a message of {capacity} bytes')
        self._memory: weakref.ref[Any] | None = None  # that views of the last message refer to

    def __del__(self) -> None:
        self._library.rcutils_uint8_array_fini(ctypes.byref(self.array))

    @property
    def is_free(self) -> bool:
        """Whether nothing refers to the last message."""
        return self._memory is None or self._memory() is None

    def view(self) -> memoryview:
        """View the message, read-only; as long as anything refers to it, the buffer lives and is not free."""
        if not self.array.length:
            return memoryview(b'')
        memory: Any = (ctypes.c_ubyte * self.array.capacity).from_address(self.array.buffer)
        memory.owner = self
        self._memory = weakref.ref(memory)
        return memoryview(memory).cast('B')[: self.array.length].toreadonly()


class MessageBuffers:
    """Takes the serialized messages of a subscription into `memory`, or that of rcl.

    For one thread, which holds the subscription's handle.
    """

    def __init__(self, subscription: Subscription, memory: Memory | None = None) -> None:
        self._subscription, self._origin = subscription, memory
        self._library = rcl()
        self._buffers: list[_Buffer] = []
        self._info = _Words()
        self._last_length = 0

    def take(self) -> Message | None:
        """Take a message; None if there is none.

        Raises:
            RCLError: the middleware could not hand it over.
        """
        return self._take_by_rclpy() if self._library is None else self._take_by_rcl(self._library)

    def _pop_buffer(self, library: ctypes.CDLL) -> _Buffer:
        enough = max(SPARE * self._last_length, SPARE_BYTES)
        self._buffers = [b for b in self._buffers if not b.is_free or b.array.capacity <= enough]
        index = next((index for index, buffer in enumerate(self._buffers) if buffer.is_free), None)
        if index is not None:
            return self._buffers.pop(index)
        return _Buffer(library, self._last_length, self._origin)

    def _take_by_rcl(self, library: ctypes.CDLL) -> Message | None:
        buffer = self._pop_buffer(library)
        code = library.rcl_take_serialized_message(
            self._subscription.handle.pointer, ctypes.byref(buffer.array), self._info, None
        )
        if code in (0, TAKE_FAILED) and len(self._buffers) < MAX_BUFFERS:
            self._buffers.insert(0, buffer)  # the last one used is the one in the cache
        if code == TAKE_FAILED:
            return None
        if code:
            library.rcutils_reset_error()
            raise RCLError(f'rcl_take_serialized_message returned {code}')
        self._last_length = buffer.array.length
        # rmw_message_info_t: two times, two sequence numbers (not on Humble), then the publisher's gid, which
        # begins with a pointer to the middleware's name.
        name = library.rmw_get_implementation_identifier()
        if self._info[4] == name:
            sequence = None if self._info[2] == UNSUPPORTED else self._info[2]
            return Message(buffer.view(), tuple(self._info[5:7]), sequence)
        if self._info[2] != name:  # rclpy may know the number
            self._library = None
        return Message(buffer.view())

    def _take_by_rclpy(self) -> Message | None:
        taken = self._subscription.handle.take_message(self._subscription.msg_type, True)
        if taken is None:
            return None
        cdr, info = taken
        return Message(cdr, str(info.get('publisher_gid')), info.get('publication_sequence_number'))
