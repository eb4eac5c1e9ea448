# SPDX-License-Identifier: Apache-2.0
"""Several cameras on one node, over real DDS."""

import itertools
import threading

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from node_process import NodeProcess, pixels_of
from sensor_msgs.msg import Image

from lw_refinenet_ros.node.parameters import PARAMETERS, refusal
from lw_refinenet_ros.node.worker import NewestWorker

stamps = itertools.count(12_000_000_000)


@pytest.fixture(scope='module')
def node(tiny_weights):
    """A node with a front and a rear camera; `node.cameras` are their publishers."""
    running = NodeProcess(weights=str(tiny_weights), cameras=['front', 'rear'])
    running.listen('front/label', 'rear/label', 'rear/overlay/compressed', 'label_names')
    running.cameras = {}
    for name in ('front', 'rear'):
        running.images = running.client.create_publisher(Image, f'{name}/image', running.qos)
        running.cameras[name] = running.images
        running.wait_active()
    yield running
    running.close()


def test_each_camera_has_its_own_topics_sizes_and_formats(node, segmenter, street):
    small = np.ascontiguousarray(street[:64, :96])
    front, rear = next(stamps), next(stamps)
    answer = node.answer(
        'rear/label', small[..., ::-1].copy(), rear, encoding='bgr8', publisher=node.cameras['rear']
    )
    np.testing.assert_array_equal(pixels_of(answer), segmenter.segment(small).label)
    answer = node.answer('front/label', street, front, publisher=node.cameras['front'])
    np.testing.assert_array_equal(pixels_of(answer), segmenter.segment(street).label)
    assert {m.header.stamp.nanosec for m in node.received['rear/label']} == {rear % 10**9}


def test_a_stalled_camera_delays_no_other_and_is_warned_of_alone(node, street):
    def rear_is_silent():
        node.send(street, stamp_ns=next(stamps), publisher=node.cameras['front'])
        status = node.camera_status.get('rear')
        return status and status[0].startswith('no frame for 2 s though /rear/image')

    node.spin_until(rear_is_silent, 'warning of the silent camera')
    assert node.camera_status['front'][0] == 'ready'
    assert node.camera_status['front'][1]['topic'] == '/front/image'
    node.answer('front/label', street, next(stamps), publisher=node.cameras['front'])


def test_a_camera_that_floods_the_node_leaves_the_other_its_turn(node, street):
    before = node.camera_status['front'][2]['superseded']
    for _ in range(3):
        stamp_ns = next(stamps)
        done = len(node.received['rear/label'])
        node.send(street, stamp_ns=stamp_ns, publisher=node.cameras['rear'])
        between = 0
        while len(node.received['rear/label']) == done:
            node.send(street, stamp_ns=next(stamps), publisher=node.cameras['front'])
            node.executor.spin_once(timeout_sec=0.002)
            between += 1
            assert between < 1000, node.camera_status

    def superseded():
        for _ in range(20):
            node.send(street, stamp_ns=next(stamps), publisher=node.cameras['front'])
        return node.camera_status['front'][2]['superseded'] > before

    node.spin_until(superseded, 'superseded frames of the front camera')


def test_the_cameras_share_their_label_names(node):
    assert len(node.spin_until(lambda: node.received['label_names'], 'label names')) == 1


def test_the_newest_item_of_each_kind_wins_and_kinds_take_turns():
    served, at_work, go_on, all_done = [], threading.Event(), threading.Event(), threading.Event()

    def work(key, item):
        served.append((key, item))
        at_work.set()
        go_on.wait()
        if len(served) == 4:
            all_done.set()

    worker = NewestWorker(work)
    assert worker.offer('front', 1) is None
    at_work.wait()
    assert worker.offer('rear', 2) is None
    assert worker.offer('front', 3) is None
    assert worker.offer('rear', 4) == 2
    assert worker.offer('left', 5) is None
    assert worker.offer('front', 6) == 3
    go_on.set()
    assert all_done.wait(10)
    worker.stop()
    assert served == [('front', 1), ('rear', 4), ('front', 6), ('left', 5)]


@pytest.mark.parametrize(
    ('cameras', 'reason'),
    [(['front', 'front'], 'twice'), (['front', ''], "''"), (['1st'], "'1st'"), (['a b'], "'a b'")],
)
def test_names_that_make_no_topics_are_refused(cameras, reason):
    values = {p.name: p.default for p in PARAMETERS}
    assert refusal(values, None) == ''
    assert reason in refusal(values | {'cameras': cameras}, None)
