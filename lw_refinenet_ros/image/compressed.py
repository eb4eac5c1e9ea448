# SPDX-License-Identifier: Apache-2.0
"""Compressed images: whole ones are decoded, truncated ones are refused rather than filled with grey."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.image.frame import CdrReader, Frame, FrameError, Pixels
from lw_refinenet_ros.image.header import MAX_SEGMENTS, Header, read_header

__all__ = ['decode_image', 'parse_compressed_image']

TRANSPORTED = ('jpeg', 'png', 'tiff')  # what image_transport writes

_HEIC = {b'ftypheic', b'ftypheix', b'ftypmif1', b'ftypmsf1'}  # of phones; OpenCV does not read them
_JPEG_EXIF = b'Exif\0\0'
_JPEG_END = b'\xff\xd9'
_NOISE = bytes(range(254, -1, -1))  # no marker is in it
_FILL = 128  # of all channels, where a JPEG has no data
_DEPTHS: Mapping[object, int] = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}


def parse_compressed_image(cdr: bytes | memoryview) -> Frame:
    """Decode a serialized sensor_msgs/CompressedImage as image_transport writes it.

    Args:
        cdr: the message with its encapsulation header, contiguous bytes, of either byte order.

    Returns:
        A frame of encoding bgr8 or rgb8; of bayer_* where by its format a mosaic was compressed, and
        of mono8 or mono16 if it is a grey PNG or TIFF, whose values are exact. Deeper colours are scaled to
        8 bits.

    Raises:
        FrameError: 'truncated' (the message, or the image within), 'encapsulation', 'stamp', 'size',
            'decode' (other formats too), 'encoding' or 'memory', as `decode_image`.
    """
    reader = CdrReader(cdr)
    stamp_ns, frame_id = reader.header()
    written = reader.string('format')
    content = reader.sequence('data').tobytes()
    header = read_header(content)
    if header.kind not in TRANSPORTED:
        raise FrameError(
            f'{len(content)} bytes starting {content[:4]!r}, of format {written[:40]!r}, are none of '
            f'{", ".join(TRANSPORTED)}: publish one of them',
            'decode',
        )
    # 'bgr8; jpeg compressed bgr8': what the camera sent, and which order the compressor was given. Without
    # the latter the channels were stored as they came; without a semicolon it is the plain codec's name.
    original, _, stored = written.partition(';')
    as_it_came = bool(stored) and 'compressed bgr' not in stored
    as_rgb = ('rgb',) if header.kind == 'tiff' else ('rgb', 'bgr')  # colours of a TIFF are not converted
    encoding, flags = 'bgr8', cv2.IMREAD_COLOR
    # 'compressed mono8': the mosaic was converted to grey before, as image_transport does for a JPEG.
    if header.grey and as_it_came and original.startswith('bayer_') and 'compressed mono' not in stored:
        encoding, flags = original.rstrip('0123456789'), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
    elif header.grey and header.kind != 'jpeg':
        encoding, flags = 'mono', cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
    elif as_it_came and original.startswith(as_rgb) and not header.standard:
        encoding = 'rgb8'
    array = _decode(content, header, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if array.dtype not in _DEPTHS:
        raise FrameError(f'an image of {array.dtype} pixels is not supported: send 8 or 16 bits', 'encoding')
    if array.ndim == 2:
        encoding += str(_DEPTHS[array.dtype])
    return Frame.from_array(array, stamp_ns=stamp_ns, frame_id=frame_id, encoding=encoding)


def decode_image(content: bytes) -> Pixels:
    """Decode an image file's content with OpenCV, which alone would fill what is missing with grey.

    Returns:
        uint8 (H, W, 3) BGR.

    Raises:
        FrameError: 'truncated' (a JPEG, PNG or WebP that stops before its pixels' end), 'size' (more pixels
            than an image may have, or than its bytes can hold), 'memory' (there is not enough) or 'decode'.
    """
    header = read_header(content)
    if header.kind == 'webp':
        content = _with_plain_exif(content)
    return cast('Pixels', _decode(content, header, cv2.IMREAD_COLOR))


def _with_plain_exif(content: bytes) -> bytes:
    """Return a WebP whose EXIF tells OpenCV how to turn it: Pillow begins it as in a JPEG."""
    start = 20  # of what the first chunk holds
    for _ in range(MAX_SEGMENTS):
        size = int.from_bytes(content[start - 4 : start], 'little')
        end = start + size
        if content[start - 8 : start - 4] == b'EXIF' and content[start:end].startswith(_JPEG_EXIF):
            rest = content[start + len(_JPEG_EXIF) : end]
            return content[:start] + rest + bytes(len(_JPEG_EXIF)) + content[end:]
        start = end + size % 2 + 8
        if start > len(content):
            break
    return content


def _decode(content: bytes, header: Header, flags: int) -> npt.NDArray[Any]:
    if header.end is None and not header.one_scan:
        raise _truncated(content)
    end = _end_of_data(content, header) if header.one_scan else 0
    # cameras leave the end marker out, and drivers send the whole buffer
    array = _opencv(content[:end] + _JPEG_END if header.end is None else content, flags)
    if array is None and header.end is None:
        raise _truncated(content)
    if array is None:
        what = 'of HEIC' if content[4:12] in _HEIC else f'starting {content[:4]!r}'
        raise FrameError(f'{len(content)} bytes {what} are no readable image: use JPEG or PNG', 'decode')
    if header.one_scan and (header.end is None or bool((array[-1, -1] == _FILL).all())):
        # The picture is whole if it is the same whatever follows its data. A row of blocks takes 261 bytes
        # for a pixel at most (10 blocks of 1665 bits for 8 pixels); of rows that none is left for OpenCV
        # returns whatever was in memory.
        other = _opencv(content[:end] + _NOISE * (2 * header.width + 9), flags)
        if other is None or not np.array_equal(array, other):
            raise _truncated(content)
    return array


def _end_of_data(content: bytes, header: Header) -> int:
    """Find where the data of a JPEG end: before its end marker, or before the padding behind them.

    One zero is left, as it may be the last byte of the data.
    """
    content = content[: header.end].rstrip(b'\xff')
    return len(content) if header.end else min(len(content), len(content.rstrip(b'\0')) + 1)


def _opencv(content: bytes, flags: int) -> npt.NDArray[Any] | None:
    try:
        return cast('npt.NDArray[Any] | None', cv2.imdecode(np.frombuffer(content, np.uint8), flags))
    except MemoryError:
        no_memory = True
    except cv2.error as error:  # no content, or too large
        no_memory = error.code == cv2.Error.StsNoMem
    if no_memory:
        raise FrameError(f'out of memory for the pixels of an image of {len(content)} bytes', 'memory')
    return None


def _truncated(content: bytes) -> FrameError:
    return FrameError(f'truncated image: its {len(content)} bytes stop before its end', 'truncated')
