# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 database, read by SQLite: plain tables only, a bounded number of its instructions."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import tempfile
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from lw_refinenet_ros.files import open_regular
from lw_refinenet_ros.sources.bag_formats.bag_metadata import normal_type, offered_qos
from lw_refinenet_ros.sources.bag_formats.storage import Message, Messages, Summary, Topic, Wanted
from lw_refinenet_ros.sources.limits import MAX_MESSAGE_BYTES, MIN_STEPS

__all__ = ['read_db3', 'summarize_db3']

_STEPS_AT_ONCE = 10_000  # instructions of SQLite between two looks at how many there were
_MAGIC = b'SQLite format 3\0'
_HEADER = struct.Struct('>16xH10xI68x')  # page size and number of pages
_ROW = 'rowid, CAST(topic_id AS INTEGER), CAST(timestamp AS INTEGER)'
_DATA = f"CASE WHEN typeof(data) = 'blob' AND length(data) <= {MAX_MESSAGE_BYTES} THEN data END"


def summarize_db3(path: Path) -> Summary:
    """Count.

    Raises:
        ValueError: it is no such database.
    """
    counts: Counter[int] = Counter()
    first_ns, last_ns = 2**63, 0
    with _Database(path) as database:
        for _, key, log_ns in database.rows(_ROW):
            counts[key] += 1
            first_ns, last_ns = min(first_ns, log_ns), max(last_ns, log_ns)
        totals: Counter[Topic] = Counter()
        for key, topic in database.topics.items():
            totals[topic] += counts[key]  # two rows may tell of one topic
        return Summary(totals, first_ns, last_ns, database.fault)


def read_db3(path: Path, wanted: Wanted) -> Messages:
    """Read what can be read, then raise a ValueError that locates the damage, if there is any.

    Messages come by log time or, where the database is damaged, as they were written.
    """
    with _Database(path) as database:
        chosen = {key: topic for key, topic in database.topics.items() if wanted(topic)}
        rows = _before_the_cut(database, chosen) if database.cut else _one_by_one(database, chosen)
        for key, log_ns, data in rows:
            yield Message(chosen[key], log_ns, data)
        if database.fault:
            raise ValueError(database.fault)


