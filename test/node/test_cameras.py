# SPDX-License-Identifier: Apache-2.0
"""Several cameras on one node, over real DDS."""

import itertools
import os
import threading
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from sensor_msgs.msg import Image

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.node import camera as camera_module
from lw_refinenet_ros.node.camera import Camera
from lw_refinenet_ros.node.inference_thread import InferenceThread
from lw_refinenet_ros.node.newest_worker import NewestWorker
from lw_refinenet_ros.node.parameters import PARAMETERS, refusal
from lw_refinenet_ros.node.statistics import STAGES, Statistics
from test.support.node_process import PATIENCE_S, NodeProcess, pixels_of, stamp_of

pytestmark = pytest.mark.ros

stamps = itertools.count(12_000_000_000)


# While the gate is shut, the inference thread waits at its next frame.
GATED = """
import os, pathlib, time
from lw_refinenet_ros.node import inference_thread, segmentation_node
gate, view = pathlib.Path(os.environ['VIEW_GATE']), inference_thread.InferenceThread._view
def gated(self, *args):
    while gate.read_text() == 'shut':
        time.sleep(0.01)
    return view(self, *args)
inference_thread.InferenceThread._view = gated
segmentation_node.main()
"""


@pytest.fixture(scope='module')
def segmenter(enlarging_weights):
    return Segmenter.load(str(enlarging_weights))


@pytest.fixture(scope='module')
def node(enlarging_weights, gate):
    """A node with a front and a rear camera; `node.cameras` are their publishers."""
    os.environ['VIEW_GATE'] = str(gate)
    running = NodeProcess(program=GATED, weights=str(enlarging_weights), cameras=['front', 'rear'])
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


def batches(node):
    return {name: int(node.camera_status[name][1]['batch']) for name in ('front', 'rear')}


def counted(node, name, fate):
    return node.camera_status[name][2].get(fate, 0)


def send_together(node, gate, front, rear):
    """Make a frame of each camera wait while the thread is busy with another; return their stamps."""
    received = {name: counted(node, name, 'received') for name in ('front', 'rear')}
    gate.write_text('shut')
    node.send(front, stamp_ns=next(stamps), publisher=node.cameras['front'])
    node.spin_until(lambda: counted(node, 'front', 'received') > received['front'], 'frame at the gate')
    sent = next(stamps), next(stamps)
    node.send(front, stamp_ns=sent[0], publisher=node.cameras['front'])
    node.send(rear, stamp_ns=sent[1], publisher=node.cameras['rear'])
    node.spin_until(lambda: counted(node, 'rear', 'received') > received['rear'], 'frame that waits')
    node.spin_until(lambda: counted(node, 'front', 'received') > received['front'] + 1, 'frame that waits')
    gate.write_text('open')
    return sent


def result(node, topic, stamp_ns):
    def found():
        return next((m for m in node.received[topic] if stamp_of(m) == stamp_ns), None)

    return node.spin_until(found, f'{topic} of stamp {stamp_ns}')


def test_frames_that_wait_together_are_one_batch_with_each_ones_own_result(node, segmenter, street, gate):
    flipped = np.ascontiguousarray(street[::-1])
    for name in ('front', 'rear'):  # both known, so that no compiling comes between
        node.answer(f'{name}/label', street, next(stamps), publisher=node.cameras[name])
    front, rear = send_together(node, gate, street, flipped)
    label = pixels_of(result(node, 'rear/label', rear))
    np.testing.assert_array_equal(label, segmenter.segment(flipped).label)
    label = pixels_of(result(node, 'front/label', front))
    np.testing.assert_array_equal(label, segmenter.segment(street).label)
    node.spin_until(lambda: batches(node) == {'front': 2, 'rear': 2}, 'batch of two on /diagnostics')


def test_frames_of_different_sizes_wait_together_and_are_segmented_each_for_itself(
    node, segmenter, street, gate
):
    small = np.ascontiguousarray(street[:64, :96])
    own_size = segmenter.segment(street, network_size=street.shape[:2]).label
    assert (segmenter.segment(street).label != own_size).any(), 'enlarging shows'
    front, rear = send_together(node, gate, street, small)
    for name, stamp_ns, image in (('front', front, street), ('rear', rear, small)):
        label = pixels_of(result(node, f'{name}/label', stamp_ns))
        np.testing.assert_array_equal(label, segmenter.segment(image).label)
    node.spin_until(lambda: batches(node) == {'front': 1, 'rear': 1}, 'no batch on /diagnostics')


def test_a_bad_frame_in_the_batch_costs_only_itself(node, street, gate):
    front, _ = send_together(node, gate, street, np.zeros((0, 0, 3), np.uint8))
    result(node, 'front/label', front)
    node.spin_until(lambda: counted(node, 'rear', 'bad: size') > 0, 'count of the bad frame')


