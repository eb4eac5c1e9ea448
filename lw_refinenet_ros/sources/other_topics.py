# SPDX-License-Identifier: Apache-2.0
"""What a bag has beside images: calibrations, clouds and transforms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lw_refinenet_ros.sources.bag import open_bag
from lw_refinenet_ros.sources.bag_formats.storage import Message
from lw_refinenet_ros.sources.bag_formats.unpacking import unpack_message
from lw_refinenet_ros.sources.source import SourceError

__all__ = ['OtherTopics']

TYPES = ('sensor_msgs/msg/CameraInfo', 'sensor_msgs/msg/PointCloud2', 'tf2_msgs/msg/TFMessage')


class OtherTopics:
    """The messages of `TYPES` in a ROS 2 bag, in the order of the log; a context manager.

    They end at the first that cannot be read; the source of the images reports the damage.

    Attributes:
        topics: those that were found.

    Raises:
        SourceError: it is no bag, or has no such topic.
    """

    def __init__(self, path: Path) -> None:
        self._bag = open_bag(path)
        self.topics = [t for t in self._bag.counts if t.msgtype in TYPES and t.serialization == 'cdr']
        self.length = sum(self._bag.counts[topic] for topic in self.topics)
        if not self.topics:
            self._bag.close()
            raise SourceError(f'{path} has neither camera_info nor clouds nor tf: play it without --others')

    def __enter__(self) -> OtherTopics:
        return self

    def __exit__(self, *_: object) -> None:
        self._bag.close()

    def __iter__(self) -> Iterator[Message]:
        with suppress(ValueError, OSError, MemoryError):
            for message in self._bag.messages(self.topics):
                yield message._replace(data=unpack_message(message.data))
