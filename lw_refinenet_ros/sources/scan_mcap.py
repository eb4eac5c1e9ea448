# SPDX-License-Identifier: Apache-2.0
"""The messages of an mcap file in the order they were written, without its index (https://mcap.dev/spec)."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import BinaryIO

from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]
from rosbags.rosbag2.storage_mcap import decompress, get_qos

from lw_refinenet_ros.sources.scanned_topic import Messages, Topic
from lw_refinenet_ros.sources.zstd import zstd

__all__ = ['scan_mcap']

_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _FOOTER = 3, 4, 5, 6, 2  # kinds of records
_LAST_KIND = 0x0F  # of those the specification has
_MAGIC = b'\x89MCAP0\r\n'


def scan_mcap(path: Path) -> Messages:
    """Read what can be read, then raise a ValueError that says where the damage is, if there is any.

    A damaged chunk is passed over; of one that the end of the file cuts, what is there is read.
    """
    fault = ''
    size = path.stat().st_size
    with path.open('rb') as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            msg = 'it is no mcap file'
            raise ValueError(msg)
        types, topics = _summary(file, size)
        for start, kind, body, whole in _records(file, size):
            if kind == _FOOTER and whole:
                break
            try:
                inner = _chunk(body, whole=whole) if kind == _CHUNK else [(start, kind, body, whole)]
                for _, each, content, complete in inner:
                    if not complete:
                        break
                    if each == _SCHEMA:
                        types[_u16(content, 0)] = _string(content, 2)
                    elif each == _CHANNEL:
                        topics[_u16(content, 0)] = _topic(content, types)
                    elif each == _MESSAGE:
                        yield topics[_u16(content, 0)], _u64(content, 6), content[22:]
            except Exception as error:  # damaged bytes make decompressors raise nearly anything
                if whole:
                    fault = fault or f'the record at byte {start} is damaged: {type(error).__name__}: {error}'
            if not whole:
                fault = fault or f'the record at byte {start} is cut short by the end at byte {size}'
        else:
            fault = fault or f'it ends at byte {size} without an index'
    if fault:
        raise ValueError(fault)


def _summary(file: BinaryIO, size: int) -> tuple[dict[int, str], dict[int, Topic]]:
    """Read types and topics outside of chunks: they are needed where the chunk that has them is damaged."""
    types: dict[int, str] = {}
    topics: dict[int, Topic] = {}
    start = file.tell()
    with suppress(Exception):  # of the damage
        for _, kind, body, _ in _records(file, size, (_SCHEMA, _CHANNEL)):
            if kind == _SCHEMA:
                types[_u16(body, 0)] = _string(body, 2)
            elif kind == _CHANNEL:
                topics[_u16(body, 0)] = _topic(body, types)
    file.seek(start)
    return types, topics


def _records(
    file: BinaryIO, size: int, kinds: Collection[int] = range(_LAST_KIND + 1)
) -> Iterator[tuple[int, int, bytes, bool]]:
    """Read (offset, kind, body, whether the body is whole) from here to `size`; only these kinds' bodies."""
    while (offset := file.tell()) < size:
        head = file.read(9)
        if not 0 < head[0] <= _LAST_KIND:
            msg = f'byte {offset} begins no record'
            raise ValueError(msg)
        length = _u64(head, 1)
        if head[0] not in kinds:
            file.seek(length, SEEK_CUR)
            continue
        body = file.read(min(length, size - file.tell()))
        yield offset, head[0], body, len(head) == 9 and len(body) == length


def _chunk(body: bytes, *, whole: bool) -> Iterator[tuple[int, int, bytes, bool]]:
    """Read the records within a chunk, as far as it is there."""
    size, crc = struct.unpack_from('<QI', body, 16)
    compression = _string(body, 28)
    packed = body[40 + len(compression) :]
    content = decompress(packed, compression, size, crc) if whole else _unpack(packed, compression)
    return _records(BytesIO(content), len(content))


def _unpack(packed: bytes, compression: str) -> bytes:
    """Decompress what is there of something cut short."""
    if compression == 'zstd':
        return zstd.ZstdDecompressor().decompress(packed)
    if compression == 'lz4':
        unpacked: bytes = LZ4FrameDecompressor().decompress(packed)
        return unpacked
    return packed


def _topic(channel: bytes, types: dict[int, str]) -> Topic:
    name = _string(channel, 4)
    encoding = 8 + len(name.encode())
    metadata = encoding + 4 + _u32(channel, encoding)
    offered = get_qos(channel[metadata + 4 : metadata + 4 + _u32(channel, metadata)])
    return Topic(name, types.get(_u16(channel, 2), ''), tuple(offered))


def _u16(body: bytes, offset: int) -> int:
    return int.from_bytes(body[offset : offset + 2], 'little')


def _u32(body: bytes, offset: int) -> int:
    return int.from_bytes(body[offset : offset + 4], 'little')


def _u64(body: bytes, offset: int) -> int:
    return int.from_bytes(body[offset : offset + 8], 'little')


def _string(body: bytes, offset: int) -> str:
    start = offset + 4
    return body[start : start + _u32(body, offset)].decode()