def _one_by_one(database: _Database, chosen: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
    """List the messages of the chosen topics, then read them: topic, log time and data."""
    try:
        rows = _columns(database.execute(f'SELECT {_ROW} FROM messages ORDER BY timestamp, rowid'), chosen)
    except sqlite3.Error as error:  # maybe in the index only
        database.note(database.reason(error))
        rows = _columns(database.rows(_ROW), chosen)
    for row, key, log_ns in zip(*rows):
        try:
            ((data,),) = database.execute(f'SELECT {_DATA} FROM messages WHERE rowid = ?', row)
        except (sqlite3.Error, MemoryError, ValueError) as error:
            database.note(f'message {row} is damaged: {database.reason(error)}')
            continue
        if data is None:
            database.note(f'message {row} has no data, or more than {MAX_MESSAGE_BYTES} bytes')
        else:
            yield key, log_ns, data


def _columns(rows: Iterable[tuple[int, int, int]], chosen: Collection[int]) -> tuple[array[int], ...]:
    columns = array('q'), array('q'), array('q')
    for row in rows:
        if row[1] in chosen:
            for column, value in zip(columns, row):
                column.append(value)
    return columns


def _before_the_cut(database: _Database, chosen: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
    """Read the messages in the order in which they were written.

    A row that reaches into what is missing may look whole, so the last one before that is left out.
    """
    held = None
    for _, key, log_ns, data in database.rows(f'{_ROW}, {_DATA}'):
        if data is None:
            return
        if held is not None and held[0] in chosen:
            yield held
        held = key, log_ns, data


class _Database:
    """A context manager: an open database.

    SQLite opens no file shorter than its header states: it gets a temporary copy, filled up with zeros.

    Attributes:
        topics: by their numbers.
        cut: whether the end of the file is missing.
        fault: what is damaged, or ''.
    """

    def __init__(self, path: Path) -> None:
        self.topics: dict[int, Topic] = {}
        self.fault = ''
        with ExitStack() as stack:
            log = path.with_name(f'{path.name}-wal')
            with open_regular(path) as file:
                header = file.read(_HEADER.size)
                if not header.startswith(_MAGIC[: len(header)]):
                    raise ValueError(f'it does not begin with {_MAGIC!r}')
                size = file.seek(0, 2)
                pages = _HEADER.unpack(header) if len(header) == _HEADER.size else (0, 0)
                full = (pages[0] if pages[0] > 1 else 65536) * pages[1]  # 65536 does not fit its field
                has_log = log.is_file() and log.stat().st_size > 0
                self.cut = full > size and not has_log
                if self.cut:
                    self.fault = f'it ends at byte {size} of {full}'
                    copy = stack.enter_context(tempfile.NamedTemporaryFile(suffix='.db3'))
                    file.seek(0)
                    shutil.copyfileobj(file, copy)
                    copy.truncate(full)
                    copy.flush()
                    path = Path(copy.name)
            # Nothing is written, not even a -shm file: whoever has a database alone keeps the index of the
            # write-ahead log in memory. Without such a log the file cannot change.
            how = 'mode=ro&vfs=unix-none' if has_log else 'mode=ro&immutable=1'
            uri = f'{path.absolute().as_uri()}?{how}'
            self._database = stack.enter_context(closing(sqlite3.connect(uri, uri=True)))
            self._database.text_factory = lambda text: text.decode(errors='replace')
            self._steps = MIN_STEPS + size
            self._database.set_progress_handler(self._count_steps, _STEPS_AT_ONCE)
            try:
                for pragma in ('locking_mode = EXCLUSIVE', 'trusted_schema = OFF', 'query_only = ON'):
                    self.execute(f'PRAGMA {pragma}')
                self._check_tables()
                self._read_topics()
            except sqlite3.Error as error:
                raise ValueError(self.reason(error)) from error
            self._stack = stack.pop_all()

    def __enter__(self) -> _Database:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _count_steps(self) -> bool:
        """Return whether SQLite is to give up."""
        self._steps -= _STEPS_AT_ONCE
        return self._steps < 0

    def _check_tables(self) -> None:
        """Refuse views, virtual tables and computed columns: they run code of the file."""
        for table in ('topics', 'messages'):
            tables = self.execute('SELECT type, rootpage FROM sqlite_master WHERE lower(name) = ?', table)
            hidden = [column[6] for column in self.execute(f'PRAGMA table_xinfo({table})')]
            if [(kind, bool(root)) for kind, root in tables] != [('table', True)] or any(hidden):
                raise ValueError(f'it has no plain table of {table}')

    def _read_topics(self) -> None:
        names = [column[1] for column in self.execute('PRAGMA table_xinfo(topics)')]
        offered = 'offered_qos_profiles' if 'offered_qos_profiles' in names else "''"  # since Foxy
        query = f'SELECT id, name, type, serialization_format, {offered} FROM topics NOT INDEXED ORDER BY id'
        for key, name, kind, serialization, qos in self.execute(query):
            self.topics[key] = Topic(str(name), normal_type(str(kind)), str(serialization), offered_qos(qos))

    def reason(self, error: Exception) -> str:
        """Describe an error of SQLite."""
        return 'reading it takes SQLite too many steps' if self._steps < 0 else str(error)

    def note(self, fault: str) -> None:
        """Note damage; the first is kept."""
        self.fault = self.fault or fault

    def execute(self, query: str, *values: object) -> Iterator[Any]:
        """Execute a query and return its rows."""
        return self._database.execute(query, values)

    def rows(self, columns: str) -> Iterator[Any]:
        """Read messages as they were written, `columns` beginning with rowid; go on behind damage."""
        after, step = -(2**63), 1
        query = f'SELECT {columns} FROM messages NOT INDEXED WHERE rowid > ? ORDER BY rowid'
        while step < 1 << 40:
            try:
                for row in self.execute(query, after):
                    after, step = row[0], 1
                    if None not in row[1:3]:
                        yield row
                        continue
                    self.note(f'message {after} has no topic or time')
                    if self.cut:
                        return
            except (sqlite3.Error, MemoryError) as error:
                self.note(f'it is damaged after message {max(after, 0)}: {self.reason(error)}')
                if self.cut or self._steps < 0:
                    return
                after, step = max(after, 0) + step, 2 * step
            else:
                return
