# SPDX-License-Identifier: Apache-2.0
"""How the node ends, by signals and kills, each time in a process of its own, over real DDS."""

import fcntl
import os
import signal
import time
from array import array
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from sensor_msgs.msg import Image

from lw_refinenet_ros.node.process.fast_dds import YOUNG_S
from test.support.long_run import LongRun
from test.support.node_process import pixels_of

pytestmark = pytest.mark.ros

SHARED_MEMORY = Path('/dev/shm')
ALONE = {'threads': 1}


def dead_locks():
    """The locks of segments that no process holds."""
    for path in SHARED_MEMORY.glob('fast*_*_el'):
        # Another node that starts may remove one meanwhile.
        with suppress(FileNotFoundError), path.open('rb') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if 'port' not in path.name:
                yield path


def test_a_killed_node_leaves_nothing_that_its_next_start_does_not_remove(tiny_weights, street):
    before = set(dead_locks())
    first = LongRun(weights=str(tiny_weights), **ALONE)
    try:
        first.listen('label')
        first.wait_active()
        first.answer('label', street, 1)
        first.process.kill()
        first.process.wait()
    finally:
        first.close()
    left = set(dead_locks()) - before
    assert left, 'a killed process leaves its segment: else there is nothing to remove'
    old = time.time() - 2 * YOUNG_S
    for lock in left:
        os.utime(lock, (old, old))
    second = LongRun(weights=str(tiny_weights), **ALONE)
    try:
        second.listen('label')
        second.wait_active()
        assert pixels_of(second.answer('label', street, 2)).shape == street.shape[:2]
        assert not left & set(dead_locks())
        assert not [lock for lock in left if lock.with_name(lock.name.removesuffix('_el')).exists()]
    finally:
        second.close()


def test_an_interrupt_that_was_ignored_at_the_start_stays_ignored(tiny_weights):
    """As of a node in the background of a script whose terminal gets Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process inherits it
    try:
        node = LongRun(weights=str(tiny_weights), **ALONE)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        for _ in range(20):  # while it imports
            node.process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        node.wait_active()
        status, _, output = node.stop(signal.SIGTERM)
        assert status == 0, output
    finally:
        node.close()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_under_load_ends_it_without_a_complaint(tiny_weights, number):
    node = LongRun(weights=str(tiny_weights), **ALONE)
    try:
        node.listen('label')
        node.wait_active()
        message = Image(height=480, width=640, encoding='rgb8', step=1920)
        message.data = array('B', np.zeros(480 * 1920, np.uint8).tobytes())
        while not node.received['label']:
            node.images.publish(message)
            node.executor.spin_once(timeout_sec=0.01)
        status, _, output = node.stop(number)
        assert status == 0, output
        assert 'Traceback' not in output
    finally:
        node.close()
