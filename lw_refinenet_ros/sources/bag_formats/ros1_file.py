# SPDX-License-Identifier: Apache-2.0
"""A ROS 1 bag (wiki.ros.org/Bags/Format/2.0)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping
from io import SEEK_CUR
from pathlib import Path
from typing import BinaryIO

from lw_refinenet_ros.sources.bag_formats.bag_metadata import normal_type
from lw_refinenet_ros.sources.bag_formats.chunked_file import Chunk, ChunkedFile, Index, Record, u32, u64
from lw_refinenet_ros.sources.bag_formats.storage import Message, Topic, Wanted
from lw_refinenet_ros.sources.bag_formats.unpacking import unpack, unpack_part
from lw_refinenet_ros.sources.limits import MAX_CHUNK_BYTES, MAX_RECORD_HEADER_BYTES

__all__ = ['Ros1File']

_MESSAGE, _BAG, _CHUNK, _CHUNK_INFO, _CONNECTION = 2, 3, 5, 6, 7  # kinds of records


class Ros1File(ChunkedFile):
    """One pass over a ROS 1 bag."""

    MAGIC = b'#ROSBAG V2.0\n'
    CHUNK = _CHUNK
    KINDS = (_MESSAGE, _BAG, _CHUNK, _CONNECTION)
    DEFINITIONS = (_CONNECTION,)

    def __init__(self, path: Path, wanted: Wanted) -> None:
        super().__init__(path, wanted)
        self._closed = True  # its recorder wrote an index

    @classmethod
    def _index(cls, file: BinaryIO, size: int) -> Index | None:
        topics: dict[Hashable, Topic] = {}
        counts: Counter[Hashable] = Counter()
        times: list[int] = []
        chunks: list[Chunk] = []
        try:
            file.seek(len(cls.MAGIC))
            bag = next(cls._records(file, size, (_BAG,)))
            start = u64(bag.fields[b'index_pos'], 0)
            promised = u32(bag.fields[b'conn_count'], 0), u32(bag.fields[b'chunk_count'], 0)
            if not len(cls.MAGIC) < start <= size:
                return None
            file.seek(start)
            for record in cls._records(file, size, (_CONNECTION, _CHUNK_INFO)):
                if record.kind == _CONNECTION:
                    topics[record.fields[b'conn']] = _topic(record)
                elif record.kind == _CHUNK_INFO:
                    first_ns = _time_ns(record.fields[b'start_time'])
                    times += first_ns, _time_ns(record.fields[b'end_time'])
                    chunks.append(Chunk(first_ns, u64(record.fields[b'chunk_pos'], 0)))
                    for at in range(0, len(record.body), 8):
                        counts[record.body[at : at + 4]] += u32(record.body, at + 4)
        except (ValueError, LookupError, StopIteration):
            return None
        if (len(topics), len(chunks)) != promised or not set(counts) <= set(topics):
            return None
        return Index(topics, counts, min(times, default=0), max(times, default=0), chunks)

    @classmethod
    def _records(
        cls, file: BinaryIO, size: int, kinds: Collection[int], done: Collection[int] = ()
    ) -> Iterator[Record]:
        while (offset := file.tell()) < size:
            length = u32(file.read(4), 0)
            header = file.read(length) if length <= MAX_RECORD_HEADER_BYTES else b''
            fields = _fields(header)
            if len(fields.get(b'op', b'')) != 1:
                raise ValueError(f'there is no record at byte {offset}')
            kind, length = fields[b'op'][0], u32(file.read(4), 0)
            there = max(min(length, size - file.tell()), 0)
            if kind not in kinds or offset in done:
                file.seek(there, SEEK_CUR)
                continue
            body = file.read(min(there, MAX_CHUNK_BYTES))
            file.seek(there - len(body), SEEK_CUR)
            yield Record(offset, kind, fields, body, len(body) == length)

    def _unpacked(self, chunk: Record) -> bytes:
        limit = min(u32(chunk.fields[b'size'], 0), MAX_CHUNK_BYTES)
        compression = chunk.fields[b'compression'].decode()
        return (unpack if chunk.whole else unpack_part)(chunk.body, compression, limit)

    def _take(self, record: Record) -> Message | None:
        fields = record.fields
        if record.kind == _BAG:
            self._closed = bool(u64(fields[b'index_pos'], 0))
        elif record.kind == _CONNECTION:
            self._define(fields[b'conn'], _topic(record))
        elif record.kind == _MESSAGE:
            key = fields[b'conn']
            if key in self._chosen or key not in self.topics:
                return Message(self.topics[key], _time_ns(fields[b'time']), record.body)
        return None

    def _fault_of_end(self, last: Record | None, size: int, *, indexed: bool) -> str:
        """Expect an index unless the bag was never closed (.bag.active): it may have lost nothing."""
        missing = last is None or (self._closed and not indexed)
        return f'it ends at byte {size} without its index' if missing else ''


def _fields(header: bytes) -> Mapping[bytes, bytes]:
    fields, at = {}, 0
    while at < len(header):
        end = at + 4 + u32(header, at)
        name, _, value = header[at + 4 : end].partition(b'=')
        fields[name] = value
        at = end
    return fields


def _topic(connection: Record) -> Topic:
    """Read a connection; a topic's slashes are written once."""
    msgtype = normal_type(_fields(connection.body)[b'type'].decode())
    topic = connection.fields[b'topic'].decode()
    name = '/'.join(part for part in topic.split('/') if part)
    return Topic('/' * topic.startswith('/') + name, msgtype, 'ros1')


def _time_ns(time: bytes) -> int:
    return u32(time, 0) * 1_000_000_000 + u32(time, 4)
