# SPDX-License-Identifier: Apache-2.0
"""The headers of JPEG, PNG, WebP and TIFF, read before memory or time is spent on their pixels."""

from __future__ import annotations

import re
from typing import NamedTuple

from lw_refinenet_ros.image.frame import FrameError
from lw_refinenet_ros.limits import MAX_PIXELS

__all__ = ['MAX_SCANS', 'MAX_SEGMENTS', 'Header', 'read_header']

MAX_SEGMENTS = 1 << 16  # segments of a JPEG, chunks of a PNG, entries of a TIFF's directory
MAX_SCANS = 32  # of a JPEG: progressive ones have 10, and each costs a pass over all pixels

# A marker that begins a segment: not stuffing, fill bytes, or what stands alone within a scan. Nothing in
# the expression repeats, so that searching for it is linear.
_JPEG_MARKER = re.compile(rb'\xff[^\x00\x01\xd0-\xd7\xff]')
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # segments that hold the size
_JPEG_SEQUENTIAL = (0xC0, 0xC1)  # frames, Huffman coded
_JPEG_APPLICATIONS = range(0xE0, 0xF0)
# More pixels than these for each byte neither format can hold: one bit for 64 pixels, and eight pixels in a
# byte that deflate makes a 1032nd. One flipped bit in the size would have gigabytes allocated.
_JPEG_DENSITY, _PNG_DENSITY = 8 * 64, 8 * 1032
_TOO_MANY = f'an image of more than {MAX_SEGMENTS} segments: it is damaged'
_TIFF_SIZES = {256: 'width', 257: 'height', 322: 'tile width', 323: 'tile height', 277: 'samples'}
_TIFF_BYTES = {1: 1, 6: 1, 3: 2, 8: 2, 4: 4, 9: 4, 16: 8, 17: 8}  # of the integer types


class Header(NamedTuple):
    """The header of a compressed image."""

    kind: str = ''  # 'jpeg', 'png', 'webp', 'tiff', or '' of another format, of which nothing else is known
    height: int = 0  # in pixels
    width: int = 0
    end: int | None = None  # index of the byte at which the pixels end; None if that is missing
    grey: bool = False  # whether it has one channel
    # Whether it is a JPEG that holds whole pixels in one scan, and whole segments before it
    one_scan: bool = False
    # Whether it is a JPEG with other application segments than those that OpenCV writes: it comes from an
    # encoder that knows its colours, not from `cv::imencode` of channels in any order
    standard: bool = False


def read_header(content: bytes) -> Header:
    """Read the header of a compressed image.

    Raises:
        FrameError: 'size' (more than `MAX_PIXELS`, or more than its bytes can hold) or 'decode' (more than
            `MAX_SEGMENTS` or `MAX_SCANS`).
    """
    density = None
    if content[:2] == b'\xff\xd8':
        header, density = _jpeg(content), _JPEG_DENSITY
    elif content[:4] == b'\x89PNG':
        header, density = _png(content), _PNG_DENSITY
    elif content[:4] == b'RIFF' and content[8:12] == b'WEBP':
        header = _webp(content)
    elif content[:4] in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'):
        header = _tiff(content)
    else:
        return Header(end=len(content))
    size = f'{header.width}x{header.height} pixels'
    if header.height * header.width > MAX_PIXELS:
        raise FrameError(f'{size} are more than the {MAX_PIXELS} of an image: send smaller ones', 'size')
    if density is not None and header.height * header.width > density * len(content):
        raise FrameError(f'{size} cannot be in an image of {len(content)} bytes: it is damaged', 'size')
    return header


