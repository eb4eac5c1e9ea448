# SPDX-License-Identifier: Apache-2.0
"""A subscription takes messages in a thread of its own, over real DDS."""

import queue
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

import rclpy
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from std_msgs.msg import String

from lw_refinenet_ros.node.message_buffers import Message
from lw_refinenet_ros.node.subscription import FollowingSubscription, quality
from test.support.fast_dds import fast_dds_only
from test.support.node_process import PATIENCE_S

pytestmark = pytest.mark.ros


def receivers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == 'receive']


@pytest.fixture
def ros():
    """A node that subscribes, a reliable publisher, and what came: its thread, bytes and lost."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('subscribing', context=context, use_global_arguments=False)
    publisher = node.create_publisher(String, 'words', quality(ReliabilityPolicy.RELIABLE))
    came: queue.Queue = queue.Queue()

    def receive(cdr: bytes | memoryview, lost: int) -> None:
        came.put((threading.current_thread(), bytes(cdr), lost))

    subscription = FollowingSubscription(node, String, publisher.topic_name, receive)
    yield SimpleNamespace(node=node, publisher=publisher, subscription=subscription, came=came)
    subscription.close()
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def say(ros, word: str) -> tuple[threading.Thread, bytes, int]:
    """Publish until the word came: the first may go out before both sides are matched."""
    for _ in range(int(PATIENCE_S)):
        ros.publisher.publish(String(data=word))
        try:
            while word.encode() not in (came := ros.came.get(timeout=1))[1]:
                pass
        except queue.Empty:
            continue
        return came
    pytest.fail(f'{word} never came')


def test_messages_come_without_an_executor_and_in_their_own_thread(ros):
    ros.subscription.open()
    thread, cdr, lost = say(ros, 'one')
    assert thread in receivers()
    assert (cdr[:4], lost) == (b'\0\1\0\0', 0)
    assert say(ros, 'two')[0] is thread


def test_messages_come_into_memory_that_the_subscription_was_given_also_after_following(ros):
    sizes: list[int] = []
    ros.subscription.open(lambda size: sizes.append(size) or np.empty(size, np.uint8))
    for word in ('one', 'two' * 100):
        sizes.clear()
        assert word.encode() in say(ros, word)[1]
        assert max(sizes) >= len(word)
        ros.subscription.follow()


class CountingExecutor(SingleThreadedExecutor):
    """Counts how often it waits: each time it asks whether subscriptions may be waited for."""

    waits = 0

    def can_execute(self, entity):
        if isinstance(entity, Subscription):
            self.waits += 1
        return super().can_execute(entity)


def test_an_executor_neither_takes_a_message_nor_wakes_for_one_that_waits_to_be_taken(ros):
    go_on = threading.Event()
    ros.subscription._receive = lambda *_: (ros.came.put(None), go_on.wait(PATIENCE_S))
    ros.subscription.open()
    while ros.came.empty():
        ros.publisher.publish(String(data='one'))
        time.sleep(0.1)
    ros.publisher.publish(String(data='waits'))
    executor = CountingExecutor(context=ros.node.context)
    executor.add_node(ros.node)
    for _ in range(5):  # each waits its 0.1 s in one go, unless something wakes it
        executor.spin_once(timeout_sec=0.1)
    go_on.set()
    executor.shutdown()
    assert executor.waits < 50


def open_with_best_effort(ros) -> threading.Thread:
    """Open beside a best-effort publisher that goes again; return the thread of the first message."""
    other = ros.node.create_publisher(String, 'words', quality(ReliabilityPolicy.BEST_EFFORT))
    ros.subscription.open()
    ros.node.destroy_publisher(other)
    return say(ros, 'one')[0]


def test_it_opens_as_reliable_as_the_publisher_that_is_there(ros):
    ros.subscription.open()
    (info,) = ros.node.get_subscriptions_info_by_topic(ros.publisher.topic_name)
    assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE


def test_before_anybody_publishes_it_opens_with_best_effort_which_hears_every_publisher(ros):
    subscription = FollowingSubscription(
        ros.node, String, '/later', lambda cdr, _: ros.came.put((0, bytes(cdr), 0))
    )
    subscription.open()
    ros.publisher = ros.node.create_publisher(String, '/later', quality(ReliabilityPolicy.BEST_EFFORT))
    try:
        say(ros, 'heard')
    finally:
        subscription.close()


@fast_dds_only
def test_what_was_latched_before_comes_only_where_it_is_wanted_and_every_publisher_keeps_it(ros):
    ros.node.destroy_publisher(ros.publisher)
    latched = quality(ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)
    ros.publisher = ros.node.create_publisher(String, 'words', latched)
    ros.publisher.publish(String(data='before'))
    topic, came = ros.publisher.topic_name, queue.Queue()

    def opened(latched):
        subscription = FollowingSubscription(
            ros.node, String, topic, lambda cdr, _: came.put(bytes(cdr)), latched
        )
        subscription.open()
        return subscription

    wanted = opened(True)
    assert b'before' in came.get(timeout=PATIENCE_S)
    wanted.close()
    ros.subscription.open()
    assert ros.subscription._subscription.qos_profile.durability == DurabilityPolicy.VOLATILE
    say(ros, 'after')
    assert ros.subscription.span[0] > 1, 'unwanted, the first did not come'
    volatile = ros.node.create_publisher(String, 'words', quality(ReliabilityPolicy.RELIABLE))
    mixed = opened(True)
    durability = mixed._subscription.qos_profile.durability
    ros.node.destroy_publisher(volatile)
    mixed.follow()
    followed = mixed._subscription.qos_profile.durability
    mixed.close()
    assert (durability, followed) == (DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL)


def test_following_a_reliable_publisher_replaces_the_subscription_and_its_thread(ros):
    first = open_with_best_effort(ros)
    ros.subscription.follow()
    assert not first.is_alive()
    (info,) = ros.node.get_subscriptions_info_by_topic(ros.publisher.topic_name)
    assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert say(ros, 'two')[0] is not first


@fast_dds_only
def test_messages_missed_while_the_subscription_is_replaced_are_lost_and_those_before_it_opens_are_not(
    ros, monkeypatch
):
    ros.publisher.publish(String(data='before'))
    open_with_best_effort(ros)
    first, last = ros.subscription.span
    subscribe = ros.subscription._subscribe

    def miss_one(offered: QoSProfile) -> None:
        ros.publisher.publish(String(data='missed'))
        subscribe(offered)

    with monkeypatch.context() as patch:
        patch.setattr(ros.subscription, '_subscribe', miss_one)
        ros.subscription.follow()
    lost = say(ros, 'two')[2]
    assert lost >= 1
    assert ros.subscription.span == (first, last + lost + 1)
    ros.subscription.close()
    ros.publisher.publish(String(data='after'))
    ros.subscription.open()
    assert say(ros, 'three')[2] == 0


def test_messages_of_two_publishers_are_numbered_each_for_itself(ros):
    second = ros.node.create_publisher(String, 'words', quality(ReliabilityPolicy.RELIABLE))
    ros.subscription.open()
    assert say(ros, 'one')[2] == 0
    ros.publisher, first = second, ros.publisher
    for _ in range(5):
        say(ros, 'other')
    ros.publisher = first
    for word in ('two', 'three'):
        assert say(ros, word)[2] == 0


def test_a_gap_in_the_numbers_is_as_many_messages_lost_and_numbers_that_run_back_are_none():
    lost: list[int] = []
    subscription = FollowingSubscription(None, String, 'words', lambda _, count: lost.append(count))
    for sequence in (5, 6, 9, 9, 4, 5, None):
        subscription._hand_over(Message(b'', 'publisher', sequence))
    assert lost == [0, 0, 2, 0, 0, 0, 0]


def test_closing_ends_the_thread_even_after_the_context_is_shut_down(ros):
    ros.subscription.open()
    thread = say(ros, 'one')[0]
    rclpy.try_shutdown(context=ros.node.context)
    ros.subscription.close()
    assert not thread.is_alive()
    assert not receivers()


@fast_dds_only
def test_of_messages_that_come_while_one_is_received_only_the_newest_is_kept(ros):
    sender = ros.node.create_publisher(String, 'busy', QoSProfile(depth=10))  # which forgets none of them
    going_on, came = threading.Event(), queue.Queue()

    def receive(cdr: bytes | memoryview, lost: int) -> None:
        came.put((bytes(cdr), lost))
        assert going_on.wait(PATIENCE_S)

    busy = FollowingSubscription(ros.node, String, sender.topic_name, receive)
    busy.open()
    end = time.monotonic() + PATIENCE_S
    while not sender.get_subscription_count():
        assert time.monotonic() < end, 'no subscription'
        time.sleep(0.01)
    for word in ('one', 'two', 'three', 'four'):
        sender.publish(String(data=word))
        assert sender.wait_for_all_acked(Duration(seconds=PATIENCE_S))
        if word == 'one':
            assert b'one' in came.get(timeout=PATIENCE_S)[0]
    going_on.set()
    content, lost = came.get(timeout=PATIENCE_S)
    busy.close()
    assert b'four' in content
    assert lost == 2
    assert came.empty()
