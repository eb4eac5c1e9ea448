# SPDX-License-Identifier: Apache-2.0
"""The messages of a ROS 1 bag in the order they were written, without its index (wiki.ros.org/Bags)."""

from __future__ import annotations

from bz2 import BZ2Decompressor
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from io import SEEK_CUR, BytesIO
from typing import TYPE_CHECKING, BinaryIO

from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]

from lw_refinenet_ros.sources.scanned_topic import Messages, Topic

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ['scan_ros1']

_MESSAGE, _CHUNK, _CONNECTION = 2, 5, 7  # kinds of records
_MAGIC = b'#ROSBAG V2.0\n'
# Each takes what is there of something that may be cut short.
_UNPACK: dict[bytes, Callable[[bytes], bytes]] = {
    b'none': lambda packed: packed,
    b'bz2': lambda packed: BZ2Decompressor().decompress(packed),
    b'lz4': lambda packed: LZ4FrameDecompressor().decompress(packed),
}

_Fields = dict[bytes, bytes]


def scan_ros1(path: Path) -> Messages:
    """Read what can be read, then raise a ValueError that says where the damage is, if there is any."""
    fault = ''
    size = path.stat().st_size
    with path.open('rb') as file:
        if file.readline() != _MAGIC:
            msg = 'it is no ROS 1 bag of version 2.0'
            raise ValueError(msg)
        topics = _index(file, size)
        for start, fields, data, whole in _records(file, size):
            try:
                chunk = fields[b'op'][0] == _CHUNK
                for each, content, complete in _inner(fields, data) if chunk else [(fields, data, whole)]:
                    kind = each[b'op'][0]
                    if kind == _CONNECTION and complete:
                        topics[each[b'conn']] = _topic(each, content)
                    elif kind == _MESSAGE and complete:
                        yield topics[each[b'conn']], _time_ns(each[b'time']), content
            except Exception as error:  # damaged bytes make decompressors raise nearly anything
                if whole:
                    fault = fault or f'the record at byte {start} is damaged: {type(error).__name__}: {error}'
            if not whole:
                fault = fault or f'the record at byte {start} is cut short by the end at byte {size}'
    if fault:
        raise ValueError(fault)


def _index(file: BinaryIO, size: int) -> dict[bytes, Topic]:
    """Read the connections outside of chunks: they are needed where the chunk that has one is damaged."""
    topics: dict[bytes, Topic] = {}
    start = file.tell()
    with suppress(Exception):  # of the damage
        for _, fields, data, _ in _records(file, size, (_CONNECTION,)):
            topics[fields[b'conn']] = _topic(fields, data)
    file.seek(start)
    return topics


def _records(
    file: BinaryIO, size: int, kinds: Collection[int] = range(256)
) -> Iterator[tuple[int, _Fields, bytes, bool]]:
    """Read (offset, header, data, whether the data is whole) from here to `size`; only of these kinds."""
    while (offset := file.tell()) < size:
        header = file.read(int.from_bytes(file.read(4), 'little'))
        fields: _Fields = {}
        at = 0
        while at < len(header):
            end = at + 4 + int.from_bytes(header[at : at + 4], 'little')
            name, _, value = header[at + 4 : end].partition(b'=')
            fields[name] = value
            at = end
        if b'op' not in fields:
            msg = f'byte {offset} begins no record'
            raise ValueError(msg)
        length = int.from_bytes(file.read(4), 'little')
        if fields[b'op'][0] not in kinds:
            file.seek(length, SEEK_CUR)
            continue
        data = file.read(length)
        yield offset, fields, data, len(data) == length


def _inner(fields: _Fields, data: bytes) -> Iterator[tuple[_Fields, bytes, bool]]:
    """Read the records within a chunk, as far as it is there."""
    content = _UNPACK[fields[b'compression']](data)
    for _, each, body, whole in _records(BytesIO(content), len(content)):
        yield each, body, whole


def _topic(fields: _Fields, data: bytes) -> Topic:
    at = data.index(b'type=') + 5
    length = int.from_bytes(data[at - 9 : at - 5], 'little') - 5
    package, _, name = data[at : at + length].decode().rpartition('/')
    return Topic(fields[b'topic'].decode(), f'{package}/msg/{name}')


def _time_ns(time: bytes) -> int:
    return int.from_bytes(time[:4], 'little') * 1_000_000_000 + int.from_bytes(time[4:8], 'little')
