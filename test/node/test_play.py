# SPDX-License-Identifier: Apache-2.0
"""`lw_refinenet play`: what is published, when, and with which quality of service."""

import contextlib
import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from test.support.recordings import IMAGE, image_of, pictures, record, stamps

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosbags import rosbag2
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from lw_refinenet_ros.cli.live import ros_environment
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.node.process.ros_context import ros_context
from lw_refinenet_ros.node.replay.player import FLUSH_S, SETTLE_S, Player, Playing, Track, play
from lw_refinenet_ros.node.replay.qos import profile_of, recorded
from lw_refinenet_ros.sources.bag_writer import BagWriter
from lw_refinenet_ros.sources.opening import open_source
from lw_refinenet_ros.sources.other_topics import OtherTopics
from lw_refinenet_ros.sources.source import Source, SourceFrame

pytestmark = pytest.mark.ros

FRAMES = 6
PATIENCE_S = 60.0
os.environ.update(ros_environment())


PRINTS_STAMPS = """
import rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('prints_stamps')
node.create_subscription(Image, '/image', lambda _: print('received', flush=True), 10)
rclpy.spin(node)
"""


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


def test_two_topics_may_take_each_other_s_name(bag, listen, start, street):
    swap = ('--remap', '/front/image:=/rear/image', '--remap', '/rear/image:=/front/image')
    listener = listen('/front/image')
    start(bag, '--topics', '/front/image', '/rear/image', '--wait-for-subscriber', *swap)
    listener.spin_until(lambda: listener.images['/front/image'], 'frames')
    assert {message.height for message in listener.images['/front/image']} == {50}


def test_a_player_that_waits_says_so_and_begins_where_only_some_topics_have_subscribers(bag, listen, start):
    player = start(bag, '--topics', '/front/image', '/rear/image', '--wait-for-subscriber')
    assert 'waiting for a subscriber of /front/image or /rear/image' in player.stderr.readline()
    listener = listen('/rear/image')
    listener.spin_until(lambda: player.poll() is not None, 'end')
    assert player.stderr.read().endswith(f'played {2 * FRAMES}/{2 * FRAMES}\n')
    listener.spin_until(lambda: len(listener.images['/rear/image']) == FRAMES, 'frames')


@pytest.mark.parametrize('topic', ['/image', '/camera_info'])
def test_playing_begins_when_the_subscribers_of_every_topic_have_been_the_same_for_two_seconds(
    topic, tmp_path, street, listen
):
    with BagWriter(tmp_path / 'bag.mcap') as bag:
        frame = Frame.from_array(street, stamp_ns=stamps(1)[0], frame_id='front', encoding='rgb8')
        bag.write_image('/image', frame)
        info = serialize_message(CameraInfo())
        bag.write_raw('/camera_info', 'sensor_msgs/msg/CameraInfo', info, stamps(1)[0])
    listener = listen('/image')
    asked, came = [], []

    class Joined(Player):
        """Is joined by another subscriber while it waits."""

        def get_subscriptions_info_by_topic(self, name):
            infos = super().get_subscriptions_info_by_topic(name)
            heard = self._channels[0].publisher.get_subscription_count() > 0
            if name == topic and heard and not came:
                asked.append(name)
                if len(asked) > 5:  # the first one has been there for half a second
                    kind = Image if topic == '/image' else CameraInfo
                    listener.node.create_subscription(kind, topic, lambda _: None, 10)
                    known = len(infos)
                    listener.spin_until(
                        lambda: len(super(Joined, self).get_subscriptions_info_by_topic(name)) > known,
                        'other',
                    )
                    came.append(time.monotonic())
                    return super().get_subscriptions_info_by_topic(name)
            return infos

    with ros_context([]) as started, open_source(tmp_path / 'bag.mcap') as source:
        started()
        with OtherTopics(tmp_path / 'bag.mcap') as others:
            player = Joined([Track(source, '/image')], Playing(), print, lambda: False, others)
            player.wait_for_subscriber()
            began = time.monotonic()
    assert came, f'the subscribers of {topic} do not matter'
    assert began - came[0] >= SETTLE_S


