# SPDX-License-Identifier: Apache-2.0
"""Bags whose end is missing, as a crashed recorder or a full disk leaves them: read up to the damage.

The index is what such a file lacks, so its records are read one after the other.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2.storage_mcap import decompress

__all__ = ['CutBag']


class _Topic(NamedTuple):
    name: str
    msgtype: str


_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _FOOTER = 3, 4, 5, 6, 2  # kinds of mcap records

_Messages = Iterator[tuple[_Topic, int, bytes]]  # with the log time in ns


class CutBag:
    """Reads like `rosbags.rosbag2.Reader`, but `messages` comes in file order and ends with a ValueError.

    Args:
        path: a .mcap or .db3 file, or a directory of them.

    Raises:
        ValueError: nothing is missing, or nothing is left.

    """

    def __init__(self, path: Path) -> None:
        files = [
            file for file in (path.iterdir() if path.is_dir() else [path]) if file.suffix in ('.mcap', '.db3')
        ]
        self._files = sorted(files, key=lambda file: (len(file.name), file.name))  # split bags count 9, 10
        counts: Counter[_Topic] = Counter()
        first_ns, last_ns = 2**63, 0
        try:
            for topic, log_ns, _ in self._scan():
                counts[topic] += 1
                first_ns, last_ns = min(first_ns, log_ns), max(last_ns, log_ns)
        except Exception:  # met again, and told, when the messages are read
            pass
        else:
            msg = 'nothing is missing at its end'
            raise ValueError(msg)
        if not counts:
            msg = 'nothing is left of it'
            raise ValueError(msg)
        self.duration = last_ns - first_ns + 1
        self.connections = [
            Connection(
                index,
                topic.name,
                topic.msgtype,
                MessageDefinition(MessageDefinitionFormat.NONE, ''),
                '',
                count,
                ConnectionExtRosbag2('cdr', []),
                None,
            )
            for index, (topic, count) in enumerate(counts.items())
        ]

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """Read the messages of these connections: connection, log time in ns, CDR."""
        wanted = {_Topic(connection.topic, connection.msgtype): connection for connection in connections}
        for topic, log_ns, data in self._scan():
            if topic in wanted:
                yield wanted[topic], log_ns, data

    def _scan(self) -> _Messages:
        for path in self._files:
            yield from _scan_mcap(path) if path.suffix == '.mcap' else _scan_db3(path)


def _scan_mcap(path: Path) -> _Messages:
    """Read the records in the order they were written (https://mcap.dev/spec)."""
    types: dict[int, str] = {}
    topics: dict[int, _Topic] = {}
    size = path.stat().st_size
    with path.open('rb') as file:
        file.seek(8)  # magic
        for outer, content in _records(file, size):
            if outer == _FOOTER:
                return
            for kind, body in _chunk(content) if outer == _CHUNK else [(outer, content)]:
                if kind == _SCHEMA:
                    types[_u16(body, 0)] = _string(body, 2)
                elif kind == _CHANNEL:
                    topics[_u16(body, 0)] = _Topic(_string(body, 4), types.get(_u16(body, 2), ''))
                elif kind == _MESSAGE:
                    yield topics[_u16(body, 0)], int.from_bytes(body[6:14], 'little'), body[22:]
    msg = f'it ends at byte {size} without an index'
    raise ValueError(msg)


def _records(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Read (kind, body) from here to `size`."""
    while (offset := file.tell()) < size:
        head = file.read(9)
        end = offset + 9 + int.from_bytes(head[1:], 'little')
        if len(head) < 9 or end > size:
            msg = f'the record at byte {offset} is cut short'
            raise ValueError(msg)
        yield head[0], file.read(end - offset - 9)


def _chunk(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Read the records within a chunk."""
    size, crc = struct.unpack_from('<QI', body, 16)
    compression = _string(body, 28)
    content = decompress(body[40 + len(compression) :], compression, size, crc)
    return _records(BytesIO(content), size)


def _u16(body: bytes, offset: int) -> int:
    return int.from_bytes(body[offset : offset + 2], 'little')


def _string(body: bytes, offset: int) -> str:
    start = offset + 4
    return body[start : start + int.from_bytes(body[offset:start], 'little')].decode()


def _scan_db3(path: Path) -> _Messages:
    """Read the rows in the order they were written.

    SQLite opens no file shorter than its header says: it gets a temporary copy, filled up with zeros. A row
    that reaches into them may look whole, so the last one before the damage is left out.
    """
    size = path.stat().st_size
    with path.open('rb') as file, tempfile.NamedTemporaryFile(suffix='.db3') as copy:
        page_size, pages = struct.unpack('>16xH10xI68x', file.read(100))
        if page_size * pages <= size:
            msg = 'it has its full length'
            raise ValueError(msg)
        file.seek(0)
        shutil.copyfileobj(file, copy)
        copy.truncate(page_size * pages)
        copy.flush()
        with closing(sqlite3.connect(f'file:{copy.name}?immutable=1', uri=True)) as database:
            topics = {
                row[0]: _Topic(*row[1:]) for row in database.execute('SELECT id, name, type FROM topics')
            }
            rows = database.execute('SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY id')
            with suppress(sqlite3.Error):
                held = next(rows, (0, 0, None))
                while isinstance(held[2], bytes):
                    row = next(rows)
                    yield topics[held[0]], held[1], held[2]
                    held = row
    msg = f'it ends at byte {size} of {page_size * pages}'
    raise ValueError(msg)