def test_the_cameras_share_their_label_names(node):
    assert len(node.spin_until(lambda: node.received['label_names'], 'label names')) == 1


@pytest.mark.parametrize('camera_hz', [5, 12, 30])
def test_max_rate_lets_as_many_frames_through_as_it_says_whatever_the_rate_of_the_camera(
    camera_hz, monkeypatch
):
    clock, came = SimpleNamespace(now_s=0.0), []
    monkeypatch.setattr(camera_module, 'time', SimpleNamespace(monotonic=lambda: clock.now_s))
    camera = SimpleNamespace(
        statistics=Statistics(),
        _settings=lambda: SimpleNamespace(max_rate=10.0),
        _next_due=0.0,
        _enqueue=lambda _, arrival: came.append(arrival.received) or '',
    )
    for index in range(60 * camera_hz):
        clock.now_s = 1000 + index / camera_hz
        Camera._receive(camera, b'', 0)
    assert len(came) == pytest.approx(60 * min(camera_hz, 10), abs=2)
    fates = camera.statistics.fates()
    assert fates['received'] == 60 * camera_hz
    assert fates.get('skipped', 0) == 60 * camera_hz - len(came)


@pytest.mark.parametrize('is_new', [True, False])
def test_the_frame_that_a_graph_is_compiled_for_counts_but_not_in_the_latencies(is_new):
    camera = SimpleNamespace(
        statistics=Statistics(),
        outputs=SimpleNamespace(publish=lambda *_: None),
        now_ns=lambda: 5_000_000,
    )
    view = SimpleNamespace(
        camera=camera,
        is_new=is_new,
        stages_ms={'view': 1.0, 'inference': 2.0},
        wanted=set(),
        frame=SimpleNamespace(stamp_ns=2_000_000),
        arrival=SimpleNamespace(received=time.monotonic() - 1),
    )
    result = SimpleNamespace(confidence=None, label=np.zeros((2, 2), np.uint8))
    settings = SimpleNamespace(ignored=None, min_confidence=0.0)
    InferenceThread._publish(None, view, result, settings, 1)
    counted = camera.statistics
    assert (counted.fates(), counted.age_ms) == ({'segmented': 1}, 3.0)
    assert set(counted.latencies_ms()) == (set() if is_new else set(STAGES))


def test_what_waits_is_served_together_the_newest_of_each_kind_in_the_order_of_their_coming():
    served, at_work, go_on, all_done = [], threading.Event(), threading.Event(), threading.Event()

    def work(items):
        served.append(items)
        at_work.set()
        go_on.wait()
        if len(served) == 2:
            all_done.set()

    worker = NewestWorker(work)
    assert worker.put('front', 1) is None
    at_work.wait()
    assert worker.put('rear', 2) is None
    assert worker.put('front', 3) is None
    assert worker.put('rear', 4) == 2
    assert worker.put('left', 5) is None
    assert worker.put('front', 6) == 3
    go_on.set()
    assert all_done.wait(PATIENCE_S)
    worker.stop()
    assert served == [[('front', 1)], [('rear', 4), ('front', 6), ('left', 5)]]


def test_a_worker_that_waits_holds_on_to_nothing():
    class Item:
        pass

    done = threading.Event()
    worker = NewestWorker(lambda items: done.set())
    item = Item()
    reference = weakref.ref(item)
    worker.put('front', item)
    del item
    assert done.wait(PATIENCE_S)
    end = time.monotonic() + PATIENCE_S
    while reference() is not None:
        assert time.monotonic() < end, 'a message would keep its buffer until the next one'
        time.sleep(0.001)
    worker.stop()


def test_stopping_drops_items_that_wait_and_finishes_every_task():
    served, at_work, go_on = [], threading.Event(), threading.Event()

    def work(items):
        served.append(items)
        at_work.set()
        go_on.wait()

    worker = NewestWorker(work)
    worker.put('front', 1)
    at_work.wait()
    assert worker.is_idle
    worker.put('front', 2)
    for name in ('one', 'two'):
        worker.call(lambda name=name: served.append(name))
    assert not worker.is_idle
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    while not worker._stopping:
        pass
    go_on.set()
    stopping.join()
    assert served == [[('front', 1)], 'one', 'two']


@pytest.mark.parametrize(
    ('cameras', 'reason'),
    [(['front', 'front'], 'twice'), (['front', ''], "''"), (['1st'], "'1st'"), (['a b'], "'a b'")],
)
def test_names_that_make_no_topics_are_refused(cameras, reason):
    values = {p.name: p.default for p in PARAMETERS}
    assert refusal(values, None) == ''
    assert reason in refusal(values | {'cameras': cameras}, None)
