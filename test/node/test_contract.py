# SPDX-License-Identifier: Apache-2.0
"""What DESIGN.md promises of the node beside its outputs: quality of service, warm-up, failures, its log."""

import itertools
import os
import re
import signal
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from test.support.node_process import NodeProcess, pixels_of, stamp_of

pytestmark = pytest.mark.ros

# Writes down every job that is compiled or run; fails at the next frames while the folder has a file `fail`.
WATCHED = """
import os, pathlib
from lw_refinenet_ros.inference import segmenter
from lw_refinenet_ros.node import segmentation_node
folder, make_engine = pathlib.Path(os.environ['WATCH']), segmenter.make_engine
def watched(*args, **options):
    engine = make_engine(*args, **options)
    prepare, run = engine.prepare, engine.run
    def write_down(job):
        with (folder / 'jobs').open('a') as file:
            print(job, file=file)
        prepare(job)
    def fail_or_run(job, *arrays):
        if (folder / 'fail').exists():
            raise RuntimeError('CUDA error: out of memory')
        run(job, *arrays)
    engine.prepare, engine.run = write_down, fail_or_run
    return engine
segmenter.make_engine = watched
segmentation_node.main()
"""
stamps = itertools.count(12_000_000_000)


@pytest.fixture(scope='module')
def watch(tmp_path_factory):
    folder = tmp_path_factory.mktemp('watch')
    os.environ['WATCH'] = str(folder)
    return folder


@pytest.fixture(scope='module')
def node(enlarging_weights, watch):
    running = NodeProcess(
        program=WATCHED,
        weights=str(enlarging_weights),
        network_height=96,
        network_width=128,
        **{'qos_overrides./lw_refinenet/label.publisher.reliability': 'best_effort'},
    )
    running.wait_active()
    yield running
    running.close()


def jobs(watch):
    return set((watch / 'jobs').read_text().splitlines())


def test_with_a_size_set_beforehand_no_frame_of_any_order_waits_for_compiling(node, watch, street):
    before = jobs(watch)
    assert len(before) == 4
    node.listen('color', 'confidence')
    node.answer('color', street, next(stamps))
    node.answer('confidence', street[..., ::-1], next(stamps), encoding='bgr8')
    node.spin_until(lambda: node.status[2]['segmented'] >= 2, 'segmented frames')
    assert jobs(watch) == before
    assert node.status[2]['warming up'] == 0


def test_outputs_are_reliable_and_volatile_unless_a_parameter_overrides_it(node):
    def offered(topic):
        (info,) = node.client.get_publishers_info_by_topic(f'/lw_refinenet/{topic}')
        return info.qos_profile.reliability, info.qos_profile.durability

    for topic in ('color', 'overlay', 'confidence', 'mask', 'overlay/compressed', 'points'):
        assert offered(topic) == (ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
    assert offered('label') == (ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
    name = 'qos_overrides./lw_refinenet/overlay.publisher.reliability'
    assert node.get(name)[0].string_value == 'reliable'
    assert not node.set(**{name: 'best_effort'})[0].successful, 'is taken at the start or never'


def test_height_or_width_alone_keeps_the_shape_of_the_image(node, watch, street):
    assert node.set(network_height=0)[0].successful
    assert node.set(network_width=64)[0].successful
    node.answer('color', street, next(stamps))
    assert any('image_size=(96, 128), network_size=(48, 64)' in job for job in jobs(watch))
    assert all(result.successful for result in node.set(network_height=96, network_width=128))


def test_a_failing_device_costs_frames_and_is_an_error_until_it_works_again(node, watch, street):
    (watch / 'fail').touch()
    before = node.status[2]['failed']

    def failing():
        node.send(street, stamp_ns=next(stamps))
        node.executor.spin_once(timeout_sec=0.1)
        return node.status[2]['failed'] >= before + 3 and 'out of memory' in node.status[0]

    node.spin_until(failing, 'error')
    assert node.level == b'\x02'
    (watch / 'fail').unlink()
    node.answer('color', street, next(stamps))
    node.spin_until(lambda: 'out of memory' not in node.status[0], 'end of the error')
    assert node.process.poll() is None


def test_publishers_of_mixed_reliability_are_all_served_best_effort(node, street):
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    other = node.client.create_publisher(Image, 'image', qos)

    def reliabilities():
        infos = node.client.get_subscriptions_info_by_topic('/image')
        return {info.qos_profile.reliability for info in infos}

    node.spin_until(lambda: reliabilities() == {ReliabilityPolicy.BEST_EFFORT}, 'best-effort subscription')
    for publisher in (other, node.images):
        node.answer('color', street, next(stamps), publisher=publisher)
    node.client.destroy_publisher(other)
    node.spin_until(lambda: reliabilities() == {ReliabilityPolicy.RELIABLE}, 'reliable subscription')


def test_the_log_tells_changes_of_the_images_and_complains_at_most_once_a_second(node, street):
    node.answer('color', np.ascontiguousarray(street[:64, :96]), next(stamps))
    node.answer('color', street[..., 1].astype('<u2') << 4, next(stamps), encoding='mono16')
    before = node.status[2].get('bad: step', 0)
    started = time.monotonic()

    def dropped():
        for _ in range(5):
            node.send(street, step=100)
            node.executor.spin_once(timeout_sec=0.01)
        return node.status[2].get('bad: step', 0) >= before + 30

    node.spin_until(dropped, 'dropped frames')
    seconds = time.monotonic() - started
    status, _, output = node.stop(signal.SIGINT)
    assert status == 0
    assert 'images are 128x96 rgb8, segmented at 128x96' in output
    assert 'images are 128x96 bgr8, segmented at 128x96' in output
    assert 'images are 96x64 rgb8, segmented at 128x96' in output
    assert 'images are 128x96 mono16, segmented at 128x96' in output
    assert 'of 255: of 16 bits the upper 8 are read' in output
    complaints = re.findall(r'frame dropped: step 100 is smaller', output)
    assert 1 <= len(complaints) <= seconds + 2
    assert {stamp_of(m) for m in node.received['color']}, 'it served'
    assert pixels_of(node.received['color'][0]).shape == (96, 128, 3)
