# SPDX-License-Identifier: Apache-2.0
"""What a file of a bag has: topics, and messages with their log times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from rosbags.interfaces import Qos

__all__ = ['Message', 'Messages', 'Summary', 'Topic', 'Wanted']


class Topic(NamedTuple):
    """A topic of a bag.

    Attributes:
        name: such as '/camera/image_raw'.
        msgtype: such as 'sensor_msgs/msg/Image'; '' if it is not in the file.
        serialization: 'cdr', 'ros1', or whatever else a recorder wrote.
        offered: what its publishers offered, as far as it is known.
    """

    name: str
    msgtype: str
    serialization: str = 'cdr'
    offered: tuple[Qos, ...] = ()


class Message(NamedTuple):
    """A message as it is in the file: log time in ns and its bytes."""

    topic: Topic
    log_ns: int
    data: bytes


Messages = Iterator[Message]
Wanted = Callable[[Topic], bool]


class Summary(NamedTuple):
    """What is in a file.

    Attributes:
        counts: of the messages of each topic.
        first_ns: the log time of the first message, of any topic; if there are none, later than `last_ns`.
        last_ns: of the last one.
        fault: the damage, or ''; more may be found when the messages are read.
    """

    counts: dict[Topic, int]
    first_ns: int
    last_ns: int
    fault: str = ''
