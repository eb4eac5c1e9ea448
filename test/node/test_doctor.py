# SPDX-License-Identifier: Apache-2.0
"""`doctor` on running processes: the real node, a camera with depth, and a costmap's parameters."""

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from array import array
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, RegionOfInterest

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.node.doctor.collect import _message, _Watch
from lw_refinenet_ros.node.label_info import LATCHED
from lw_refinenet_ros.node.process.ros_context import ros_context
from lw_refinenet_ros.node.watch import Watch
from test.cli.test_view import read
from test.support.costmap_node import costmap_node
from test.support.fast_dds import IS_FAST_DDS
from test.support.node_process import NodeProcess

pytestmark = pytest.mark.ros

HEIGHT, WIDTH = 96, 128
PERIOD_S = 0.1
K = [100.0, 0.0, 63.5, 0.0, 100.0, 47.5, 0.0, 0.0, 1.0]
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
PROFILE = 'fastdds_large_images' if IS_FAST_DDS else 'large_images'
COMMAND = [sys.executable, '-m', 'lw_refinenet_ros.cli.main', 'doctor', '--seconds', '3']


@pytest.fixture(scope='module')
def node(tiny_weights):
    running = NodeProcess(weights=str(tiny_weights))
    running.wait_active()
    running.depth = running.client.create_publisher(Image, 'depth', running.qos)
    running.info = running.client.create_publisher(CameraInfo, 'camera_info', running.qos)
    running.sent = itertools.count(1)
    yield running
    running.close()


@pytest.fixture
def costmap(node, tiny_weights, tmp_path):
    """Add a costmap with the parameters that `costmap` writes, changed by rules old -> new."""

    def make(*changes):
        file = tmp_path / 'layer.yaml'
        assert main(['costmap', str(tiny_weights), '--output', str(file)]) == 0
        text = file.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file.write_text(text)
        costmap = stack.enter_context(costmap_node(file))
        executor = rclpy.executors.SingleThreadedExecutor(context=costmap.context)
        stack.callback(executor.shutdown)
        executor.add_node(costmap)
        for kind, topic in ((Image, 'label'), (Image, 'confidence'), (PointCloud2, 'points')):
            costmap.create_subscription(kind, f'/lw_refinenet/{topic}', lambda _: None, SENSOR)
        return SimpleNamespace(node=costmap, executor=executor)

    with ExitStack() as stack:
        yield make


def send(node, street, old_ns=0, depth_late_ns=0, depth_frame='camera_optical', height=HEIGHT, binning=1):
    stamp_ns = node.client.get_clock().now().nanoseconds - old_ns
    node.send(street, stamp_ns=stamp_ns)
    message = Image(height=HEIGHT, width=WIDTH, step=2 * WIDTH, encoding='16UC1')
    message.data = array('B', np.full((HEIGHT, WIDTH), 2000, np.uint16).tobytes())
    info = CameraInfo(
        height=height * binning, width=WIDTH * binning, k=K, binning_x=binning, binning_y=binning
    )
    for each in (message, info):
        each.header.stamp.sec, each.header.stamp.nanosec = divmod(stamp_ns + depth_late_ns, 10**9)
        each.header.frame_id = depth_frame
    node.depth.publish(message)
    node.info.publish(info)


@contextmanager
def repeated(publish):
    """Call `publish` each period, in a thread."""
    ended = threading.Event()

    def run():
        while not ended.wait(PERIOD_S):
            publish()

    camera = threading.Thread(target=run)
    camera.start()
    try:
        yield
    finally:
        ended.set()
        camera.join()


def diagnose(node, street, report, *arguments, others=(), sends=None, **fault):
    """Run the command while frames are sent, or `sends` called; return its status, and findings by check."""
    process = subprocess.Popen(
        [*COMMAND, '--json', str(report), *arguments], stdout=subprocess.PIPE, text=True
    )
    while process.poll() is None:
        if sends:
            sends()
        else:
            send(node, street, **fault)
        again = time.monotonic() + PERIOD_S
        while (left := again - time.monotonic()) > 0:
            node.executor.spin_once(timeout_sec=min(left, PERIOD_S / 10))
            for each in others:
                each.executor.spin_once(timeout_sec=0)
    content = json.loads(report.read_text())
    print(process.stdout.read())
    return process.returncode, {each['check']: each for each in content['findings']}


