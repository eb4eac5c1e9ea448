# SPDX-License-Identifier: Apache-2.0
"""The images of a recorded bag as a source: rosbag2 (sqlite3, mcap) and ROS 1."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import count
from pathlib import Path

from rosbags import rosbag1, rosbag2
from rosbags.interfaces import Connection, ConnectionExtRosbag2, QosReliability
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore

from lw_refinenet_ros.image.frame import Frame, FrameError, parse_compressed_image, parse_image, parse_stamp
from lw_refinenet_ros.sources.cut_bag import CutBag
from lw_refinenet_ros.sources.source import Offered, OnError, Source, SourceError

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
        self._name = str(path)
        # ROS 1 messages are rewritten as CDR by the ROS 2 definitions, whose header has no sequence number.
        self._ros1 = get_typestore(Stores.ROS2_HUMBLE) if path.suffix == '.bag' else None
        self._reader: rosbag1.Reader | rosbag2.Reader | CutBag
        # Damaged files make rosbags raise nearly anything, here and while reading.
        try:
            self._reader = rosbag1.Reader(path) if self._ros1 else rosbag2.Reader(path)
            self._stack.enter_context(self._reader)
        except Exception as error:
            try:
                self._reader = CutBag(path)
                self._name += ', cut short,'
            except Exception:
                msg = f'{path} cannot be read as a bag: {_one_line(error)}'
                raise SourceError(msg) from error
        images = [connection for connection in self._reader.connections if connection.msgtype in _PARSERS]
        try:
            self.topic = self._choose(topic, sorted({connection.topic for connection in images}), leave_out)
        except SourceError:
            self.close()
            raise
        self._connections = [connection for connection in images if connection.topic == self.topic]
        self.length = sum(connection.msgcount for connection in self._connections)
        self.offered = _offered(self._connections)
        duration_ns = self._reader.duration
        if self.length > 1 and duration_ns > 0:
            self.rate_hz = (self.length - 1) * 1e9 / duration_ns

    def _choose(self, topic: str | None, images: list[str], leave_out: Collection[str]) -> str:
        """Give the topic to read."""
        names = ', '.join(images) or 'none'
        if topic is not None:
            if topic not in images:
                msg = f'{self._name} has no image topic {topic!r}: its image topics are {names}'
                raise SourceError(msg)
            return topic
        seen = [
            name
            for name in images
            if name not in leave_out
            and not name.removesuffix('/compressed').endswith((*_RESULTS, '/compressedDepth'))
        ]
        if not seen:
            msg = f'{self._name} has no image topic to segment: its image topics are {names}'
            raise SourceError(msg)
        if len(seen) > 1:
            msg = f'{self._name} has several image topics, choose one: {", ".join(seen)}'
            raise SourceError(msg)
        return seen[0]

    def __iter__(self) -> Iterator[Frame]:
        for where, msgtype, cdr in self._messages():
            try:
                frame = _PARSERS[msgtype](cdr)
            except FrameError as error:
                self._report(SourceError(f'{where}: {_one_line(error)}'), error)
            else:
                yield frame

    def stamps(self) -> Iterator[int]:
        """Read the headers alone: the stamp in ns of every frame, decoded or not."""
        for where, _, cdr in self._messages():
            try:
                stamp_ns = parse_stamp(cdr)
            except FrameError as error:
                self._report(SourceError(f'{where}: {_one_line(error)}'), error)
            else:
                yield stamp_ns

    def _messages(self) -> Iterator[tuple[str, str, bytes | memoryview]]:
        """Read the messages of the topic: where each stands, its type and its CDR."""
        messages = self._reader.messages(connections=self._connections)
        for index in count():
            try:
                connection, log_ns, raw = next(messages)
            except StopIteration:
                return
            except Exception as error:
                where = f'after {index} messages of {self.topic}'
                msg = f'{self._name} cannot be read further {where}: {_one_line(error)}'
                self._report(SourceError(msg), error)
                return
            where = f'{self._name}: message {index} of {self.topic}, logged at {log_ns} ns'
            try:
                cdr = self._ros1.ros1_to_cdr(raw, connection.msgtype) if self._ros1 else raw
            except SerdeError as error:
                self._report(SourceError(f'{where}: {_one_line(error)}'), error)
            else:
                yield where, connection.msgtype, cdr


def _offered(connections: Sequence[Connection]) -> Offered | None:
    """Read the recorded quality of service; of several publishers, what every subscriber can match."""
    profiles = [
        profile
        for connection in connections
        if isinstance(connection.ext, ConnectionExtRosbag2)
        for profile in connection.ext.offered_qos_profiles
    ]
    if not profiles:
        return None
    reliable = all(profile.reliability is not QosReliability.BEST_EFFORT for profile in profiles)
    return Offered(reliable, max(1, *(profile.depth for profile in profiles)))


def _one_line(error: Exception) -> str:
    """Say an error of any library in one line."""
    return ' '.join(str(error).split()) or type(error).__name__
