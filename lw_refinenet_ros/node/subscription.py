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
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from lw_refinenet_ros.inference.engine import Pixels

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from lw_refinenet_ros.node.message_buffers import Memory, Message, MessageBuffers

__all__ = ['FollowingSubscription', 'quality']

REST_S, LOOK_S = 0.5, 0.1  # while idle: between two messages, and between two looks whether it still is


def quality(
    reliability: ReliabilityPolicy, durability: DurabilityPolicy = DurabilityPolicy.VOLATILE
) -> QoSProfile:
    """Return a quality of service of depth 1."""
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
    """Takes the newest serialized message of a topic.

    A thread of its own waits for it: the executor inspects all entities of the node before it calls back, and
    again before it waits, which takes longer than the transport of a message.
    Used in one thread, but for `receive`.

    Args:
        node: that subscribes.
        kind: of the messages.
        topic: resolved.
        receive: called with each message, and the numbers of messages of its publisher just before it that
            were lost and that were passed over while idle, in the subscription's own thread; must be brief.
            The memory of the message is not written to again as long as anything refers to it.
        is_idle: whether no message is needed at present. The middleware then replaces messages that nobody
            copies out of it, but for one every `REST_S`; the first one needed is taken within `LOOK_S`.

    Attributes:
        topic: as above.
        span: first and last sequence number of the publisher that was heard last; None without numbers.
        since: when it was opened, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        receive: Callable[[bytes | memoryview, int, int], None],
        is_idle: Callable[[], bool] = lambda: False,
    ) -> None:
        self._node, self._type, self.topic, self._receive = node, kind, topic, receive
        self._is_idle = is_idle
        self.since = 0.0
        self._memory: Memory | None = None
        self.span: tuple[int, int] | None = None
        self._subscription: Subscription | None = None
        self._receiver: _Receiver | None = None
        self._spans: dict[object, tuple[int, int]] = {}  # by publisher

    def open(self, allocate: Callable[[int], Pixels] | None = None) -> None:
        """Subscribe: best effort, which matches every publisher.

        Args:
            allocate: returns so many bytes of memory for a message, or raises RuntimeError; None leaves that
                to rcl.
        """
        if self._subscription is None:
            warn = self._node.get_logger().warning
            self._memory = None if allocate is None else Memory(allocate, warn)
            self._spans.clear()
            self.span = None
            self._subscribe(ReliabilityPolicy.BEST_EFFORT)

    def close(self) -> None:
        """Unsubscribe; a message that is being received is finished first."""
        if self._receiver is not None:
            self._receiver.stop()
            self._receiver = None
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def follow(self) -> None:
        """Request reliable transport where every publisher offers it: only then is no large image lost."""
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
        self.since = time.monotonic()
        self._subscription = self._node.create_subscription(
            self._type,
            self.topic,
            self._hand_over,
            quality(reliability),
            raw=True,
            callback_group=_NotForTheExecutor(),
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )
        self._receiver = _Receiver(
            self._node, self._subscription, self._memory, self._hand_over, self._is_idle
        )

    def _hand_over(self, message: Message, rested: bool) -> None:
        """Call `receive`; a gap in the sequence numbers is messages lost, or passed over in a rest."""
        missing, sequence = 0, message.sequence
        if sequence is not None:
            first, last = self._spans.get(message.publisher, (sequence, sequence - 1))
            missing = max(0, sequence - last - 1)
            if rested:
                self._spans.clear()  # those of other publishers may have been passed over, too
            self._spans[message.publisher] = self.span = (first, sequence)
        self._receive(message.cdr, 0 if rested else missing, missing if rested else 0)


class _Receiver:
    """A thread that takes a subscription's messages until it is stopped."""

    def __init__(
        self,
        node: Node,
        subscription: Subscription,
        memory: Memory | None,
        hand_over: Callable[[Message, bool], None],
        is_idle: Callable[[], bool],
    ) -> None:
        self._node, self._subscription, self._hand_over = node, subscription, hand_over
        self._is_idle = is_idle
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
            rested = False
            while not self._stopping:
                wait_set.clear_entities()
                wait_set.add_subscription(subscription)
                wait_set.add_guard_condition(stop)
                wait_set.wait(-1)  # for ever
                if not self._stopping and wait_set.is_ready('subscription', 0):
                    self._take(buffers, rested)
                    rested = self._rest(wait_set)

    def _take(self, buffers: MessageBuffers, rested: bool) -> None:
        try:
            message = buffers.take()
        except (MemoryError, RCLError) as error:  # the next message may be taken
            self._node.get_logger().error(f'a message was lost: {error}', throttle_duration_sec=1.0)
            return
        if message is not None:
            self._hand_over(message, rested)

    def _rest(self, wait_set: WaitSet) -> bool:
        """Leave messages to the middleware while they are not needed; return whether some were."""
        end = time.monotonic() + REST_S
        rested = False
        while not self._stopping and time.monotonic() < end and self._is_idle():
            rested = True
            wait_set.clear_entities()
            wait_set.add_guard_condition(self._stop.handle)
            wait_set.wait(round(LOOK_S * 1e9))
        return rested