def until(node, street, report, condition, **given):
    """Diagnose again until it finds what it must: messages may take longer than the watch."""
    for _ in range(5):
        status, found = diagnose(node, street, report, **given)
        if condition(found):
            break
    return status, found


def find(node, street, report, expected, **given):
    """Diagnose until each fault is found: check, level, and a part of its value and of its remedy."""

    def is_found(found, check, level, value):
        return check in found and found[check]['level'] == level and value in found[check]['value']

    def complete(found):
        return all(is_found(found, *fault) for *fault, _ in expected)

    status, found = until(node, street, report, complete, **given)
    assert status == 1
    for check, level, value, remedy in expected:
        assert (found[check]['level'], value in found[check]['value']) == (level, True), found[check]
        assert remedy in found[check]['remedy'], found[check]


def test_a_well_system_has_only_the_fault_that_a_package_is_missing(node, street, costmap, tmp_path):
    layer, name = costmap(), '/local_costmap/local_costmap'
    classes = f'{name}: semantic_layer.camera: classes'
    try:
        from tf2_msgs.msg import TFMessage

        transform = TransformStamped(child_frame_id='camera_optical')
        transform.header.frame_id = 'map'
        layer.node.create_publisher(TFMessage, '/tf_static', LATCHED).publish(
            TFMessage(transforms=[transform])
        )
        tf = 'ok'
    except ImportError:
        tf = 'warning'

    def complete(found):
        return {'points with label', 'age', classes} <= set(found)

    assert node.set(points_tolerance=0.05)[0].successful
    fault = {'binning': 2, 'depth_late_ns': 20_000_000}  # which the node takes
    status, found = until(node, street, tmp_path / 'a.json', complete, others=[layer], **fault)
    assert node.set(points_tolerance=0.005)[0].successful
    wrong = {check: each for check, each in found.items() if each['level'] == 'fault'}
    try:
        import vision_msgs  # noqa: F401
    except ImportError:
        assert wrong.pop('label_info')['remedy'].startswith('install vision_msgs')
        topic = wrong.pop(f'{name}: camera.labels_topic')
        assert topic['value'] == 'nobody publishes /lw_refinenet/label_info'
        assert status == 1
    assert wrong == {}
    assert found[f'{name}: tf']['level'] == tf
    assert 'camera_info: size' not in found, 'binned, it is of the whole sensor'
    assert found['depth with image']['level'] == 'ok'
    assert 'tiny.safetensors' in found['engine']['value']
    assert found['points: size']['value'] == '128x96, label 128x96'
    assert found['label_names']['value'] == "4 names, 255 is 'unlabelled'"
    assert found[classes]['level'] == 'ok'
    assert {'image: QoS', 'depth: rate', 'depth with image'} <= set(found)
    assert ({'shared memory', 'large images'} <= set(found)) == IS_FAST_DDS


def test_a_viewer_gets_image_label_and_confidence_of_the_same_frame(node, street, segmenter):
    with ros_context([]) as started, Watch('/lw_refinenet') as watch, repeated(lambda: send(node, street)):
        started()
        assert watch.labels().names == segmenter.labels.names
        first, second = itertools.islice(watch.frames(), 2)
    assert 0 < first['stamp_ns'] < second['stamp_ns']
    for frame in (first, second):
        assert (frame['image'] == street).all()
        assert (frame['label'] == segmenter.segment(street).label).mean() > 0.98
        assert frame['confidence'].shape == street.shape[:2]
        assert frame['labels'].colors == segmenter.labels.colors
    assert 'rate_hz' in second['figures']