def test_the_player_waits_until_reliable_subscribers_have_the_last_frame(tmp_path, street):
    bag = record(tmp_path / 'bag', {'/image': ('rgb8', list(zip(stamps(2), pictures(street, 2))))})
    listener = subprocess.Popen([sys.executable, '-c', PRINTS_STAMPS], stdout=subprocess.PIPE, text=True)
    last_sent = []

    def sent(_):
        if not last_sent:  # of two
            assert listener.stdout.readline() == 'received\n'
            listener.send_signal(signal.SIGSTOP)  # it acknowledges nothing more
            os.waitid(os.P_PID, listener.pid, os.WSTOPPED)
        last_sent.append(time.monotonic())

    try:
        with open_source(bag) as source:
            assert play([Track(source, '/image')], Playing(wait_for_subscriber=True), sent, lambda: False)
        ended = time.monotonic()
    finally:
        listener.kill()
        listener.communicate()
    assert len(last_sent) == 2
    assert ended - last_sent[1] >= FLUSH_S


def test_what_a_bag_has_beside_images_is_played_with_them_where_its_package_is_installed(
    tmp_path, street, listen, start
):
    info, cloud = CameraInfo(width=128, k=np.arange(9.0)), PointCloud2(width=3)
    front = {'frame_id': 'front', 'encoding': 'rgb8'}
    with BagWriter(tmp_path / 'bag.mcap') as bag:
        bag.write_raw('/unknown', 'tf2_msgs/msg/TFMessage', bytes([0, 1] + [0] * 6), stamps(1)[0])
        for stamp_ns in stamps(3):
            bag.write_image('/image', Frame.from_array(street, stamp_ns=stamp_ns, **front))
            bag.write_raw('/camera_info', 'sensor_msgs/msg/CameraInfo', serialize_message(info), stamp_ns)
        bag.write_raw('/cloud', 'sensor_msgs/msg/PointCloud2', serialize_message(cloud), stamp_ns + 1)
        bag.write_image('/image', Frame.from_array(street, stamp_ns=stamps(4)[3], **front))
    listener = listen('/image')
    received = {CameraInfo: [], PointCloud2: []}
    for kind, topic in ((CameraInfo, '/camera_info'), (PointCloud2, '/cloud')):
        listener.node.create_subscription(kind, topic, received[kind].append, 10)
    player = start(tmp_path / 'bag.mcap', '--others', '--wait-for-subscriber', '--clock')
    listener.spin_until(lambda: player.poll() is not None, 'end')
    said = player.stderr.read()
    assert player.returncode == 0, said
    listener.spin_until(lambda: len(received[CameraInfo]) == 3 and received[PointCloud2], 'all of them')
    assert received == {CameraInfo: [info] * 3, PointCloud2: [cloud]}
    assert [stamp_of(message) for message in listener.images['/image']] == stamps(4)
    assert [stamp_of(message) for message in listener.clock] == stamps(4)
    if find_spec('tf2_msgs') is None:
        assert '/unknown (tf2_msgs/msg/TFMessage) is not played' in said


