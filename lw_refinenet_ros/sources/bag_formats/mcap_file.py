# SPDX-License-Identifier: Apache-2.0
"""An mcap file (https://mcap.dev/spec)."""

from __future__ import annotations

import struct
from collections.abc import Collection, Hashable, Iterator
from io import SEEK_CUR
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from lw_refinenet_ros.sources.bag_formats.bag_metadata import normal_type, offered_qos
from lw_refinenet_ros.sources.bag_formats.chunked_file import Chunk, ChunkedFile, Index, Record, u16, u32, u64
from lw_refinenet_ros.sources.bag_formats.storage import Message, Topic, Wanted
from lw_refinenet_ros.sources.bag_formats.unpacking import unpack, unpack_part
from lw_refinenet_ros.sources.limits import MAX_CHUNK_BYTES

__all__ = ['McapFile']

# Kinds of records.
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _CHUNK_INDEX, _STATISTICS = 2, 3, 4, 5, 6, 8, 11
_LAST_KIND = 0x0F  # of those the specification has
_NO_SCHEMA = 0  # id
_FOOTER_HEAD = struct.pack('<BQ', _FOOTER, 20)


class McapFile(ChunkedFile):
    """One pass over an mcap file."""

    MAGIC = b'\x89MCAP0\r\n'
    CHUNK = _CHUNK
    KINDS = (_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK)
    DEFINITIONS = (_SCHEMA, _CHANNEL)

    def __init__(self, path: Path, wanted: Wanted) -> None:
        super().__init__(path, wanted)
        self._types: dict[int, str] = {}

    @classmethod
    def _index(cls, file: BinaryIO, size: int) -> Index | None:
        end = size - len(_FOOTER_HEAD) - 20 - len(cls.MAGIC)
        if end < len(cls.MAGIC):
            return None
        file.seek(end)
        footer = file.read()
        start = u64(footer, len(_FOOTER_HEAD))
        if (
            not footer.startswith(_FOOTER_HEAD)
            or footer[-8:] != cls.MAGIC
            or not len(cls.MAGIC) <= start < end
        ):
            return None
        types: dict[int, str] = {}
        topics: dict[Hashable, Topic] = {}
        chunks: list[Chunk] = []
        statistics = b''
        file.seek(start)
        try:
            for record in cls._records(file, end, (_SCHEMA, _CHANNEL, _CHUNK_INDEX, _STATISTICS)):
                body = record.body
                if record.kind == _SCHEMA:
                    types[u16(body, 0)] = _string(body, 2)[0]
                elif record.kind == _CHANNEL:
                    if u16(body, 2) not in (_NO_SCHEMA, *types):
                        return None  # schemas need not be repeated here: a scan finds them
                    topics[u16(body, 0)] = _topic(body, types)
                elif record.kind == _CHUNK_INDEX:
                    chunks.append(Chunk(u64(body, 0), u64(body, 16)))
                elif record.kind == _STATISTICS:
                    statistics = body
            *_, first_ns, last_ns, length = struct.unpack_from('<QHIIIIQQI', statistics)
            counts: dict[Hashable, int] = dict(struct.iter_unpack('<HQ', statistics[46 : 46 + length]))
        except (ValueError, struct.error):
            return None
        return Index(topics, counts, first_ns, last_ns, chunks) if set(counts) <= set(topics) else None

    @classmethod
    def _records(
        cls, file: BinaryIO, size: int, kinds: Collection[int], done: Collection[int] = ()
    ) -> Iterator[Record]:
        while (offset := file.tell()) < size:
            head = file.read(9)
            kind, length = head[0], u64(head, 1)
            if not 0 < kind <= _LAST_KIND:
                raise ValueError(f'there is no record at byte {offset}')
            there = min(length, size - file.tell())
            if kind not in kinds or offset in done:
                file.seek(there, SEEK_CUR)
                continue
            body = file.read(min(there, MAX_CHUNK_BYTES))
            file.seek(there - len(body), SEEK_CUR)
            whole = len(head) == 9 and len(body) == length
            yield Record(offset, kind, {}, body, whole)
            if kind == _FOOTER and whole:
                return

    def _unpacked(self, chunk: Record) -> bytes:
        size, crc = struct.unpack_from('<QI', chunk.body, 16)
        compression, end = _string(chunk.body, 28)
        packed = chunk.body[end + 8 :]  # after its length
        limit = min(size, MAX_CHUNK_BYTES)
        if not chunk.whole:
            return unpack_part(packed, compression, limit)
        content = unpack(packed, compression, limit)
        if len(content) != size:
            raise ValueError(f'{size} bytes are expected, {len(content)} are present')
        if crc and crc32(content) != crc:
            raise ValueError('its checksum is wrong')
        return content

    def _take(self, record: Record) -> Message | None:
        body = record.body
        if record.kind == _SCHEMA:
            self._types[u16(body, 0)] = _string(body, 2)[0]
        elif record.kind == _CHANNEL:
            self._define(u16(body, 0), _topic(body, self._types))
        elif record.kind == _MESSAGE and (u16(body, 0) in self._chosen or u16(body, 0) not in self.topics):
            return Message(self.topics[u16(body, 0)], u64(body, 6), body[22:])
        return None

    def _fault_of_end(self, last: Record | None, size: int, *, indexed: bool) -> str:
        ended = indexed or (last is not None and last.kind == _FOOTER and last.whole)
        return '' if ended else f'it ends at byte {size} without an index'


def _topic(channel: bytes, types: dict[int, str]) -> Topic:
    """Read a channel. One without a schema has no type here; the schema's encoding does not matter to us."""
    name, at = _string(channel, 4)
    serialization, at = _string(channel, at)
    end, at = min(at + 4 + u32(channel, at), len(channel)), at + 4
    metadata: dict[str, str] = {}
    while at < end:
        key, at = _string(channel, at)
        metadata[key], at = _string(channel, at)
    offered = offered_qos(metadata.get('offered_qos_profiles', ''))
    return Topic(name, normal_type(types.get(u16(channel, 2), '')), serialization, offered)


def _string(body: bytes, start: int) -> tuple[str, int]:
    """Read a string, and where it ends."""
    end = start + 4 + u32(body, start)
    return body[start + 4 : end].decode(), end
