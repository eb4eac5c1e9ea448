# SPDX-License-Identifier: Apache-2.0
"""Bags whose end or index is missing or wrong, as a crashed recorder or a full disk leaves them."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat

from lw_refinenet_ros.sources.scan_db3 import scan_db3
from lw_refinenet_ros.sources.scan_mcap import scan_mcap
from lw_refinenet_ros.sources.scan_ros1 import scan_ros1
from lw_refinenet_ros.sources.zstd import zstd

if TYPE_CHECKING:
    from lw_refinenet_ros.sources.scanned_topic import Messages, Topic

__all__ = ['ScannedBag']

_SCANNERS = {'.mcap': scan_mcap, '.db3': scan_db3, '.bag': scan_ros1}
_PIECE = 1 << 20


class ScannedBag:
    """Reads like `rosbags.rosbag2.Reader`, but needs no index.

    `messages` comes in the order of the file and ends with a ValueError where something is damaged.

    Args:
        path: a .mcap, .db3 or .bag file, or a directory of them, which may be compressed as files.

    Raises:
        ValueError: nothing is left.

    """

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        files = path.iterdir() if path.is_dir() else [path]
        bags = [file for file in files if Path(file.name.removesuffix('.zstd')).suffix in _SCANNERS]
        self._files = sorted(bags, key=lambda file: (len(file.name), file.name))  # split bags count 9, 10
        counts: Counter[Topic] = Counter()
        first_ns, last_ns = 2**63, 0
        with self._stack:
            self._files = [self._unpacked(file) for file in self._files]
            with suppress(ValueError):  # met again, and told, when the messages are read
                for topic, log_ns, _ in self._scan():
                    counts[topic] += 1
                    first_ns, last_ns = min(first_ns, log_ns), max(last_ns, log_ns)
            if not counts:
                msg = 'nothing is left of it'
                raise ValueError(msg)
            self._stack = self._stack.pop_all()
        self.duration = last_ns - first_ns + 1
        self.connections = [
            Connection(
                index,
                topic.name,
                topic.msgtype,
                MessageDefinition(MessageDefinitionFormat.NONE, ''),
                '',
                count,
                ConnectionExtRosbag2('cdr', list(topic.offered)),
                None,
            )
            for index, (topic, count) in enumerate(counts.items())
        ]

    def close(self) -> None:
        """Remove temporary files."""
        self._stack.close()

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """Read the messages of these connections: connection, log time in ns, CDR (ROS 1: as it is there)."""
        wanted = {(connection.topic, connection.msgtype): connection for connection in connections}
        for topic, log_ns, data in self._scan():
            if topic[:2] in wanted:
                yield wanted[topic[:2]], log_ns, data

    def _scan(self) -> Messages:
        """Read every file; raise what was wrong with the first one that is damaged."""
        fault: Exception | None = None
        for path in self._files:
            try:
                yield from _SCANNERS[path.suffix](path)
            except Exception as error:
                fault = fault or error
        if fault:
            raise ValueError(' '.join(str(fault).split()) or type(fault).__name__) from fault

    def _unpacked(self, file: Path) -> Path:
        """Decompress a file as far as it goes to a temporary one."""
        if file.suffix != '.zstd':
            return file
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix='lw_refinenet_')))
        unpacker = zstd.ZstdDecompressor()
        with file.open('rb') as packed, (folder / file.stem).open('wb') as plain, suppress(zstd.ZstdError):
            while not unpacker.eof and (not unpacker.needs_input or (piece := packed.read(_PIECE))):
                plain.write(unpacker.decompress(piece if unpacker.needs_input else b'', _PIECE))
        return folder / file.stem