def test_the_command_records_what_the_running_node_publishes_until_it_is_interrupted(node, street, tmp_path):
    pytest.importorskip('rerun', reason='rerun-sdk is not installed')
    file = tmp_path / 'seen.rrd'
    command = [sys.executable, '-m', 'lw_refinenet_ros.cli.main', 'view', '--node', '--save', str(file)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while sum(each.stat().st_size for each in tmp_path.glob('.seen.rrd.*')) < 200_000:
        assert process.poll() is None, process.stderr.read()
        send(node, street)
        node.executor.spin_once(timeout_sec=PERIOD_S)
    process.send_signal(signal.SIGINT)
    assert 'Traceback' not in process.communicate()[1]
    assert process.returncode == 130
    entities, blueprints = read(file)
    assert blueprints == 1
    stamps = entities['/image/label']['time']
    assert len(stamps) > 3
    assert stamps == sorted(stamps) == entities['/image/confidence']['time'] == entities['/image']['time']
    for entity in ('/share', '/rate_hz', '/latency_ms/inference'):
        assert entities[entity]['time'][-1] == stamps[-1]


def test_each_fault_of_a_running_system_is_found_in_one_run(node, street, costmap, tmp_path):
    layer = costmap(("'car'", "'Car'"), (': /lw_refinenet/points\n', ': /lw_refinenet/cloud\n'))
    layer.node.set_parameters([rclpy.Parameter('use_sim_time', value=True)])
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    subscriptions = [
        node.client.create_subscription(Image, '/lw_refinenet/label', lambda _: None, latched),
        node.client.create_subscription(Image, '/image', lambda _: None, node.qos),
    ]
    layer.node.create_publisher(PointCloud2, '/image', SENSOR)
    nav2 = '/local_costmap/local_costmap: '
    expected = (
        ('label: QoS', 'fault', 'transient local from volatile', 'volatile'),
        ('image: QoS', 'fault', 'reliable from best effort', 'best effort'),
        ('age', 'fault', 'stamps are a constant 2.0 hours behind the clock', 'use_sim_time'),
        ('depth: frame', 'fault', 'frame_id is empty', 'frame_id'),
        ('camera_info: size', 'warning', 'camera_info of 128x48, depth 128x96', 'belongs to the depth'),
        ('image: type', 'fault', 'sensor_msgs/msg/PointCloud2 on /image', 'use sensor_msgs/msg/Image'),
        ('image', 'warning', 'several publishers', 'leave one'),
        ('depth with image', 'fault', 'no stamp pairs; the nearest are', 'stamp both alike'),
        ('diagnostics', 'warning', 'no ~/points', 'log'),
        (
            'use_sim_time',
            'fault',
            'true of /local_costmap/local_costmap, false of /lw_refinenet',
            'both sides',
        ),
        (f'{nav2}semantic_layer.camera: classes', 'fault', 'car not listed', 'lw_refinenet costmap'),
        (f'{nav2}semantic_layer.camera.lethal', 'warning', "'Car' is not published", "did you mean 'car'?"),
        (
            f'{nav2}camera.pointcloud_topic',
            'fault',
            'nobody publishes',
            "did you mean '/lw_refinenet/points'?",
        ),
    )

    try:
        find(
            node,
            street,
            tmp_path / 'b.json',
            expected,
            others=[layer],
            old_ns=2 * 3600 * 10**9,
            depth_late_ns=20_000_000,
            depth_frame='',
            height=HEIGHT // 2,
        )
    finally:
        for each in subscriptions:
            node.client.destroy_subscription(each)


def test_faults_of_a_node_that_is_not_active_a_silent_camera_and_results_of_another(
    node, street, costmap, tmp_path
):
    layer = costmap(('/lw_refinenet/points/label', '/lw_refinenet/label'))
    clock = node.client.create_publisher(Clock, '/clock', 1)
    assert node.transition('deactivate')
    publishers = [
        (node.client.create_publisher(kind, f'/lw_refinenet/{topic}', node.qos), kind(height=height, width=8))
        for topic, kind, height in (('label', Image, 6), ('confidence', Image, 3), ('points', PointCloud2, 5))
    ]
    stamps = itertools.count(1)

    def publish():
        for publisher, message in publishers:
            message.header.stamp.sec = next(stamps)  # none equals another
            publisher.publish(message)

    expected = (
        ('node', 'fault', '/lw_refinenet is inactive', 'autostart'),
        ('image: rate', 'fault', 'nothing came on /image', PROFILE),
        ('use_sim_time', 'warning', 'false, though /clock is published', 'both sides'),
        ('confidence: size', 'fault', '8x3, label 8x6', 'as many elements'),
        ('points: size', 'fault', '8x5, label 8x6', 'as many elements'),
        ('points: frame', 'fault', 'frame_id is empty', 'frame_id'),
        ('confidence with label', 'fault', 'no stamp pairs; the nearest are 1000.0 ms apart', 'stamp both'),
        ('points with label', 'fault', 'no stamp pairs; the nearest are 1000.0 ms apart', 'stamp both'),
        (
            '/local_costmap/local_costmap: camera: size',
            'fault',
            'mask 8x6, cloud 8x5',
            '/lw_refinenet/points/label',
        ),
    )
    try:
        status, found = until(
            node,
            street,
            tmp_path / 'c.json',
            lambda found: {check for check, *_ in expected} <= set(found),
            others=[layer],
            sends=publish,
        )
    finally:
        for publisher in (clock, *(publisher for publisher, _ in publishers)):
            node.client.destroy_publisher(publisher)
        assert node.transition('activate')
    assert status == 1
    for check, level, value, remedy in expected:
        assert (found[check]['level'], found[check]['value']) == (level, value), found[check]
        assert remedy in found[check]['remedy'], found[check]


@pytest.mark.parametrize(
    ('stamps', 'level', 'check', 'value'),
    [
        (
            'recorded',
            'warning',
            'age',
            'stamps are a constant 54.0 days behind the clock, as of a replayed bag',
        ),
        ('zero', 'fault', 'image: stamps', '0 in all messages on /image'),
        ('still', 'fault', 'image: stamps', 'they stand still at 9.000 s on /image'),
        ('back', 'fault', 'image: stamps', ' on /image are not later than the one before'),
    ],
)
def test_a_replayed_bag_is_told_from_stamps_that_do_not_advance(
    node, street, tmp_path, stamps, level, check, value
):
    def publish():
        now_ns = node.client.get_clock().now().nanoseconds
        given = {'recorded': now_ns - 54 * 86_400 * 10**9, 'zero': 0, 'still': 9 * 10**9}
        node.send(street, stamp_ns=given.get(stamps, now_ns - next(node.sent) % 2 * 10**9))

    def complete(found):
        return check in found and 'label: rate' in found

    _, found = until(node, street, tmp_path / 'f.json', complete, sends=publish)
    assert found[check]['level'] == level
    assert value in found[check]['value']
    faults = {name for name, each in found.items() if each['level'] == 'fault'}
    assert faults & {'age', 'image: stamps'} == ({check} if level == 'fault' else set())


def test_bad_frames_and_stamps_of_the_future_are_warnings(node, street, tmp_path):
    turns = itertools.cycle((True, False))

    def publish():
        if next(turns):
            send(node, street, old_ns=-(10**9))
        else:
            later_ns = node.client.get_clock().now().nanoseconds + 10**9
            node.send(street, encoding='32FC1', stamp_ns=later_ns)

    def complete(found):
        return 'age' in found and 'bad: encoding' in found['frames']['value']

    _, found = until(node, street, tmp_path / 'e.json', complete, sends=publish)
    assert found['age']['value'].endswith('ms: stamps lie in the future')
    assert 'synchronise the clocks' in found['age']['remedy']
    assert found['frames']['level'] == 'warning'
    assert "encoding '32FC1' is not supported" in found['diagnostics']['value']


def test_only_frames_of_the_watch_are_judged_and_not_all_since_the_node_began():
    fates = {'received': 70, 'segmented': 40, 'bad: encoding': 30}
    watched = SimpleNamespace(
        statuses={'front': (0, ('', {}, fates, {})), 'rear': (0, ('', {}, fates, {}))},
        _counted={'front': {'received': 50, 'bad: encoding': 30}},
    )
    front, rear = (_Watch._camera(watched, name, {}) for name in ('front', 'rear'))
    assert front.counted == {'received': 20, 'segmented': 40, 'bad: encoding': 0}
    assert rear.counted == fates, 'it came while it was watched'


@pytest.mark.parametrize(
    ('message', 'size'),
    [
        (Image(height=96, width=128), (96, 128)),
        (CompressedImage(format='jpeg'), (0, 0)),
        (CameraInfo(height=96, width=128), (96, 128)),
        (CameraInfo(height=96, width=128, binning_x=1, binning_y=1), (96, 128)),
        (CameraInfo(height=96, width=128, binning_x=2), (0, 0)),
        (CameraInfo(height=96, width=128, binning_y=2), (0, 0)),
        (CameraInfo(height=96, width=128, roi=RegionOfInterest(height=40)), (0, 0)),
        (CameraInfo(height=96, width=128, roi=RegionOfInterest(width=60)), (0, 0)),
    ],
)
def test_a_camera_info_of_images_that_are_cut_tells_no_size_to_compare(message, size):
    seen = _message(serialize_message(message), type(message))
    assert (seen.height, seen.width, seen.shift) == (*size, 0)


def test_a_camera_info_tells_how_far_its_raw_images_are_from_rectified_ones():
    message = CameraInfo(
        height=96, width=128, distortion_model='plumb_bob', k=K, d=[-0.3, 0.0, 0.0, 0.0, 0.0]
    )
    assert _message(serialize_message(message), CameraInfo).shift == pytest.approx(0.117, abs=1e-3)


def test_the_doctor_hears_what_is_best_effort_and_does_not_count_itself(node):
    publisher = node.client.create_publisher(Image, '/doctored', SENSOR)
    other = node.client.create_subscription(Image, '/doctored', lambda _: None, SENSOR)
    with ros_context([]) as started:
        started()
        watch = _Watch('/lw_refinenet')
        watch._roles[''] = {}
        try:
            node.spin_until(lambda: watch.ros.count_publishers('/doctored'), 'publisher')
            watch._subscribe('', 'label', '/doctored', Image)
            node.spin_until(lambda: watch.ros.count_subscribers('/doctored') == 2, 'subscribers')

            def named():
                subscribers = [each.node for each in watch._stream('/doctored', 1.0).subscribers]
                return '/test_client' in subscribers and subscribers

            subscribers = node.spin_until(named, 'the name of the node that subscribes')
            infos = watch.ros.get_subscriptions_info_by_topic('/doctored')
        finally:
            watch.executor.shutdown()
            watch.ros.destroy_node()
            node.client.destroy_publisher(publisher)
            node.client.destroy_subscription(other)
    assert subscribers == ['/test_client']
    assert {info.qos_profile.reliability for info in infos} == {ReliabilityPolicy.BEST_EFFORT}


def test_a_topic_that_nobody_publishes_is_none_that_is_there(node):
    client = node.client
    listening = [
        client.create_subscription(Image, '/only_heard', lambda _: None, SENSOR),
        client.create_subscription(Clock, '/clock', lambda _: None, SENSOR),
    ]
    publisher = client.create_publisher(Image, '/sent', SENSOR)
    with ros_context([]) as started:
        started()
        watch = _Watch('/lw_refinenet')
        wanted = {'/only_heard', '/clock', '/sent'}
        try:
            node.spin_until(lambda: wanted <= set(dict(watch.ros.get_topic_names_and_types())), 'topics')
            node.spin_until(lambda: watch.ros.count_publishers('/sent'), 'publisher')
            facts = watch.facts()
        finally:
            watch.executor.shutdown()
            watch.ros.destroy_node()
            client.destroy_publisher(publisher)
            for each in listening:
                client.destroy_subscription(each)
    assert facts.topics['/sent'] == ('sensor_msgs/msg/Image',)
    assert '/only_heard' not in facts.topics
    assert not facts.clock


def test_a_node_that_is_not_there_is_a_fault_that_names_those_that_are(node, street, tmp_path):
    status, found = diagnose(node, street, tmp_path / 'd.json', '--node', 'segmentation')
    assert status == 1
    assert found['node']['value'] == '/segmentation publishes no diagnostics'
    assert '/lw_refinenet' in found['node']['remedy']
