# SPDX-License-Identifier: Apache-2.0
"""Faults around the running node, over real DDS; `python -m benchmark.faults` repeats them many times."""

import signal

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from rosgraph_msgs.msg import Clock

from test.support.faults.load import (
    answer_closed_loop,
    change_resolution,
    restart_publisher,
    send_damaged,
    subscriber,
)
from test.support.faults.parameters import set_odd_parameters
from test.support.long_run import LongRun
from test.support.node_process import stamp_of

pytestmark = pytest.mark.ros

ALONE = {'threads': 1}


@pytest.fixture(scope='module')
def node(tiny_weights):
    running = LongRun(weights=str(tiny_weights), use_sim_time=True, **ALONE)
    running.listen('label')
    running.wait_active()
    yield running
    running.close()


def test_bad_messages_are_counted_by_reason_and_the_next_good_one_is_served(node):
    fates = send_damaged(node, 100, seed=0)
    assert any(fate.startswith('bad: ') for fate in fates)


def test_odd_parameters_are_taken_or_refused_with_a_reason_and_frames_go_on(node):
    fates = set_odd_parameters(node, 60, seed=0)
    assert fates['refused'] > fates['taken'] > 0


def test_a_camera_that_is_killed_and_started_again_is_served(node):
    restart_publisher(node, 2)


def test_frames_are_served_after_the_clock_jumped_back(node, street):
    clocks = node.client.create_publisher(Clock, '/clock', 1)
    node.spin_until(lambda: clocks.get_subscription_count(), 'subscriber of the clock')
    for turn in range(2):
        for second in (100, 101, 102):
            stamp_ns = second * 10**9 + turn
            message = Clock()
            message.clock.sec = second
            clocks.publish(message)
            node.received['label'].clear()
            assert stamp_of(node.answer('label', street, stamp_ns)) == stamp_ns
    node.client.destroy_publisher(clocks)


def test_every_frame_may_have_another_size_even_of_one_pixel(node):
    change_resolution(node, 8, seed=0)


def test_frame_after_frame_is_answered_by_the_same_threads(node):
    samples = answer_closed_loop(node, 100)
    settled = samples[len(samples) // 2 :]
    assert max(threads for _, threads in settled) <= samples[0][1]


def test_a_listener_that_hangs_holds_nobody_up(node, street):
    with subscriber('hung', 0) as hung:
        node.spin_until(lambda: node.client.count_subscribers('/lw_refinenet/label') == 2, 'second listener')
        hung.send_signal(signal.SIGSTOP)
        for index in range(30):
            node.answer('label', street, 10**13 + index)
