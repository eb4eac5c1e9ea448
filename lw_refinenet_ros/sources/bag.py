# SPDX-License-Identifier: Apache-2.0
"""The images of a recorded bag as a source: rosbag2 (sqlite3, mcap) and ROS 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rosbags.typesys import Stores, get_typestore

from lw_refinenet_ros.image.compressed import parse_compressed_image
from lw_refinenet_ros.image.frame import FrameError, parse_image, parse_stamp
from lw_refinenet_ros.one_line import counted, one_line
from lw_refinenet_ros.sources.bag_formats.bag_files import BagFiles
from lw_refinenet_ros.sources.bag_formats.storage import Messages, Topic
from lw_refinenet_ros.sources.bag_formats.unpacking import unpack_message
from lw_refinenet_ros.sources.source import OnError, Source, SourceError, SourceFrame, StampNames, TopicError

__all__ = ['BagSource', 'open_bag']

_PARSERS = {
    'sensor_msgs/msg/Image': parse_image,
    'sensor_msgs/msg/CompressedImage': parse_compressed_image,
}
_SERIALIZATIONS = ('cdr', 'ros1')
# Images that our node publishes below its name, and what marks a name as that of one of our nodes.
_RESULTS = ('/label', '/confidence', '/color', '/overlay')
_INFOS = ('/label_names', '/label_info')
_NODE = 'lw_refinenet'
_DEPTH = '/compressedDepth'  # no image that OpenCV decodes
_OTHERS = ('foxglove', 'FFMPEGPacket', 'CompressedVideo', 'theora')  # images in types that are not read
_OTHER_IMAGES = (
    '; images are read from sensor_msgs/Image and CompressedImage: record these, or convert (ROS topics: '
    'ros2 run image_transport republish)'
)


def open_bag(path: Path) -> BagFiles:
    """Open the files of a bag, of any format.

    Raises:
        SourceError: nothing of it can be read.
    """
    try:
        return BagFiles(path)
    except (ValueError, OSError) as error:
        raise SourceError(f'{path} cannot be read as a bag: {one_line(str(error))}') from error


class _Message(NamedTuple):
    """A message of the topic: its number, where it stands, its log time in ns, its type and its CDR."""

    number: int
    where: str
    log_ns: int
    msgtype: str
    cdr: bytes | memoryview


class BagSource(Source):
    """The frames of one image topic of a bag, in the order of the log, one in memory at a time.

    A frame's stamp is its header's.

    Args:
        path: a file of a bag (.db3, .mcap, ROS 1's .bag), or a folder of the files of one recording.
        topic: of Image or CompressedImage; None: the only one that is no segmenter's result.
        on_error: see `Source`.
        leave_out: topics that are not chosen unless they are asked for.
        results: whether a segmenter's result is chosen too, where there is nothing else.

    Raises:
        SourceError: the bag cannot be read, or there is no such topic or more than one.
    """

    def __init__(
        self,
        path: Path,
        topic: str | None = None,
        on_error: OnError | None = None,
        leave_out: Collection[str] = (),
        *,
        results: bool = False,
    ) -> None:
        super().__init__(f'bag {path}', on_error)
        self._path = path
        # ROS 1 messages are rewritten as CDR by the ROS 2 definitions, whose header has no sequence number.
        self._ros1 = get_typestore(Stores.ROS2_HUMBLE)
        self._bag = open_bag(path)
        self._stack.callback(self._bag.close)
        counts = self._bag.counts
        images = [t for t in counts if t.msgtype in _PARSERS and t.serialization in _SERIALIZATIONS]
        names = sorted({each.name for each in images})
        try:
            self.topic = self._choose(topic, names, leave_out, results=results)
        except SourceError:
            self.close()
            raise
        self._topics = [each for each in images if each.name == self.topic]
        self.length = sum(counts[each] for each in self._topics)
        self.offered = tuple(profile for each in self._topics for profile in each.offered)
        if self.length > 1 and self._bag.duration_ns > 0:
            self.rate_hz = (self.length - 1) * 1e9 / self._bag.duration_ns

    def _choose(
        self, topic: str | None, images: list[str], leave_out: Collection[str], *, results: bool
    ) -> str:
        """Return the topic to read."""
        if not images and self._bag.fault:
            raise SourceError(f'{self._path} cannot be read as a bag: {one_line(self._bag.fault)}')
        if topic is not None:
            if topic not in images:
                raise TopicError(f'{self._path} has no image topic {topic!r}: {self._listed(images)}')
            return topic
        left = [name for name in images if name not in leave_out]
        ours = _results([each.name for each in self._bag.counts])
        seen = [name for name in left if name not in ours and not name.endswith(_DEPTH)]
        if not seen and results:
            seen = left
        if not seen and left:
            names = ', '.join(left)
            raise SourceError(
                f'{self._path} has only depth and results of a segmenter, choose one (--topic): {names}'
            )
        if not seen:
            raise SourceError(f'{self._path} has no image topic: {self._listed(images)}')
        if len(seen) > 1:
            raise SourceError(
                f'{self._path} has several image topics, choose one (--topic): {", ".join(seen)}'
            )
        return seen[0]

    def _listed(self, images: Sequence[str]) -> str:
        """List the image topics or, if there are none, all topics."""
        if images:
            return f'its image topics are {", ".join(images)}'
        topics = [f'{topic.name} ({_described(topic)})' for topic in self._bag.counts]
        if not topics:
            return 'it has no topics at all'
        listed = f'its topics are {", ".join(topics)}'
        return one_line(listed + (_OTHER_IMAGES if any(word in listed for word in _OTHERS) else ''))

    def __iter__(self) -> Iterator[SourceFrame]:
        names = StampNames()
        for index, where, log_ns, msgtype, cdr in self._messages():
            try:
                name = names.name(parse_stamp(cdr), index)
                frame = _PARSERS[msgtype](cdr)
            except (FrameError, MemoryError) as error:
                self._report(SourceError(f'{where}: {_reason(error)}'), error)
            else:
                yield SourceFrame.of(frame, log_ns=log_ns, name=name, where=where)

    def stamps(self) -> Iterator[int]:
        """Read the headers alone: the stamp in ns of every frame, decoded or not."""
        for message in self._messages():
            try:
                stamp_ns = parse_stamp(message.cdr)
            except FrameError as error:
                self._report(SourceError(f'{message.where}: {_reason(error)}'), error)
            else:
                yield stamp_ns

    def _messages(self) -> Iterator[_Message]:
        """Read the messages of the topic."""
        for index, (topic, log_ns, raw) in enumerate(self._logged()):
            where = f'{self._path}: message {index} of {self.topic}, logged at {log_ns} ns'
            try:
                cdr = self._cdr(topic, raw)
            except Exception as error:  # damaged ones make rosbags raise nearly anything
                self._report(SourceError(f'{where}: {_reason(error)}'), error)
            else:
                yield _Message(index, where, log_ns, topic.msgtype, cdr)

    def _logged(self) -> Messages:
        """Read them as they are in the file; report damage at the end."""
        messages = self._bag.messages(self._topics)
        read = 0
        while True:
            try:
                message = next(messages, None)
            except (ValueError, OSError, MemoryError) as error:
                read_so_far = f'{counted(read, "message")} of {self.topic} could be read'
                msg = f'{self._path} is damaged, {read_so_far}: {_reason(error)}'
                self._report(SourceError(msg), error)
                return
            if message is None:
                return
            read += 1
            yield message

    def _cdr(self, topic: Topic, raw: bytes) -> bytes | memoryview:
        """Return the CDR of a message that may be compressed, or serialized by ROS 1."""
        if topic.serialization == 'ros1':
            return self._ros1.ros1_to_cdr(raw, topic.msgtype)
        return unpack_message(raw)


def _results(names: Collection[str]) -> set[str]:
    """Return those of the topics that a segmenter of ours published.

    A camera's topic may be called /camera/color: ours is known by the node's name, the names of classes
    that it publishes beside its images, or that all four images are there.
    """
    parents = Counter(name.rpartition('/')[0] for name in names if name.endswith(_RESULTS))
    nodes = {parent for parent, count in parents.items() if count == len(_RESULTS)}
    nodes |= {name.rpartition('/')[0] for name in names if name.endswith(_INFOS)}
    return {
        name
        for name in names
        if _NODE in name.split('/')[:-1] or any(name.startswith(f'{n}/') for n in nodes)
    }


def _described(topic: Topic) -> str:
    """Name a topic's type."""
    known = topic.serialization in _SERIALIZATIONS
    return (topic.msgtype or 'of unknown type') + ('' if known else f', serialized as {topic.serialization}')


def _reason(error: BaseException) -> str:
    """Return any library's error in one line."""
    if isinstance(error, MemoryError):
        return 'there is not enough memory for it'
    return one_line(str(error)) or type(error).__name__
