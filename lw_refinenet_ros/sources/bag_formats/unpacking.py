# SPDX-License-Identifier: Apache-2.0
"""Decompression that stops at a bound: a few bytes may say that they are terabytes."""

from __future__ import annotations

import sys
from bz2 import BZ2Decompressor
from pathlib import Path
from typing import Any

from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]

from lw_refinenet_ros.files import open_regular
from lw_refinenet_ros.sources.limits import MAX_FILE_BYTES, MAX_FILE_RATIO, MAX_MESSAGE_BYTES, MIN_FILE_BYTES

# Part of Python from 3.14 on, before that a package that rosbags brings.
if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ['unpack', 'unpack_file', 'unpack_message', 'unpack_part', 'zstd']

_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'  # begins whatever is compressed, and no CDR

_PIECE = 1 << 20
_UNPACKERS: dict[str, Any] = {
    'zstd': zstd.ZstdDecompressor,
    'lz4': LZ4FrameDecompressor,
    'bz2': BZ2Decompressor,
}
_PLAIN = ('', 'none')


def unpack(packed: bytes, compression: str, limit: int) -> bytes:
    """Decompress.

    Args:
        packed: one or more frames, whole.
        compression: 'zstd', 'lz4', 'bz2', or '' or 'none'.
        limit: bytes that it may have at most.

    Raises:
        ValueError: it has more, or is damaged.
    """
    content = unpack_part(packed, compression, limit, whole=True)
    if len(content) > limit:
        raise ValueError(f'it is larger than {limit} bytes')
    return content


def unpack_message(data: bytes) -> bytes:
    """Decompress a message that may be compressed, which only metadata.yaml would say; see `unpack`."""
    return unpack(data, 'zstd' if data[:4] == _ZSTD_MAGIC else '', MAX_MESSAGE_BYTES)


def unpack_part(packed: bytes, compression: str, limit: int, *, whole: bool = False) -> bytes:
    """Decompress what is there of something that may be cut short, no more than `limit` and a byte."""
    if compression in _PLAIN:
        return packed
    if compression not in _UNPACKERS:
        raise ValueError(f'its compression {compression!r} is unknown')
    content = b''
    try:
        while packed and len(content) <= limit:
            unpacker = _UNPACKERS[compression]()
            content += unpacker.decompress(packed, limit + 1 - len(content))
            packed = unpacker.unused_data if unpacker.eof else b''
            if whole and not unpacker.eof and len(content) <= limit:
                raise ValueError('its compressed content is cut short')
    except (zstd.ZstdError, RuntimeError, OSError, EOFError) as error:
        raise ValueError(str(error)) from error
    return content


def unpack_file(packed: Path, plain: Path) -> str:
    """Decompress a file of Zstandard as far as it goes, and return what is wrong with it, or ''.

    Raises:
        ValueError: it is no regular file.
        OSError: of the disk.
    """
    with open_regular(packed) as source, plain.open('wb') as target:
        limit = min(MAX_FILE_BYTES, max(MIN_FILE_BYTES, MAX_FILE_RATIO * packed.stat().st_size))
        unpacker: zstd.ZstdDecompressor | None = None  # of the frame at hand
        piece, written = b'', 0
        while written <= limit:
            if (
                not piece
                and (unpacker is None or unpacker.needs_input)
                and not (piece := source.read(_PIECE))
            ):
                return 'its compressed content is cut short' if unpacker or not written else ''
            unpacker = unpacker or zstd.ZstdDecompressor()
            try:
                content = unpacker.decompress(piece, _PIECE)
            except zstd.ZstdError as error:
                return str(error)
            written += target.write(content)
            piece = b''
            if unpacker.eof:
                piece, unpacker = unpacker.unused_data, None
    return f'it unpacks to more than {limit} bytes'
