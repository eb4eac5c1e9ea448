# SPDX-License-Identifier: Apache-2.0
"""A subscription to serialized messages that is as reliable as the publishers allow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node
    from rclpy.subscription import Subscription

__all__ = ['FollowingSubscription', 'quality']


def quality(
    reliability: ReliabilityPolicy, durability: DurabilityPolicy = DurabilityPolicy.VOLATILE
) -> QoSProfile:
    """Give a quality of service of depth 1."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability, durability=durability
    )


class FollowingSubscription:
    """Takes the newest message of a topic as bytes; used in the executor's thread only.

    Args:
        node: that subscribes.
        kind: of the messages.
        topic: resolved.
        receive: takes each message, and how many of its publisher were lost just before it.

    Attributes:
        topic: as above.
        since: when it was opened, in seconds of the monotonic clock.

    """

    def __init__(self, node: Node, kind: type, topic: str, receive: Callable[[bytes, int], None]) -> None:
        self._node, self._type, self.topic, self._receive = node, kind, topic, receive
        self.since = 0.0
        self._subscription: Subscription | None = None
        self._last_sequence: dict[str, int] = {}

    def open(self) -> None:
        """Listen from now on: best effort, which every publisher serves."""
        if self._subscription is None:
            self._subscribe(ReliabilityPolicy.BEST_EFFORT)

    def close(self) -> None:
        """Listen no more."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def follow(self) -> None:
        """Ask for reliable transport where every publisher offers it: only then is no large image lost."""
        if self._subscription is None:
            return
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        offered = {publisher.qos_profile.reliability for publisher in publishers}
        all_reliable = offered == {ReliabilityPolicy.RELIABLE}
        wanted = ReliabilityPolicy.RELIABLE if all_reliable else ReliabilityPolicy.BEST_EFFORT
        if offered and wanted != self._subscription.qos_profile.reliability:
            self.close()
            self._subscribe(wanted)

    def take(self) -> None:
        """Take a message that waits, while the executor is kept from it."""
        if self._subscription is None:
            return
        with self._subscription.handle:
            taken = self._subscription.handle.take_message(self._type, True)
        if taken is not None:
            self._take(*taken)

    def _subscribe(self, reliability: ReliabilityPolicy) -> None:
        self._last_sequence.clear()
        self.since = time.monotonic()
        self._subscription = self._node.create_subscription(
            self._type, self.topic, self._take, quality(reliability), raw=True
        )

    def _take(self, cdr: bytes, info: dict[str, Any]) -> None:
        self._receive(cdr, self._lost_before(info))

    def _lost_before(self, info: dict[str, Any]) -> int:
        """Give the gap in a publisher's sequence numbers, where the middleware gives them."""
        sequence: int | None = info.get('publication_sequence_number')
        if sequence is None:
            return 0
        publisher = str(info.get('publisher_gid'))
        last = self._last_sequence.get(publisher, sequence - 1)
        self._last_sequence[publisher] = sequence
        return max(0, sequence - last - 1)
