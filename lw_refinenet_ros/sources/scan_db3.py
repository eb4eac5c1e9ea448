# SPDX-License-Identifier: Apache-2.0
"""The messages of a rosbag2 database in the order they were written, without its index."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from rosbags.rosbag2.metadata import parse_qos

from lw_refinenet_ros.sources.scanned_topic import Messages, Topic

__all__ = ['scan_db3']

_Row = tuple[int, int, int, bytes | None]  # id, topic, log time in ns, CDR


def scan_db3(path: Path) -> Messages:
    """Read what can be read, then raise a ValueError that says where the damage is, if there is any.

    SQLite opens no file shorter than its header says: it gets a temporary copy, filled up with zeros. A row
    that reaches into them may look whole, so the last one before the damage is left out.
    """
    size = path.stat().st_size
    with ExitStack() as stack:
        file = stack.enter_context(path.open('rb'))
        page_size, pages = struct.unpack('>16xH10xI68x', file.read(100))
        full = (page_size if page_size > 1 else 65536) * pages  # a page of 65536 bytes does not fit its field
        cut = full > size
        name = str(path)
        if cut:
            copy = stack.enter_context(tempfile.NamedTemporaryFile(suffix='.db3'))
            file.seek(0)
            shutil.copyfileobj(file, copy)
            copy.truncate(full)
            copy.flush()
            name = copy.name
        uri = f'{Path(name).absolute().as_uri()}?immutable=1'
        database = stack.enter_context(closing(sqlite3.connect(uri, uri=True)))
        topics = {row[0]: _topic(*row[1:]) for row in database.execute('SELECT * FROM topics ORDER BY id')}
        held: tuple[Topic, int, bytes] | None = None
        fault = ''
        for row in _rows(database, go_on=not cut):
            if isinstance(row, str):
                fault = fault or row
                continue
            if not isinstance(row[3], bytes):
                break
            if held:
                yield held
            held = topics[row[1]], row[2], row[3]
        if held and not cut:
            yield held
    if cut:
        fault = f'it ends at byte {size} of {full}'
    if fault:
        raise ValueError(fault)


def _rows(database: sqlite3.Connection, *, go_on: bool) -> Iterator[_Row | str]:
    """Read the rows; where a page is damaged, say so and, with `go_on`, go on behind it."""
    after, step = 0, 1
    query = 'SELECT id, topic_id, timestamp, data FROM messages NOT INDEXED WHERE id > ? ORDER BY id'
    while step < 1 << 40:
        try:
            for row in database.execute(query, (after,)):
                yield row
                after, step = row[0], 1
        except sqlite3.Error as error:
            yield f'it is damaged after message {after}: {error}'
            if not go_on:
                return
            after, step = after + step, 2 * step
        else:
            return


def _topic(name: str, msgtype: str, _format: str = 'cdr', offered: str = '', *_: object) -> Topic:
    return Topic(name, msgtype, tuple(parse_qos(offered)))
