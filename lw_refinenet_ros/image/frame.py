# SPDX-License-Identifier: Apache-2.0
"""One camera frame, from and to the bytes of a serialized sensor_msgs message."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    'CdrReader',
    'Frame',
    'FrameError',
    'Pixels',
    'parse_image',
    'parse_stamp',
    'serialize_fields',
    'serialize_image',
]

Pixels = npt.NDArray[np.uint8]  # images, labels or bytes

# Plain CDR, by its encapsulation identifier
_U32 = {b'\x00\x01': struct.Struct('<I'), b'\x00\x00': struct.Struct('>I')}
_STAMPS_S = range(-(1 << 31), 1 << 31)  # what the header of an answer can say


class FrameError(ValueError):
    """One bad frame; the next one may be good.

    `reason` is a short stable slug to count by: 'truncated', 'encapsulation', 'stamp', 'size', 'step',
    'length', 'encoding', 'decode', 'ignore_mask' or 'memory'.
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
    data: Pixels
    is_bigendian: bool = False

    @classmethod
    def from_array(cls, array: npt.NDArray[Any], *, stamp_ns: int, frame_id: str, encoding: str) -> Frame:
        """View an array, (H, W) or (H, W, C), as a frame; it is copied only if it is not contiguous."""
        height, width = array.shape[:2]
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        step, is_bigendian = data.size // max(height, 1), sys.byteorder == 'big'
        return cls(stamp_ns, frame_id, height, width, encoding, step, data, is_bigendian)


class CdrReader:
    """Reads the fields of a plain CDR message in turn; every read is checked against the message's end."""

    def __init__(self, cdr: bytes | memoryview) -> None:
        if len(cdr) < 4:
            raise FrameError(f'the message ends after {len(cdr)} bytes, in its encapsulation', 'truncated')
        if (kind := bytes(cdr[:2])) not in _U32:
            raise FrameError(
                f'encapsulation {kind.hex(" ")!r} is not plain CDR (00 00 or 00 01): publish XCDR1',
                'encapsulation',
            )
        self._cdr, self._message = cdr, np.frombuffer(cdr, np.uint8)
        self._u32 = _U32[kind]
        self._offset = 4

    def _pass(self, size: int, what: str) -> int:
        """Return where the next `size` bytes begin, and go behind them."""
        start, self._offset = self._offset, self._offset + size
        if self._offset > (there := self._message.size):
            raise FrameError(
                f'the message ends after {there} bytes, {what} needs {self._offset}', 'truncated'
            )
        return start

    def take(self, size: int, what: str) -> Pixels:
        """View the next `size` bytes."""
        start = self._pass(size, what)
        return self._message[start : self._offset]

    def u32(self, what: str) -> int:
        """Read an unsigned 32-bit integer."""
        self._offset = (self._offset + 3) & ~3
        value: int = self._u32.unpack_from(self._cdr, self._pass(4, what))[0]
        return value

    def sequence(self, what: str) -> Pixels:
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
            raise FrameError(
                f'the stamp of {stamp_ns} ns is later than a header can say: the message is damaged', 'stamp'
            )
        return stamp_ns, self.string('header.frame_id')


def parse_stamp(cdr: bytes | memoryview) -> int:
    """Read the stamp (ns) of a serialized message that begins with a header.

    Raises:
        FrameError: 'truncated', 'encapsulation' or 'stamp'.
    """
    return CdrReader(cdr).header()[0]


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
    reader = CdrReader(cdr)
    stamp_ns, frame_id = reader.header()
    height, width = reader.u32('height'), reader.u32('width')
    encoding = reader.string('encoding')
    is_bigendian = bool(reader.take(1, 'is_bigendian')[0])
    step = reader.u32('step')
    data = reader.sequence('data')
    if not (height and width):
        raise FrameError(f'a frame of height {height} and width {width} has no pixels', 'size')
    if data.size < step * height:
        raise FrameError(
            f'{data.size} bytes of data are fewer than step {step} * height {height}: send whole rows',
            'length',
        )
    return Frame(stamp_ns, frame_id, height, width, encoding, step, data, is_bigendian)


def serialize_image(frame: Frame) -> bytes:
    """Serialize a frame as a sensor_msgs/Image, little-endian plain CDR; its pixels are copied once."""
    return b''.join((serialize_fields(frame), frame.data.data))


def serialize_fields(frame: Frame) -> bytes:
    """Serialize what stands before a frame's pixels in its message; see `serialize_image`."""

    def string(text: str) -> bytes:
        content = text.encode() + b'\0'
        return struct.pack('<I', len(content)) + content

    fields = struct.pack('<iI', *divmod(frame.stamp_ns, 1_000_000_000)) + string(frame.frame_id)
    fields += bytes(-len(fields) % 4) + struct.pack('<II', frame.height, frame.width)
    fields += string(frame.encoding) + bytes([frame.is_bigendian])
    fields += bytes(-len(fields) % 4) + struct.pack('<II', frame.step, frame.data.size)
    return b'\0\1\0\0' + fields