def test_what_was_latched_before_the_start_asked_for_is_played_and_nothing_else_from_there(
    tmp_path, street, listen, start
):
    kind, header = 'sensor_msgs/msg/CameraInfo', {'frame_id': 'front', 'encoding': 'rgb8'}
    latched = [qos(QosReliability.RELIABLE, durability=QosDurability.TRANSIENT_LOCAL)]
    with BagWriter(tmp_path / 'bag.mcap') as bag:
        for index, stamp_ns in enumerate(stamps(4)):
            bag.write_image('/image', Frame.from_array(street, stamp_ns=stamp_ns, **header))
            for topic, offered in (('/static', latched if index < 1 else None), ('/camera_info', ())):
                if offered is not None:
                    info = serialize_message(CameraInfo(width=1 + index))
                    bag.write_raw(topic, kind, info, stamp_ns, offered)
    listener = listen('/image', reliability=ReliabilityPolicy.RELIABLE)
    received = {'/static': [], '/camera_info': []}
    for topic, kept in received.items():
        listener.node.create_subscription(CameraInfo, topic, lambda m, kept=kept: kept.append(m.width), 10)
    player = start(
        tmp_path / 'bag.mcap', '--others', '--start', '0.15', '--wait-for-subscriber', '--rate', '0.5'
    )
    listener.spin_until(lambda: player.poll() is not None, 'end')
    assert player.returncode == 0, player.stderr.read()
    listener.spin_until(lambda: len(listener.images['/image']) == 2, 'frames')
    listener.spin_until(lambda: len(received['/camera_info']) == 2, 'camera_info')
    assert received == {'/static': [1], '/camera_info': [3, 4]}


@pytest.mark.parametrize('headers', [[0] * FRAMES, [0, 5, 5, 3, 0, 10**15]])
def test_stamps_that_do_not_rise_are_played_at_the_pace_of_the_recording(
    headers, tmp_path, street, listen, start
):
    frames = list(zip(headers, pictures(street, FRAMES), stamps(FRAMES)))
    listener, log = listen('/image'), tmp_path / 'sent.jsonl'
    bag = record(tmp_path / 'bag', {'/image': ('rgb8', frames)})
    player = start(bag, '--clock', '--wait-for-subscriber', '--log', log)
    listener.spin_until(lambda: player.poll() is not None, 'end')
    assert player.returncode == 0, player.stderr.read()
    sent = [json.loads(line) for line in log.read_text().splitlines()]
    assert np.diff([record['due_ns'] for record in sent]).tolist() == np.diff(stamps(FRAMES)).tolist()
    listener.spin_until(lambda: len(listener.images['/image']) == FRAMES, 'frames')
    assert [stamp_of(message) for message in listener.images['/image']] == headers
    assert [stamp_of(message) for message in listener.clock] == [stamp for stamp in headers if stamp]


def test_a_clock_that_is_set_back_while_recording_costs_no_frame_and_no_time(street):
    class Recorded(Source):
        def __iter__(self):
            for log_ns in (0, 100_000_000, 200_000_000, 50_000_000, 150_000_000, 300_000_000):
                frame = Frame.from_array(street, stamp_ns=log_ns, frame_id='front', encoding='rgb8')
                yield SourceFrame.of(frame, log_ns=log_ns, name=str(log_ns), where='here')

    sent = []
    tracks = [Track(Recorded('recorded'), 'image')]
    assert play(tracks, Playing(start_s=0.08), sent.append, lambda: False)
    assert [record.stamp_ns for record in sent] == [10**6 * ms for ms in (100, 200, 50, 150, 300)]
    assert np.diff([record.due_ns for record in sent]).tolist() == [10**8, 0, 0, 10**8]


def damage_third(bag):
    """Cut the third of a bag's PNGs."""
    content, at = bytearray(bag.read_bytes()), -1
    for _ in range(3):
        at = content.index(b'\x89PNG', at + 1)
    content[at + 4 : at + 12] = bytes(8)
    bag.write_bytes(content)


