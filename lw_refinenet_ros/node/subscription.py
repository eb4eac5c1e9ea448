# SPDX-License-Identifier: Apache-2.0
"""A subscription to serialized messages that is as reliable as the publishers allow."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from rclpy._rclpy_pybind11 import RCLError, WaitSet
from rclpy.callback_groups import CallbackGroup
from rclpy.guard_condition import GuardCondition
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

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


class _NotForTheExecutor(CallbackGroup):  # type: ignore[misc]
    """Keeps a subscription from the executor.

    Not even its events may be waited for there: each message would wake the executor, which would find
    nothing and wait again, over and over until the message is taken; and as it gives Python's lock up and
    takes it back within microseconds, the thread that is to take the message may not get it for 0.2 s.
    """

    def can_execute(self, entity: object) -> bool:  # noqa: ARG002
        return False


class FollowingSubscription:
    """Takes the newest message of a topic as bytes.

    A thread of its own waits for it: the executor, which looks at all that the node has before it calls
    back, and again before it waits, takes longer over that than the message over its way.
    Used in one thread, but for `receive`.

    Args:
        node: that subscribes.
        kind: of the messages.
        topic: resolved.
        receive: takes each message, and how many of its publisher were lost just before it, in the
            subscription's own thread; must be brief.

    Attributes:
        topic: as above.
        since: when it was opened, in seconds of the monotonic clock.

    """

    def __init__(self, node: Node, kind: type, topic: str, receive: Callable[[bytes, int], None]) -> None:
        self._node, self._type, self.topic, self._receive = node, kind, topic, receive
        self.since = 0.0
        self._subscription: Subscription | None = None
        self._receiver: _Receiver | None = None
        self._last_sequence: dict[str, int] = {}

    def open(self) -> None:
        """Listen from now on: best effort, which every publisher serves."""
        if self._subscription is None:
            self._subscribe(ReliabilityPolicy.BEST_EFFORT)

    def close(self) -> None:
        """Listen no more; a message that is being received is finished first."""
        if self._receiver is not None:
            self._receiver.stop()
            self._receiver = None
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

    def _subscribe(self, reliability: ReliabilityPolicy) -> None:
        self._last_sequence.clear()
        self.since = time.monotonic()
        self._subscription = self._node.create_subscription(
            self._type,
            self.topic,
            self._take,
            quality(reliability),
            raw=True,
            callback_group=_NotForTheExecutor(),
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )
        self._receiver = _Receiver(self._node, self._subscription)

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


class _Receiver:
    """A thread that calls a subscription back until it is stopped."""

    def __init__(self, node: Node, subscription: Subscription) -> None:
        self._node, self._subscription = node, subscription
        self._stop = GuardCondition(None, None, context=node.context)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name='receive', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._stop.trigger()
        self._thread.join()
        self._stop.destroy()

    def _run(self) -> None:
        subscription, stop, context = self._subscription.handle, self._stop.handle, self._node.context.handle
        with subscription, stop, context:
            wait_set = WaitSet(1, 1, 0, 0, 0, 0, context)
            while not self._stopping:
                wait_set.clear_entities()
                wait_set.add_subscription(subscription)
                wait_set.add_guard_condition(stop)
                wait_set.wait(-1)  # for ever
                if not self._stopping and wait_set.is_ready('subscription', 0):
                    self._take()

    def _take(self) -> None:
        try:
            taken = self._subscription.handle.take_message(self._subscription.msg_type, True)
        except RCLError as error:  # the next message may be taken
            self._node.get_logger().error(f'a message was lost: {error}', throttle_duration_sec=1.0)
            return
        if taken is not None:
            self._subscription.callback(*taken)
