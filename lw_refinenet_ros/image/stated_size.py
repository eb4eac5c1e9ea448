# SPDX-License-Identifier: Apache-2.0
"""The size that a JPEG or PNG says it has, and whether that can be, before memory is taken for it."""

from __future__ import annotations

import re

__all__ = ['stated_size']

_JPEG_MARKER = re.compile(rb'\xff+([^\x00\xff])')
_JPEG_END = 0xD9
_JPEG_BARE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that tell the size
# More pixels than these for each byte neither format can hold: one bit for 64 pixels, and eight pixels in a
# byte that deflate makes a 1032nd. One flipped bit in the size would have gigabytes allocated.
_JPEG_DENSITY, _PNG_DENSITY = 8 * 64, 8 * 1032


def stated_size(content: bytes) -> tuple[int, int, int] | None:
    """Give height, width and the most pixels that so many bytes can hold, or None if the end is missing.

    Of any other format nothing is known: all are 0.
    """
    size: tuple[int, int] | None = (0, 0)
    density = 0
    if content[:2] == b'\xff\xd8':
        size, density = _jpeg_size(content), _JPEG_DENSITY
    elif content[:4] == b'\x89PNG':
        size, density = _png_size(content), _PNG_DENSITY
    return None if size is None else (*size, density * len(content))


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Follow the markers of a JPEG to its end as libjpeg does; (height, width), or None if it has no end."""
    size, offset = (0, 0), 2
    while found := _JPEG_MARKER.search(content, offset):
        kind, offset = found[1][0], found.end()
        if kind == _JPEG_END:
            return size
        if kind in _JPEG_BARE:
            continue
        if kind in _JPEG_FRAMES and size == (0, 0):
            size = _two_numbers(content, offset + 3, 2)
        offset += int.from_bytes(content[offset : offset + 2], 'big')
    return None


def _png_size(content: bytes) -> tuple[int, int] | None:
    """Follow the chunks of a PNG to its end; (height, width), or None if it has no end."""
    offset = 8
    while (kind := content[offset + 4 : offset + 8]) != b'IEND':
        if len(kind) < 4:
            return None
        offset += 12 + int.from_bytes(content[offset : offset + 4], 'big')
    width, height = _two_numbers(content, 16, 4)
    return (height, width) if len(content) >= offset + 12 else None


def _two_numbers(content: bytes, offset: int, size: int) -> tuple[int, int]:
    first, second = (content[at : at + size] for at in (offset, offset + size))
    return int.from_bytes(first, 'big'), int.from_bytes(second, 'big')
