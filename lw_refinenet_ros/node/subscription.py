# SPDX-License-Identifier: Apache-2.0
"""A subscription to serialized messages that is as reliable as its publishers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rclpy._rclpy_pybind11 import RCLError, WaitSet
from rclpy.callback_groups import CallbackGroup
from rclpy.guard_condition import GuardCondition
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from lw_refinenet_ros.inference.engine import Pixels

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from lw_refinenet_ros.node.message_buffers import Memory, Message, MessageBuffers

__all__ = ['FollowingSubscription', 'offered_types', 'quality', 'type_name']


def offered_types(node: Node, topic: str) -> set[str]:
    """Return the types of messages that a topic's publishers have, as `type_name` names them."""
    return {publisher.topic_type for publisher in node.get_publishers_info_by_topic(topic)}


def type_name(kind: type) -> str:
    """Return the name that the graph has for a class of messages, such as 'sensor_msgs/msg/Image'."""
    return f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'


def quality(
    reliability: ReliabilityPolicy, durability: DurabilityPolicy = DurabilityPolicy.VOLATILE
) -> QoSProfile:
    """Return a quality of service of depth 1."""
    return QoSProfile(depth=1, reliability=reliability, durability=durability)


class _NotForTheExecutor(CallbackGroup):  # type: ignore[misc]
    """Keeps a subscription from the executor.

    Not even its events may be waited for there: each message would wake the executor, which would find
    nothing and wait again, over and over until the message is taken; and as it gives Python's lock up and
    takes it back within microseconds, the thread that is to take the message may not get it for 0.2 s.
    """

    def can_execute(self, entity: object) -> bool:  # noqa: ARG002
        return False


class FollowingSubscription:
    """Takes the newest serialized message of a topic.

    A thread of its own waits for it: the executor inspects all entities of the node before it calls back, and
    again before it waits, which takes longer than the transport of a message.
    Used in one thread, but for `receive`.

    Args:
        topic: resolved.
        receive: called with each message, and the number of messages of its publisher just before it that
            were lost, in the subscription's own thread; must be brief. The memory of the message is not
            written to again as long as anything refers to it.
        latched: whether the last message from before it opens is wanted, where every publisher keeps it.

    Attributes:
        span: first and last sequence number of the publisher that was heard last; None without numbers.
        since: when it was last opened, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        receive: Callable[[bytes | memoryview, int], None],
        latched: bool = False,
    ) -> None:
        self._node, self._type, self.topic, self._receive = node, kind, topic, receive
        self._latched = latched
        self.since = 0.0
        self._memory: Memory | None = None
        self.span: tuple[int, int] | None = None
        self._subscription: Subscription | None = None
        self._receiver: _Receiver | None = None
        self._spans: dict[object, tuple[int, int]] = {}  # by publisher

    def open(self, allocate: Callable[[int], Pixels] | None = None) -> None:
        """Subscribe, unless that is done: as reliably as the publishers offer it, else with best effort.

        Args:
            allocate: returns so many bytes of memory for a message, or raises RuntimeError; None leaves that
                to rcl.
        """
        if self._subscription is None:
            warn = self._node.get_logger().warning
            self._memory = None if allocate is None else Memory(allocate, warn)
            self._spans.clear()
            self.span = None
            self._subscribe(self._offered() or quality(ReliabilityPolicy.BEST_EFFORT))

    def close(self) -> None:
        """Unsubscribe; a message that is being received is finished first."""
        if self._receiver is not None:
            self._receiver.stop()
            self._receiver = None
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def follow(self) -> None:
        """Adapt the quality of service to the present publishers."""
        offered = self._offered()
        if self._subscription is None or offered is None:
            return
        present = self._subscription.qos_profile
        if (offered.reliability, offered.durability) != (present.reliability, present.durability):
            self.close()
            self._subscribe(offered)

    def _offered(self) -> QoSProfile | None:
        """Return reliable where every publisher is, since only then no large image is lost; None without."""
        offered = [each.qos_profile for each in self._node.get_publishers_info_by_topic(self.topic)]
        if not offered:
            return None
        reliable = all(each.reliability == ReliabilityPolicy.RELIABLE for each in offered)
        kept = all(each.durability == DurabilityPolicy.TRANSIENT_LOCAL for each in offered)
        return quality(
            ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            DurabilityPolicy.TRANSIENT_LOCAL if kept and self._latched else DurabilityPolicy.VOLATILE,
        )

    def _subscribe(self, offered: QoSProfile) -> None:
        self.since = time.monotonic()
        self._subscription = self._node.create_subscription(
            self._type,
            self.topic,
            self._hand_over,
            offered,
            raw=True,
            callback_group=_NotForTheExecutor(),
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )
        self._receiver = _Receiver(self._node, self._subscription, self._memory, self._hand_over)

    def _hand_over(self, message: Message) -> None:
        """Call `receive`; a gap in the sequence numbers is messages lost."""
        lost, sequence = 0, message.sequence
        if sequence is not None:
            first, last = self._spans.get(message.publisher, (sequence, sequence - 1))
            lost = max(0, sequence - last - 1)
            self._spans[message.publisher] = self.span = (first, sequence)
        self._receive(message.cdr, lost)


class _Receiver:
    """A thread that takes a subscription's messages until it is stopped."""

    def __init__(
        self,
        node: Node,
        subscription: Subscription,
        memory: Memory | None,
        hand_over: Callable[[Message], None],
    ) -> None:
        self._node, self._subscription, self._hand_over = node, subscription, hand_over
        self._memory = memory
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
            buffers = MessageBuffers(self._subscription, self._memory)
            while not self._stopping:
                wait_set.clear_entities()
                wait_set.add_subscription(subscription)
                wait_set.add_guard_condition(stop)
                wait_set.wait(-1)  # for ever
                if not self._stopping and wait_set.is_ready('subscription', 0):
                    self._take(buffers)

    def _take(self, buffers: MessageBuffers) -> None:
        try:
            message = buffers.take()
        except (MemoryError, RCLError) as error:  # the next message may be taken
            self._node.get_logger().error(f'a message was lost: {error}', throttle_duration_sec=1.0)
            return
        if message is not None:
            self._hand_over(message)
