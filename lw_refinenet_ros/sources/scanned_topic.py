# SPDX-License-Identifier: Apache-2.0
"""What the scanners of damaged bags give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rosbags.interfaces import Qos

__all__ = ['Messages', 'Topic']


class Topic(NamedTuple):
    """A topic of a bag, its type such as 'sensor_msgs/msg/Image', and what its publishers offered."""

    name: str
    msgtype: str
    offered: tuple[Qos, ...] = ()


Messages = Iterator[tuple[Topic, int, bytes]]  # with the log time in ns
