# SPDX-License-Identifier: Apache-2.0
"""Damaged camera messages: each must be viewed within its own bytes, or refused with a reason."""

import ctypes
import mmap
import random
from collections import Counter

import cv2
import numpy as np
from rosbags.typesys import Stores, get_typestore

from lw_refinenet_ros.image.compressed import parse_compressed_image
from lw_refinenet_ros.image.encodings import ENCODINGS, color_image, to_rgb
from lw_refinenet_ros.image.frame import FrameError, parse_image

TYPES = get_typestore(Stores.ROS2_HUMBLE)
REASONS = {'truncated', 'encapsulation', 'stamp', 'size', 'step', 'length', 'encoding', 'decode'}
LONGEST_REASON = 500  # characters of one log line
FIELDS = (0, 1, 2, 3, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class GuardedMemory:
    """Memory whose end is followed by a page that nobody may read: reading beyond kills the process."""

    def __init__(self, size: int) -> None:
        pages = -(-size // mmap.PAGESIZE)
        self._memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
        self._end = pages * mmap.PAGESIZE
        guard = ctypes.addressof(ctypes.c_char.from_buffer(self._memory)) + self._end
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), mmap.PAGESIZE, 0):
            raise OSError('mprotect refused the guard page')

    def place(self, content: bytes) -> memoryview:
        """Copy bytes so that they end at the guard."""
        place = memoryview(self._memory)[self._end - len(content) : self._end]
        place[:] = content
        return place


def originals() -> dict[str, list[bytes]]:
    """Return valid messages of every encoding, in both byte orders, tight and padded, by description."""
    rng = np.random.default_rng(0)
    stamp = TYPES.types['builtin_interfaces/msg/Time'](sec=12, nanosec=34)
    header = TYPES.types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera')

    def serialized(kind: str, little: bool, *fields: object) -> bytes:
        kind = f'sensor_msgs/msg/{kind}'
        return bytes(TYPES.serialize_cdr(TYPES.types[kind](header, *fields), kind, little_endian=little))

    images, compressed = [], []
    for name, encoding in ENCODINGS.items():
        for padding, little in ((0, True), (3, False)):
            step = 4 * encoding.channels * encoding.depth // 8 + padding
            rows = 4 * encoding.planes[0] // encoding.planes[1]
            data = rng.integers(0, 256, rows * step, np.uint8)
            images.append(serialized('Image', little, 4, 4, name, 0, step, data))
    picture = cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (24, 16))
    for suffix, written in (
        ('.jpg', 'rgb8; jpeg compressed bgr8'),
        ('.jpg', 'bayer_rggb8; jpeg compressed '),
        ('.png', 'bgr8; png compressed bgr8'),
        ('.png', 'jpeg'),
    ):
        stored = picture[..., 0] if written.startswith('bayer') else picture
        content = cv2.imencode(suffix, stored)[1].reshape(-1)
        compressed.append(serialized('CompressedImage', True, written, content))
    return {'Image': images, 'CompressedImage': compressed}


def damaged(message: bytes, rng: random.Random) -> bytes:
    """Damage a message in one to four ways."""
    content = bytearray(message)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(len(content), 1))
        if rng.random() < 0.7:
            at = min(at, rng.randrange(72))  # where the fields are
        kind = rng.randrange(24)
        if kind == 0:
            del content[at:]
        elif kind < 3:
            content[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind < 5:
            del content[at : at + rng.randint(1, 8)]
        elif kind < 9 and len(content) >= 8:
            field = rng.choice((*FIELDS, len(content), rng.randrange(1 << 32)))
            at = min(at & ~3, len(content) - 4)
            content[at : at + 4] = field.to_bytes(4, rng.choice(('little', 'big')))
        elif at < len(content):
            content[at] = rng.choice((0, 1, 255, rng.randrange(256), content[at] ^ (1 << rng.randrange(8))))
    return bytes(content)


def inside(array: np.ndarray, outer: np.ndarray) -> bool:
    """Return whether every element of an array lies within another's bytes."""
    first = array.ctypes.data
    last = first + sum((n - 1) * stride for n, stride in zip(array.shape, array.strides))
    return outer.ctypes.data <= first and last < outer.ctypes.data + outer.nbytes


def fate(kind: str, message: memoryview) -> str:
    """View a message; return 'viewed', 'converted' or the reason of its refusal."""
    bytes_of_it = np.frombuffer(message, np.uint8) if len(message) else np.empty(0, np.uint8)
    try:
        frame = (parse_image if kind == 'Image' else parse_compressed_image)(message)
        seen = color_image(frame)
        rgb = to_rgb(seen)
    except FrameError as error:
        said = str(error)
        assert error.reason in REASONS, error.reason
        assert said and said.isprintable() and len(said) < LONGEST_REASON, said[:1000]
        return error.reason
    assert seen.array.shape == rgb.shape == (frame.height, frame.width, 3), (seen.array.shape, rgb.shape)
    assert -(1 << 31) <= frame.stamp_ns // 10**9 < 1 << 31, frame.stamp_ns
    if kind == 'Image':
        assert inside(frame.data, bytes_of_it), 'the data lies outside the message'
    if ENCODINGS[frame.encoding].conversion is None and ENCODINGS[frame.encoding].depth == 8:
        assert inside(seen.array, frame.data), 'the pixels lie outside the data'
        return 'viewed'
    return 'converted'


def view_damaged(count: int, seed: int, progress=lambda done: None) -> Counter:
    """View so many damaged messages; return how many met which fate, by kind and fate.

    Raises:
        AssertionError: one was viewed outside its bytes, or refused without a fitting reason.
    """
    rng, good = random.Random(seed), originals()
    memory = GuardedMemory(1 << 16)
    fates: Counter = Counter()
    for index in range(count):
        kind = 'CompressedImage' if index % 4 == 3 else 'Image'
        message = damaged(rng.choice(good[kind]), rng)
        try:
            fates[kind, fate(kind, memory.place(message))] += 1
        except Exception as error:
            raise AssertionError(f'{kind} {message.hex()}: {type(error).__name__}: {error}') from error
        if index % 1000 == 999:
            progress(index + 1)
    return fates
