# SPDX-License-Identifier: Apache-2.0
"""The images of a recorded bag as a source: rosbag2 (sqlite3, mcap) and ROS 1."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

from rosbags import rosbag1, rosbag2
from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore

from lw_refinenet_ros.image.frame import FrameError, parse_compressed_image, parse_image, parse_stamp
from lw_refinenet_ros.sources.scanned_bag import ScannedBag
from lw_refinenet_ros.sources.source import OnError, Source, SourceError, SourceFrame, StampNames
from lw_refinenet_ros.sources.zstd import MAGIC, zstd

__all__ = ['BAG_SUFFIXES', 'BagSource']

BAG_SUFFIXES = ('.db3', '.mcap', '.bag')

_PARSERS = {
    'sensor_msgs/msg/Image': parse_image,
    'sensor_msgs/msg/CompressedImage': parse_compressed_image,
}
_RESULTS = ('/label', '/confidence', '/color', '/overlay')  # what a segmenter publishes, not what it sees


class BagSource(Source):
    """The frames of one image topic of a bag, in the order of the log, one in memory at a time.

    A frame's stamp is its header's.

    Args:
        path: a rosbag2 directory, a bare .db3 or .mcap file, or a ROS 1 .bag file.
        topic: of Image or CompressedImage; None: the only one that is no segmenter's result.
        on_error: see `Source`.
        leave_out: topics that are not chosen unless they are asked for.

    Raises:
        SourceError: the bag cannot be read, or there is no such topic or more than one.

    """

    def __init__(
        self,
        path: Path,
        topic: str | None = None,
        on_error: OnError | None = None,
        leave_out: Collection[str] = (),
    ) -> None:
        super().__init__(f'bag {path}', on_error=on_error)
        self._path = path
        # ROS 1 messages are rewritten as CDR by the ROS 2 definitions, whose header has no sequence number.
        self._ros1 = get_typestore(Stores.ROS2_HUMBLE) if path.suffix == '.bag' else None
        self._fault = ''  # of the index
        self._reader: rosbag1.Reader | rosbag2.Reader | ScannedBag
        # Damaged files make rosbags raise nearly anything, here and while reading.
        try:
            self._reader = rosbag1.Reader(path) if self._ros1 else rosbag2.Reader(path)
            self._stack.enter_context(self._reader)
        except Exception as error:
            self._fault = _one_line(error)
            self._reader = self._without_index(error)
        images = [connection for connection in self._reader.connections if connection.msgtype in _PARSERS]
        try:
            self.topic = self._choose(topic, sorted({connection.topic for connection in images}), leave_out)
        except SourceError:
            self.close()
            raise
        self._connections = [connection for connection in images if connection.topic == self.topic]
        self.length = sum(connection.msgcount for connection in self._connections)
        self.offered = tuple(
            profile
            for connection in self._connections
            if isinstance(connection.ext, ConnectionExtRosbag2)
            for profile in connection.ext.offered_qos_profiles
        )
        duration_ns = self._reader.duration
        if self.length > 1 and duration_ns > 0:
            self.rate_hz = (self.length - 1) * 1e9 / duration_ns

    def _without_index(self, error: Exception) -> ScannedBag:
        """Open a bag that cannot be opened otherwise; `error` says why."""
        try:
            bag = self._stack.enter_context(closing(ScannedBag(self._path)))
        except Exception:
            bag = None
        if bag is None or not any(connection.msgtype in _PARSERS for connection in bag.connections):
            self.close()
            msg = f'{self._path} cannot be read as a bag: {_one_line(error)}'
            raise SourceError(msg) from error
        return bag

    def _choose(self, topic: str | None, images: list[str], leave_out: Collection[str]) -> str:
        """Give the topic to read."""
        names = ', '.join(images) or 'none'
        if topic is not None:
            if topic not in images:
                msg = f'{self._path} has no image topic {topic!r}: its image topics are {names}'
                raise SourceError(msg)
            return topic
        seen = [
            name
            for name in images
            if name not in leave_out
            and not name.removesuffix('/compressed').endswith((*_RESULTS, '/compressedDepth'))
        ]
        if not seen:
            msg = f'{self._path} has no image topic to segment: its image topics are {names}'
            raise SourceError(msg)
        if len(seen) > 1:
            msg = f'{self._path} has several image topics, choose one: {", ".join(seen)}'
            raise SourceError(msg)
        return seen[0]

    def __iter__(self) -> Iterator[SourceFrame]:
        names = StampNames()
        for index, where, log_ns, msgtype, cdr in self._messages():
            try:
                name = names.name(parse_stamp(cdr), index)
                frame = _PARSERS[msgtype](cdr)
            except FrameError as error:
                self._report(SourceError(f'{where}: {_one_line(error)}'), error)
            else:
                yield SourceFrame.of(frame, log_ns=log_ns, name=name, where=where)

    def stamps(self) -> Iterator[int]:
        """Read the headers alone: the stamp in ns of every frame, decoded or not."""
        for _, where, _, _, cdr in self._messages():
            try:
                stamp_ns = parse_stamp(cdr)
            except FrameError as error:
                self._report(SourceError(f'{where}: {_one_line(error)}'), error)
            else:
                yield stamp_ns

    def _messages(self) -> Iterator[tuple[int, str, int, str, bytes | memoryview]]:
        """Read the messages of the topic: index, where it stands, log time, type and CDR."""
        for index, (connection, log_ns, raw) in enumerate(self._logged()):
            where = f'{self._path}: message {index} of {self.topic}, logged at {log_ns} ns'
            cdr: bytes | memoryview
            try:
                if self._ros1:
                    cdr = self._ros1.ros1_to_cdr(raw, connection.msgtype)
                else:  # without metadata.yaml nobody has said that messages are compressed
                    cdr = zstd.decompress(raw) if raw[:4] == MAGIC else raw
            except (SerdeError, zstd.ZstdError) as error:
                self._report(SourceError(f'{where}: {_one_line(error)}'), error)
            else:
                yield index, where, log_ns, connection.msgtype, cdr

    def _logged(self) -> Iterator[tuple[Connection, int, bytes]]:
        """Read connection, log time and content by the index and, where it fails, the rest without."""
        times_ns = array('q')
        fault, cause = self._fault, None
        if not isinstance(self._reader, ScannedBag):
            try:
                for entry in self._reader.messages(connections=self._connections):
                    times_ns.append(entry[1])
                    yield entry
            except Exception as error:
                fault, cause = _one_line(error), error
            else:
                if len(times_ns) == self.length:
                    return
                fault = f'its index promises {self.length} and leads to {len(times_ns)}'
        read, known = len(times_ns), Counter(times_ns)
        try:
            with closing(ScannedBag(self._path)) as bag:
                for entry in bag.messages(self._connections):
                    if known[entry[1]]:
                        known[entry[1]] -= 1
                    else:
                        read += 1
                        yield entry
        except Exception as error:
            fault, cause = _one_line(error), error
        msg = f'{self._path} is damaged, {read} messages of {self.topic} could be read: {fault}'
        self._report(SourceError(msg), cause)


def _one_line(error: Exception) -> str:
    """Say an error of any library in one line."""
    return ' '.join(str(error).split()) or type(error).__name__