def test_a_frame_that_cannot_be_read_is_named_and_the_others_are_played_again_and_again(
    tmp_path, street, listen, start
):
    bag = record(tmp_path / 'bag', {'/image/compressed': ('png', list(zip(stamps(4), pictures(street, 4))))})
    damage_third(bag / 'bag.mcap')
    listener = listen('/image', reliability=ReliabilityPolicy.RELIABLE)
    player = start(bag, '--wait-for-subscriber')
    listener.spin_until(lambda: player.poll() is not None, 'end')
    assert player.returncode == 1
    (line,) = (line for line in player.stderr.read().splitlines() if line.startswith('lw_refinenet: '))
    assert f'{bag}: message 2 of /image/compressed, logged at' in line
    kept = listener.images['/image']
    listener.spin_until(lambda: len(kept) == 3, 'frames')
    player = start(bag, '--loop', '--rate', '10', '--wait-for-subscriber')
    listener.spin_until(lambda: len(kept) >= 3 + 7, 'third pass')
    player.send_signal(signal.SIGINT)
    listener.spin_until(lambda: player.poll() is not None, 'end')
    assert player.stderr.read().count('message 2 of') == 1
    good = [stamp_ns for index, stamp_ns in enumerate(stamps(4)) if index != 2]
    assert [stamp_of(message) for message in kept[3:]] == (good * len(kept))[: len(kept) - 3]


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
    assert 'paused; press space to resume\nresumed\n' in player.stderr.read()
    gaps = np.diff([record['due_ns'] for record in sent]) / 1e9
    assert sorted(np.round(gaps, 2))[:-1] == [0.5] * (FRAMES - 2)
    assert gaps.max() > 1.7
    for file in (ours, theirs):
        os.close(file)


NEVER = QosTime(2**31 - 1, 0)


def qos(
    reliability, *, durability=QosDurability.VOLATILE, depth=7, deadline=NEVER, lifespan=NEVER, **changes
):
    return Qos(
        *(QosHistory.KEEP_LAST, depth, reliability, durability, deadline, lifespan),
        *(changes.get('liveliness', QosLiveliness.AUTOMATIC), changes.get('lease', NEVER), False),
    )


