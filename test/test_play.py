# SPDX-License-Identifier: Apache-2.0
"""`lw_refinenet play`: what is published, when, and with which quality of service."""

import contextlib
import itertools
import json
import os
import pty
import subprocess
import sys
import time

import numpy as np
import pytest
from recordings import pictures, record, stamps

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosbags import rosbag2
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from lw_refinenet_ros.cli.live import ros_environment
from lw_refinenet_ros.cli.main import main

FRAMES = 6
PATIENCE_S = 60.0
os.environ.update(ros_environment())


class Listener:
    """Subscribes to image topics and /clock and spins while a player runs."""

    def __init__(self, *topics, reliability=ReliabilityPolicy.BEST_EFFORT):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('listener', context=self.context, use_global_arguments=False)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.images = {topic: [] for topic in topics}
        self.clock = []
        qos = QoSProfile(depth=50, reliability=reliability)
        for topic, kept in self.images.items():
            self.node.create_subscription(Image, topic, kept.append, qos)
        self.node.create_subscription(Clock, '/clock', self.clock.append, 50)

    def spin_until(self, condition, what):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f'no {what}'
            self.executor.spin_once(timeout_sec=0.02)

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def listen():
    with contextlib.ExitStack() as stack:

        def make(*topics, **options):
            listener = Listener(*topics, **options)
            stack.callback(listener.close)
            return listener

        yield make


@pytest.fixture
def start():
    with contextlib.ExitStack() as stack:

        def run(*arguments, **options):
            command = [sys.executable, '-m', 'lw_refinenet_ros.cli.main', 'play', *map(str, arguments)]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield run


def stamp_of(message):
    stamp = message.header.stamp if isinstance(message, Image) else message.clock
    return stamp.sec * 10**9 + stamp.nanosec


@pytest.fixture
def bag(tmp_path, street):
    """Two cameras, the rear one 20 ms later."""
    front = list(zip(stamps(FRAMES), pictures(street, FRAMES)))
    rear = [(stamp_ns + 20_000_000, image[:50]) for stamp_ns, image in front]
    return record(tmp_path / 'bag', {'/front/image': ('rgb8', front), '/rear/image': ('rgb8', rear)})


def test_several_topics_are_played_in_time_from_the_start_asked_for_under_new_names(
    bag, tmp_path, street, listen, start
):
    listener = listen('/cam/front', '/rear/image')
    log = tmp_path / 'sent.jsonl'
    player = start(
        *(bag, '--topics', '/front/image', '/rear/image', '--remap', '/front/image:=/cam/front'),
        *('--start', '0.15', '--rate', '0.5', '--clock', '--wait-for-subscriber', '--log', log),
    )
    listener.spin_until(lambda: player.poll() is not None, 'end')
    assert player.returncode == 0, player.stderr.read()
    sent = [json.loads(line) for line in log.read_text().splitlines()]
    due = sorted(stamp_ns + shift for stamp_ns in stamps(FRAMES)[2:] for shift in (0, 20_000_000))
    assert [record['stamp_ns'] for record in sent] == due
    for first, second in itertools.pairwise(sent):
        apart_ns = second['stamp_ns'] - first['stamp_ns']
        assert second['due_ns'] - first['due_ns'] == pytest.approx(2 * apart_ns, abs=2)
    assert all(record['sent_ns'] >= record['due_ns'] for record in sent)
    listener.spin_until(lambda: len(listener.images['/cam/front']) >= FRAMES - 2, 'front frames')
    listener.spin_until(lambda: len(listener.images['/rear/image']) >= FRAMES - 2, 'rear frames')
    assert [stamp_of(m) for m in listener.images['/cam/front']] == stamps(FRAMES)[2:]
    first = listener.images['/cam/front'][0]
    wanted = pictures(street, FRAMES)[2]
    np.testing.assert_array_equal(np.frombuffer(first.data, np.uint8).reshape(wanted.shape), wanted)
    assert first.header.frame_id == 'front'
    assert [stamp_of(message) for message in listener.clock] == due


def test_space_pauses_and_goes_on_and_no_frame_is_hurried_after_it(bag, tmp_path, listen, start):
    listener = listen('/front/image')
    ours, theirs = pty.openpty()
    log = tmp_path / 'sent.jsonl'
    player = start(
        *(bag, '--topic', '/front/image', '--rate', '0.2', '--wait-for-subscriber', '--log', log),
        stdin=theirs,
        preexec_fn=lambda: (os.setsid(), __import__('fcntl').ioctl(theirs, 0x540E, 0)),  # TIOCSCTTY
    )
    kept = listener.images['/front/image']
    listener.spin_until(lambda: len(kept) == 2, 'second frame')
    os.write(ours, b' ')
    paused = time.monotonic()
    listener.spin_until(lambda: time.monotonic() > paused + 1.5, 'pause')
    assert len(kept) <= 3, 'frames come in the pause'
    os.write(ours, b' ')
    listener.spin_until(lambda: player.poll() is not None, 'end')
    assert player.returncode == 0
    sent = [json.loads(line) for line in log.read_text().splitlines()]
    gaps = np.diff([record['due_ns'] for record in sent]) / 1e9
    assert sorted(np.round(gaps, 2))[:-1] == [0.5] * (FRAMES - 2)
    assert gaps.max() > 1.7
    for file in (ours, theirs):
        os.close(file)


def test_the_recorded_quality_of_service_is_offered_again_and_a_loop_begins_anew(
    tmp_path, street, listen, start
):
    from recordings import IMAGE, image_of

    store = get_typestore(Stores.ROS2_HUMBLE)
    never = QosTime(2**31 - 1, 0)
    qos = Qos(
        *(QosHistory.KEEP_LAST, 7, QosReliability.BEST_EFFORT, QosDurability.VOLATILE),
        *(never, never, QosLiveliness.AUTOMATIC, never, False),
    )
    bag = tmp_path / 'bag'
    with rosbag2.Writer(bag, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection('/image', IMAGE, typestore=store, offered_qos_profiles=[qos])
        for stamp_ns in stamps(2):
            message = image_of(store.types, street, stamp_ns, 'rgb8')
            writer.write(topic, stamp_ns, store.serialize_cdr(message, IMAGE))
    listener = listen('/image')
    start(bag, '--loop', '--wait-for-subscriber')
    kept = listener.images['/image']
    listener.spin_until(lambda: len(kept) >= 5, 'third pass')
    assert {stamp_of(message) for message in kept} == set(stamps(2))
    (offer,) = listener.node.get_publishers_info_by_topic('/image')
    assert offer.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--topics', '/front/image', '/side'], "has no image topic '/side': its image topics are /front"),
        (['--topic', '/front/image', '--remap', 'x'], "--remap 'x' is not FROM:=TO"),
        (['--topic', '/front/image', '--remap', '/a:=/b'], "'/a' is not played, only /front/image"),
        (['--topic', '/front/image', '--start', '-1'], '--start -1.0 must be 0 or more'),
        (['--topics', '/front/image', '/rear/image', '--output-topic', '/x'], 'use --remap'),
    ],
)
def test_what_cannot_be_played_is_one_line(bag, capsys, arguments, said):
    assert main(['play', str(bag), *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count('\n') == 1
