# SPDX-License-Identifier: Apache-2.0
"""A subscription takes messages in a thread of its own, over real DDS."""

import queue
import threading
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

import rclpy
from node_process import PATIENCE_S
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import ReliabilityPolicy
from std_msgs.msg import String

from lw_refinenet_ros.node.subscription import FollowingSubscription, quality


def receivers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == 'receive']


@pytest.fixture
def ros():
    """A node that subscribes, a reliable publisher, and what came: its thread, bytes, number of lost."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('subscribing', context=context, use_global_arguments=False)
    publisher = node.create_publisher(String, 'words', quality(ReliabilityPolicy.RELIABLE))
    came: queue.Queue = queue.Queue()

    def receive(cdr: bytes, lost: int) -> None:
        came.put((threading.current_thread(), cdr, lost))

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


def test_an_executor_leaves_the_messages_alone_but_not_the_events(ros):
    ros.subscription.open()
    executor = SingleThreadedExecutor(context=ros.node.context)
    executor.add_node(ros.node)
    (subscription,) = ros.node.subscriptions
    assert not executor.can_execute(subscription)
    assert all(map(executor.can_execute, subscription.event_handlers))
    say(ros, 'one')
    ros.publisher.publish(String(data='two'))
    while ros.came.empty():
        executor.spin_once(timeout_sec=0.05)
    assert ros.came.get()[0] in receivers()
    executor.shutdown()


def test_following_a_reliable_publisher_replaces_the_subscription_and_its_thread(ros):
    ros.subscription.open()
    first = say(ros, 'one')[0]
    ros.subscription.follow()
    assert not first.is_alive()
    (info,) = ros.node.get_subscriptions_info_by_topic(ros.publisher.topic_name)
    assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert say(ros, 'two')[0] is not first


def test_closing_ends_the_thread_even_after_the_context_is_shut_down(ros):
    ros.subscription.open()
    thread = say(ros, 'one')[0]
    rclpy.try_shutdown(context=ros.node.context)
    ros.subscription.close()
    assert not thread.is_alive()
    assert not receivers()