def offer(path, street, *profiles):
    """Record two frames of /image whose publishers offered these."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    with rosbag2.Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection('/image', IMAGE, typestore=store, offered_qos_profiles=profiles)
        for stamp_ns in stamps(2):
            message = image_of(store.types, street, stamp_ns, 'rgb8')
            writer.write(topic, stamp_ns, store.serialize_cdr(message, IMAGE))
    return path


def test_the_recorded_quality_of_service_is_offered_again_and_a_loop_begins_anew(
    tmp_path, street, listen, start
):
    second = QosTime(1, 500_000_000)
    wanted = qos(
        *(QosReliability.BEST_EFFORT,),
        durability=QosDurability.TRANSIENT_LOCAL,
        deadline=second,
        lifespan=second,
        liveliness=QosLiveliness.MANUAL_BY_TOPIC,
        lease=second,
    )
    listener = listen('/image')
    start(offer(tmp_path / 'bag', street, wanted), '--loop', '--wait-for-subscriber')
    kept = listener.images['/image']
    listener.spin_until(lambda: len(kept) >= 5, 'third pass')
    assert {stamp_of(message) for message in kept} == set(stamps(2))
    (offered,) = listener.node.get_publishers_info_by_topic('/image')
    profile = offered.qos_profile
    assert profile.reliability == ReliabilityPolicy.BEST_EFFORT
    assert profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert profile.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC
    for time_ in (profile.deadline, profile.lifespan, profile.liveliness_lease_duration):
        assert time_.nanoseconds == pytest.approx(1.5e9, abs=1)  # DDS counts in fractions of 2**32


def test_of_publishers_that_differed_every_subscriber_is_served_and_unknown_is_the_default():
    reliable, other = qos(QosReliability.RELIABLE, depth=3), qos(QosReliability.BEST_EFFORT, depth=9)
    assert profile_of([reliable, other]).reliability == ReliabilityPolicy.RELIABLE
    assert profile_of([reliable, other]).depth == 9
    assert profile_of([other]).reliability == ReliabilityPolicy.BEST_EFFORT
    latched = reliable._replace(durability=QosDurability.TRANSIENT_LOCAL, deadline=QosTime(1, 0))
    assert profile_of([reliable, latched]).durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert not profile_of([reliable, latched]).deadline.nanoseconds
    half_s = reliable._replace(deadline=QosTime(0, 500_000_000))
    assert profile_of([half_s]).deadline.nanoseconds == 500_000_000
    assert not profile_of(
        [half_s._replace(deadline=QosTime(9_223_372_036, 854_775_807))]
    ).deadline.nanoseconds
    keeps_all = other._replace(history=QosHistory.KEEP_ALL)
    assert profile_of([reliable, keeps_all]).history == HistoryPolicy.KEEP_ALL
    assert profile_of([reliable, other]).history == HistoryPolicy.KEEP_LAST
    unknown = Qos(
        *(QosHistory.UNKNOWN, 0, QosReliability.UNKNOWN, QosDurability.UNKNOWN),
        *(QosTime(0, 0), QosTime(0, 0), QosLiveliness.UNKNOWN, QosTime(0, 0), False),
    )
    for profile in (profile_of([unknown]), profile_of([])):
        assert (profile.depth, profile.reliability) == (1, ReliabilityPolicy.RELIABLE)
        assert profile.durability == DurabilityPolicy.VOLATILE
    assert profile_of([recorded(profile_of([latched]))]) == profile_of([latched])


@pytest.mark.parametrize(('options', 'status'), [((), 130), (('--exit-zero',), 0)])
def test_a_loop_begins_where_it_was_asked_to_and_an_interrupt_ends_it(bag, listen, start, options, status):
    listener = listen('/front/image')
    player = start(
        *(bag, '--topic', '/front/image', '--start', '0.35', '--loop', '--wait-for-subscriber', *options)
    )
    kept = listener.images['/front/image']
    listener.spin_until(lambda: len(kept) >= 6, 'third pass')
    found = [stamp_of(message) for message in kept]
    assert set(found) == set(stamps(FRAMES)[4:])
    assert all(a != b for a, b in itertools.pairwise(found))
    player.send_signal(signal.SIGINT)
    listener.spin_until(lambda: player.poll() is not None, 'end')
    assert player.returncode == status
    assert 'Traceback' not in player.stderr.read()


def test_in_the_background_the_terminal_is_left_alone(bag):
    ours, theirs = pty.openpty()
    command = [sys.executable, '-m', 'lw_refinenet_ros.cli.main', 'play', bag]
    late = ['--start', '9']
    player = subprocess.Popen(
        ['bash', '-c', 'set -m; "$@" <&0 & wait $!', '-', *command, '--topic', '/front/image', *late],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: (os.setsid(), __import__('fcntl').ioctl(theirs, 0x540E, 0)),  # TIOCSCTTY
    )
    said, error = player.communicate(timeout=PATIENCE_S)
    assert player.returncode == 1
    assert 'no frame comes 9 s after the first' in error
    assert 'space pauses' not in said
    for file in (ours, theirs):
        os.close(file)


def test_an_interrupted_pause_gives_the_terminal_back_as_it_was(bag, listen, start):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    listener = listen('/front/image')
    player = start(
        *(bag, '--topic', '/front/image', '--loop', '--wait-for-subscriber'),
        stdin=theirs,
        preexec_fn=lambda: (os.setsid(), __import__('fcntl').ioctl(theirs, 0x540E, 0)),  # TIOCSCTTY
    )
    kept = listener.images['/front/image']
    listener.spin_until(lambda: kept, 'first frame')
    assert termios.tcgetattr(theirs) != before
    os.write(ours, b' ')
    player.send_signal(signal.SIGINT)
    listener.spin_until(lambda: player.poll() is not None, 'end')
    assert player.returncode == 130
    assert termios.tcgetattr(theirs) == before
    for file in (ours, theirs):
        os.close(file)


def write_video(folder, images):
    writer = cv2.VideoWriter(str(folder / 'v.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 25, (128, 96))
    for image in images:
        writer.write(image[..., ::-1])
    writer.release()
    return folder / 'v.avi'


def write_folder(folder, images):
    for stamp_ns, image in zip(stamps(len(images)), images):
        cv2.imwrite(str(folder / f'{stamp_ns}.png'), image[..., ::-1])
    return folder


def write_compressed(folder, images):
    return record(folder / 'bag', {'/image/compressed': ('jpg', list(zip(stamps(len(images)), images)))})


@pytest.mark.parametrize(
    ('write', 'first_ns', 'step_ns'),
    [
        (write_video, 1_000_000_000, 40_000_000),
        (write_folder, stamps(1)[0], stamps(2)[1] - stamps(1)[0]),
        (write_compressed, stamps(1)[0], stamps(2)[1] - stamps(1)[0]),
    ],
)
def test_videos_folders_and_compressed_images_are_played_as_images(
    write, first_ns, step_ns, tmp_path, street, listen, start
):
    images = pictures(street, FRAMES)
    listener = listen('/image', reliability=ReliabilityPolicy.RELIABLE)
    player = start(write(tmp_path, images), '--wait-for-subscriber', '--clock')
    kept = listener.images['/image']
    listener.spin_until(lambda: player.poll() is not None, 'end')
    assert player.returncode == 0, player.stderr.read()
    listener.spin_until(lambda: len(kept) == FRAMES, 'frames')
    wanted = [first_ns + index * step_ns for index in range(FRAMES)]
    assert [stamp_of(message) for message in kept] == wanted
    assert [stamp_of(message) for message in listener.clock] == wanted
    for message, image in zip(kept, images):
        shown = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        shown = shown[..., ::-1] if message.encoding == 'bgr8' else shown
        assert np.abs(shown.astype(int) - image).mean() < 10


def test_images_are_played_as_jpeg_where_that_is_asked_for(tmp_path, street, listen, start):
    images = pictures(street, FRAMES)
    listener = listen()
    kept = []
    listener.node.create_subscription(CompressedImage, '/image/compressed', kept.append, 50)
    player = start(write_folder(tmp_path, images), '--wait-for-subscriber', '--compressed')
    listener.spin_until(lambda: player.poll() is not None, 'end')
    assert player.returncode == 0, player.stderr.read()
    listener.spin_until(lambda: len(kept) == FRAMES, 'frames')
    assert [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in kept] == list(stamps(FRAMES))
    for message, image in zip(kept, images):
        assert message.format == 'rgb8; jpeg compressed bgr8'
        shown = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(shown.astype(int) - image).mean() < 10


@pytest.mark.skipif(not Path('/dev/video0').exists(), reason='no camera is attached: no /dev/video0')
def test_a_camera_is_played_until_it_is_interrupted(listen, start):
    listener = listen('/image')
    player = start('camera:0', '--wait-for-subscriber')
    listener.spin_until(lambda: len(listener.images['/image']) >= 3, 'frames')
    player.send_signal(signal.SIGINT)
    listener.spin_until(lambda: player.poll() is not None, 'end')
    assert player.returncode == 130


@pytest.mark.parametrize(
    ('arguments', 'status', 'said'),
    [
        (['--topics', '/front/image', '/side'], 1, "has no image topic '/side': its image topics are /front"),
        (['--topic', '/front/image', '--output-topic', 'a b'], 1, "'a b' is not a valid topic name: "),
        (['--topic', '/front/image', '--remap', 'x'], 2, "--remap 'x' is not FROM:=TO"),
        (['--topic', '/front/image', '--remap', '/front/image:='], 2, 'is not FROM:=TO'),
        (['--topic', '/front/image', '--remap', '/a:=/b'], 1, "'/a' is not played, only /front/image"),
        (['--topics', '/front/image', '/rear/image', '--output-topic', '/x'], 2, 'use --remap'),
        (['--topic', '/front/image', '--start', '9', '--loop'], 1, 'no frame comes 9 s after the first'),
        (['--topic', '/front/image', '--log', '/nowhere/x'], 1, '/nowhere/x: No such file or directory'),
        (['--topic', '/front/image', '--others'], 1, 'has neither camera_info nor clouds nor tf'),
    ],
)
def test_what_cannot_be_played_is_one_line(bag, capsys, arguments, status, said):
    assert main(['play', str(bag), *arguments]) == status
    error = capsys.readouterr().err
    assert said in error
    assert error.count('\n') == 1