def _jpeg(content: bytes) -> Header:
    """Follow the segments of a JPEG to its end as libjpeg does."""
    header, offset, scans, ours, theirs = Header('jpeg'), 2, 0, False, False
    for _ in range(MAX_SEGMENTS):
        marker = _JPEG_MARKER.search(content, offset)
        if marker is None:
            break
        kind, offset = content[marker.start() + 1], marker.end()
        if kind == _JPEG_END:
            header = header._replace(end=marker.start())
            break
        if kind in _JPEG_FRAMES and not header.height:
            height, width = _integer(content, offset + 3, 2), _integer(content, offset + 5, 2)
            grey = content[offset + 7 : offset + 8] == b'\x01'
            header = header._replace(height=height, width=width, grey=grey, one_scan=kind in _JPEG_SEQUENTIAL)
        if kind in _JPEG_APPLICATIONS:
            jfif = content[offset + 2 : offset + 7] == b'JFIF\0'
            ours, theirs = ours or jfif, theirs or not jfif
        scans += kind == _JPEG_SCAN
        if scans > MAX_SCANS:
            raise FrameError(f'a JPEG of more than {MAX_SCANS} scans; no camera writes so many', 'decode')
        offset += _integer(content, offset, 2)
    else:
        raise FrameError(_TOO_MANY, 'decode')
    one_scan = header.one_scan and scans == 1 and offset <= len(content)
    return header._replace(one_scan=one_scan, standard=theirs or not ours)


def _png(content: bytes) -> Header:
    """Follow the chunks of a PNG to its end."""
    header = Header('png', _integer(content, 20, 4), _integer(content, 16, 4), grey=content[25:26] == b'\0')
    offset = 8
    for _ in range(MAX_SEGMENTS):
        kind = content[offset + 4 : offset + 8]
        offset += 12 + _integer(content, offset, 4)
        if len(kind) < 4:
            return header
        if kind == b'IEND':
            return header._replace(end=offset if offset <= len(content) else None)
    raise FrameError(_TOO_MANY, 'decode')


def _webp(content: bytes) -> Header:
    """Read the canvas of a WebP, or the size of its only picture."""
    kind = content[12:16]
    if kind == b'VP8X':
        width, height = (_integer(content, at, 3, 'little') + 1 for at in (24, 27))
    elif kind == b'VP8L':
        bits = _integer(content, 21, 4, 'little')
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (_integer(content, at, 2, 'little') & 0x3FFF for at in (26, 28))
    end = 8 + _integer(content, 4, 4, 'little')
    return Header('webp', height, width, end if end <= len(content) else None)


def _tiff(content: bytes) -> Header:
    """Read the first directory of a TIFF or BigTIFF; the size is that of a tile where tiles are larger."""
    order = 'little' if content[:2] == b'II' else 'big'
    big = _integer(content, 2, 2, order) == 43
    start, count_bytes, entry_bytes = (8, 8, 20) if big else (4, 2, 12)
    directory = _integer(content, start, 8 if big else 4, order)
    first = directory + count_bytes
    count = min(_integer(content, directory, count_bytes, order), (len(content) - first) // entry_bytes)
    if count > MAX_SEGMENTS:
        raise FrameError(_TOO_MANY, 'decode')
    values = dict.fromkeys(_TIFF_SIZES.values(), 1)
    for entry in range(first, first + count * entry_bytes, entry_bytes):
        tag, kind = (_integer(content, at, 2, order) for at in (entry, entry + 2))
        if tag in _TIFF_SIZES and kind in _TIFF_BYTES:
            value = _integer(content, entry + (12 if big else 8), _TIFF_BYTES[kind], order)
            values[_TIFF_SIZES[tag]] = max(values[_TIFF_SIZES[tag]], value)  # of an entry that comes twice
    sizes = [(values['height'], values['width']), (values['tile height'], values['tile width'])]
    height, width = max(sizes, key=lambda size: size[0] * size[1])
    return Header('tiff', height, width, len(content), grey=values['samples'] == 1)


def _integer(content: bytes, offset: int, size: int, order: str = 'big') -> int:
    """Read an unsigned integer; what lies behind the end is not counted."""
    return int.from_bytes(content[offset : offset + size], 'little' if order == 'little' else 'big')
