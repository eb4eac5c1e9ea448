# SPDX-License-Identifier: Apache-2.0
"""The recorder of a live run, as a process beside a node of which only the diagnostics are there."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSProfile

from lw_refinenet_ros.cli.live import ros_environment
from lw_refinenet_ros.node.diagnostics import build_status
from lw_refinenet_ros.node.replay.recorder import QUIET_S
from lw_refinenet_ros.node.statistics import Statistics
from test.support.recordings import pictures, record, stamps

pytestmark = pytest.mark.ros

PATIENCE_S = 60.0
os.environ.update(ros_environment())


@pytest.fixture
def beside(tmp_path, street):
    """A recorder, and a publisher of the diagnostics that it waits for."""
    bag = record(tmp_path / 'bag', {'/image': ('rgb8', list(zip(stamps(2), pictures(street, 2))))})
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('lw_refinenet', context=context, use_global_arguments=False)
    publisher = node.create_publisher(DiagnosticArray, '/diagnostics', QoSProfile(depth=20))
    output = tmp_path / 'said'
    with output.open('w') as said:
        process = subprocess.Popen(
            [
                *(sys.executable, '-m', 'lw_refinenet_ros.node.replay.recorder'),
                *('--bag', tmp_path / 'labels.mcap', '--log', tmp_path / 'log.json'),
                *('--first-frame-of', bag, '--first-frame-to', '/image'),
            ],
            stdin=subprocess.PIPE,
            stdout=said,
        )

    def say(segmented):
        statistics = Statistics()
        statistics.count('received', 20)
        statistics.count('segmented', segmented)
        name, values = '/lw_refinenet: segmentation', {'state': 'active'}
        status = build_status(name, DiagnosticStatus.OK, 'ready', statistics, values)
        publisher.publish(DiagnosticArray(status=[status]))

    def until(condition, what, say_meanwhile=None):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f'no {what}'
            if say_meanwhile is not None:
                say(say_meanwhile)
            time.sleep(0.1)

    yield SimpleNamespace(
        process=process,
        say=say,
        until=until,
        is_ready=lambda: 'ready' in output.read_text(),
        is_heard=lambda: publisher.get_subscription_count() > 0,
        is_warming_up=lambda: node.count_publishers('/image') > 0,
        log=lambda: json.loads((tmp_path / 'log.json').read_text()),
    )
    process.kill()
    process.communicate()
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_frames_of_the_warm_up_that_are_counted_late_are_none_of_the_recording(beside):
    beside.until(beside.is_heard, 'subscription to the diagnostics')
    beside.until(beside.is_warming_up, 'image to warm up with', say_meanwhile=0)
    for segmented in range(1, 9):
        beside.say(segmented)
    beside.until(beside.is_ready, 'recorder that is ready', say_meanwhile=8)
    beside.process.stdin.close()
    beside.until(lambda: beside.process.poll() is not None, 'end', say_meanwhile=12)
    assert beside.process.returncode == 0
    assert beside.log()['fates']['segmented'] == 12 - 8


def test_the_counts_are_those_that_the_node_tells_after_the_end(beside):
    beside.until(beside.is_heard, 'subscription to the diagnostics')
    beside.until(beside.is_ready, 'recorder that is ready', say_meanwhile=3)
    beside.process.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):  # for nobody tells anything
        beside.process.wait(2 * QUIET_S)
    beside.until(lambda: beside.process.poll() is not None, 'end', say_meanwhile=7)
    assert beside.log()['fates']['segmented'] == 7 - 3
