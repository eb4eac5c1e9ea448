# SPDX-License-Identifier: Apache-2.0
"""What a file of a bag has: topics, and messages with their log times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from rosbags.interfaces import Qos

__all__ = ['Message', 'Messages', 'Summary', 'Topic', 'Wanted']


class Topic(NamedTuple):
    """A topic of a bag."""

    name: str  # such as '/camera/image_raw'
    msgtype: str  # such as 'sensor_msgs/msg/Image'; '' if it is not in the file
    serialization: str = 'cdr'  # 'cdr', 'ros1', or whatever else a recorder wrote
    offered: tuple[Qos, ...] = ()  # what its publishers offered, as far as it is known


class Message(NamedTuple):
    """A message as it is in the file: log time in ns and its bytes."""

    topic: Topic
    log_ns: int
    data: bytes


Messages = Iterator[Message]
Wanted = Callable[[Topic], bool]


class Summary(NamedTuple):
    """What is in a file."""

    counts: dict[Topic, int]  # of the messages of each topic
    first_ns: int  # the log time of the first message, of any topic; if there are none, later than `last_ns`
    last_ns: int  # of the last one
    fault: str = ''  # the damage, or ''; more may be found when the messages are read
