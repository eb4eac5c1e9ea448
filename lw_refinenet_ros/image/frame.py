# SPDX-License-Identifier: Apache-2.0
"""One camera frame, read from the bytes of a serialized sensor_msgs message."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.image.stated_size import stated_size

__all__ = ['Frame', 'FrameError', 'decode_image', 'parse_compressed_image', 'parse_image', 'parse_stamp']

_BYTE_ORDERS = {b'\x00\x01': '<', b'\x00\x00': '>'}  # plain CDR, by its encapsulation identifier
_STAMPS_S = range(-(1 << 31), 1 << 31)  # what the header of an answer can say


class FrameError(ValueError):
    """One bad frame; the next one may be good.

    `reason` is a short stable slug to count by: 'truncated', 'encapsulation', 'stamp', 'size', 'step',
    'length', 'encoding' or 'decode'.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Frame:
    """The fields of a sensor_msgs/Image.

    `data` is uint8, 1-D, at least `step * height` bytes long, and may be a read-only view of a message.
    `step` is the distance between the starts of two rows in bytes, `stamp_ns` nanoseconds of the header's
    clock. `is_bigendian` matters to encodings of more than 8 bits only.
    """

    stamp_ns: int
    frame_id: str
    height: int
    width: int
    encoding: str
    step: int
    data: npt.NDArray[np.uint8]
    is_bigendian: bool = False

    @classmethod
    def from_array(
        cls, array: npt.NDArray[np.uint8], *, stamp_ns: int, frame_id: str, encoding: str
    ) -> Frame:
        """View a uint8 array, (H, W) or (H, W, C), as a frame; it is copied only if it is not contiguous."""
        height, width = array.shape[:2]
        data = np.ascontiguousarray(array).reshape(-1)
        return cls(stamp_ns, frame_id, height, width, encoding, data.size // max(height, 1), data)


class _CdrReader:
    """Reads the fields of a plain CDR message in turn; every read is checked against the message's end."""

    def __init__(self, cdr: bytes | memoryview) -> None:
        if len(cdr) < 4:
            msg = f'the message ends after {len(cdr)} bytes, within its encapsulation header'
            raise FrameError(msg, 'truncated')
        if (kind := bytes(cdr[:2])) not in _BYTE_ORDERS:
            msg = f'encapsulation {kind.hex(" ")!r} is not plain CDR (00 00 or 00 01): publish XCDR1'
            raise FrameError(msg, 'encapsulation')
        self.message = np.frombuffer(cdr, np.uint8)
        self.u32_format = _BYTE_ORDERS[kind] + 'I'
        self.offset = 4

    def take(self, size: int, what: str) -> npt.NDArray[np.uint8]:
        """View the next `size` bytes."""
        end = self.offset + size
        if end > self.message.size:
            msg = f'the message ends after {self.message.size} bytes, {what} needs {end}'
            raise FrameError(msg, 'truncated')
        taken = self.message[self.offset : end]
        self.offset = end
        return taken

    def u32(self, what: str) -> int:
        """Read an unsigned 32-bit integer."""
        self.offset = (self.offset + 3) & ~3
        value: int = struct.unpack(self.u32_format, self.take(4, what).data)[0]
        return value

    def sequence(self, what: str) -> npt.NDArray[np.uint8]:
        """View a length-prefixed sequence of bytes."""
        return self.take(self.u32(what), what)

    def string(self, what: str) -> str:
        """Read a string, its closing NUL taken off."""
        return self.sequence(what).tobytes().removesuffix(b'\0').decode('utf-8', errors='replace')

    def header(self) -> tuple[int, str]:
        """Read a std_msgs/Header: stamp in ns and frame_id."""
        sec = self.u32('header.stamp')
        sec -= (sec & 0x80000000) << 1  # int32
        stamp_ns = sec * 1_000_000_000 + self.u32('header.stamp')
        if stamp_ns // 1_000_000_000 not in _STAMPS_S:
            msg = f'the stamp of {stamp_ns} ns is later than a header can say: the message is damaged'
            raise FrameError(msg, 'stamp')
        return stamp_ns, self.string('header.frame_id')


def parse_stamp(cdr: bytes | memoryview) -> int:
    """Read the stamp (ns) of a serialized message that begins with a header.

    Raises:
        FrameError: 'truncated', 'encapsulation' or 'stamp'.

    """
    return _CdrReader(cdr).header()[0]


def parse_image(cdr: bytes | memoryview) -> Frame:
    """View a serialized sensor_msgs/Image without copying its pixels.

    Args:
        cdr: the message with its encapsulation header, contiguous bytes, of either byte order; bytes after
            the message are padding.

    Returns:
        A frame whose `data` shares memory with `cdr`. Its encoding is not looked at.

    Raises:
        FrameError: 'truncated', 'encapsulation' (not plain CDR), 'stamp', 'size' (no pixels) or 'length'
            (fewer bytes than `step * height`).

    """
    reader = _CdrReader(cdr)
    stamp_ns, frame_id = reader.header()
    height, width = reader.u32('height'), reader.u32('width')
    encoding = reader.string('encoding')
    is_bigendian = bool(reader.take(1, 'is_bigendian')[0])
    step = reader.u32('step')
    data = reader.sequence('data')
    if not (height and width):
        msg = f'a frame of height {height} and width {width} has no pixels: both must be positive'
        raise FrameError(msg, 'size')
    if data.size < step * height:
        msg = f'{data.size} bytes of data are fewer than step {step} * height {height}: send whole rows'
        raise FrameError(msg, 'length')
    return Frame(stamp_ns, frame_id, height, width, encoding, step, data, is_bigendian)


def parse_compressed_image(cdr: bytes | memoryview) -> Frame:
    """Decode a serialized sensor_msgs/CompressedImage as image_transport writes it.

    Args:
        cdr: the message with its encapsulation header, contiguous bytes, of either byte order.

    Returns:
        A frame of encoding bgr8 or, as the format says, rgb8 or bayer_*8; deeper images are scaled to 8 bits.

    Raises:
        FrameError: 'truncated' (the message, or the JPEG or PNG within), 'encapsulation', 'stamp', 'size' or
            'decode', as `decode_image`.

    """
    reader = _CdrReader(cdr)
    stamp_ns, frame_id = reader.header()
    written = reader.string('format')
    data = reader.sequence('data')
    # 'bgr8; jpeg compressed bgr8': what the camera sent, and which order the compressor was given. Without
    # the latter the channels were stored as they came; without a semicolon it is the plain codec's name.
    original, _, stored = written.partition(';')
    encoding, flags = 'bgr8', cv2.IMREAD_COLOR
    if stored and 'compressed bgr' not in stored:
        if original.startswith('bayer_') and original.endswith('8'):
            encoding, flags = original, cv2.IMREAD_GRAYSCALE
        elif original.startswith(('rgb', 'bgr')):
            encoding = 'rgb8'
    array = decode_image(data.tobytes(), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    return Frame.from_array(array, stamp_ns=stamp_ns, frame_id=frame_id, encoding=encoding)


def decode_image(content: bytes, flags: int = cv2.IMREAD_COLOR) -> npt.NDArray[np.uint8]:
    """Decode an image file's content with OpenCV, which alone would fill what is missing with grey.

    Returns:
        uint8 (H, W, 3) BGR, or (H, W) with `cv2.IMREAD_GRAYSCALE`.

    Raises:
        FrameError: 'truncated' (a JPEG or PNG that stops before its end), 'size' (one that says it has more
            pixels than its bytes can hold), or 'decode'.

    """
    said = stated_size(content)
    if said is None:
        msg = f'truncated image: its {len(content)} bytes stop before its end'
        raise FrameError(msg, 'truncated')
    height, width, most = said
    if height * width > most:
        msg = f'{width}x{height} pixels cannot be in an image of {len(content)} bytes: it is damaged'
        raise FrameError(msg, 'size')
    try:
        array = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # no content, or too large
        array = None
    if array is None:
        msg = f'{len(content)} bytes starting {content[:4]!r} are no image OpenCV knows: use JPEG or PNG'
        raise FrameError(msg, 'decode')
    return cast('npt.NDArray[np.uint8]', array)
