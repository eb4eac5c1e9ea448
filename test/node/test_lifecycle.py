# SPDX-License-Identifier: Apache-2.0
"""The node's life from start to end, each time in a process of its own, over real DDS."""

import signal
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import Image

from test.support.faults.lifecycle import go_round
from test.support.long_run import LongRun
from test.support.node_process import PATIENCE_S, NodeProcess

pytestmark = pytest.mark.ros

STAMP = 12_000_000_345


# The node with publishers that do not tell of their subscribers, as on Humble.
WITHOUT_EVENTS = """
from lw_refinenet_ros.node import camera_outputs, segmentation_node
events = camera_outputs.PublisherEventCallbacks
camera_outputs.PublisherEventCallbacks = lambda: events()
segmentation_node.main()
"""
# The node without its checks once a second.
WITHOUT_POLLING = """
from lw_refinenet_ros.node import segmentation_node
segmentation_node.DIAGNOSTICS_PERIOD_S = 3600.0
segmentation_node.main()
"""


def test_a_camera_is_subscribed_to_only_while_its_outputs_have_subscribers(tiny_weights, street):
    node = NodeProcess(program=WITHOUT_EVENTS, weights=str(tiny_weights), cameras=['front', 'rear'])
    try:
        front, rear = (node.client.create_publisher(Image, f'{name}/image', 1) for name in ('front', 'rear'))

        def is_idle(camera):
            idle = f'idle: no output has subscribers, so /{camera}/image is not subscribed to'
            return node.level == b'\0' and node.camera_status.get(camera, [''])[0] == idle

        for stamp_ns in (STAMP, STAMP + 1):  # a viewer opens, closes and opens again
            node.spin_until(lambda: is_idle('front') and is_idle('rear'), 'idle cameras')
            node.spin_until(lambda: not front.get_subscription_count(), 'end of the subscription')
            node.listen('front/label')
            node.answer('front/label', street, stamp_ns, publisher=front)
            node.spin_until(lambda: is_idle('rear'), 'idle camera beside it')
            assert not rear.get_subscription_count()
            (viewer,) = (s for s in node.client.subscriptions if s.topic_name.endswith('/label'))
            node.client.destroy_subscription(viewer)
        node.spin_until(lambda: is_idle('front'), 'idle camera')
        received, segmented = (node.camera_status['front'][2][fate] for fate in ('received', 'segmented'))
        assert received >= segmented >= 2
    finally:
        node.close()


def test_a_subscriber_that_comes_and_enabling_need_not_wait_for_the_next_check(tiny_weights, street):
    node = NodeProcess(program=WITHOUT_POLLING, weights=str(tiny_weights), reliable=False)
    try:
        node.spin_until(lambda: node.state() == 'active', 'active node')
        assert not node.images.get_subscription_count()
        node.listen('label')
        node.answer('label', street, STAMP)
        assert node.set(enabled=False)[0].successful
        node.spin_until(lambda: not node.images.get_subscription_count(), 'end of the subscription')
        assert node.set(enabled=True)[0].successful
        node.answer('label', street, STAMP + 1)
    finally:
        node.close()


def test_a_lifecycle_manager_can_drive_it_round_twice(tiny_weights, street):
    node = NodeProcess(weights=str(tiny_weights), autostart=False)
    try:
        assert node.state() == 'unconfigured'
        node.listen('label')
        for turn in range(2):
            assert node.transition('configure')
            assert node.state() == 'inactive'
            assert node.transition('activate')
            node.wait_active()
            impossible = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
            assert not node.call(ChangeState, 'change_state', impossible).success, 'it is active'
            node.answer('label', street, STAMP + turn)
            assert node.transition('deactivate')
            assert node.transition('cleanup')
            assert node.state() == 'unconfigured'
    finally:
        node.close()


# What Nav2's lifecycle manager does at start-up, pause, resume, reset, start-up and shutdown: transitions by
# their ids, each by a call that waits for its service, then the state that it must have led to.
MANAGER = """
import sys, rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
CONFIGURE = Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE
ACTIVATE = Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE
DEACTIVATE = Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE
CLEANUP = Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED
SHUTDOWN = Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, State.PRIMARY_STATE_FINALIZED
timeout = float(sys.argv[1])
rclpy.init()
node = rclpy.create_node('lifecycle_manager_service_client')
def call(kind, name, request):
    client = node.create_client(kind, f'/lw_refinenet/{name}')
    assert client.wait_for_service(timeout), f'{name} is not available'
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=timeout)
    assert future.done(), f'{name} was not answered'
    node.destroy_client(client)
    return future.result()
for transition, state in (
    CONFIGURE, ACTIVATE, DEACTIVATE, ACTIVATE, DEACTIVATE, CLEANUP,
    CONFIGURE, ACTIVATE, DEACTIVATE, CLEANUP, SHUTDOWN,
):
    request = ChangeState.Request(transition=Transition(id=transition))
    assert call(ChangeState, 'change_state', request).success, transition
    assert call(GetState, 'get_state', GetState.Request()).current_state.id == state, transition
"""


def test_the_calls_of_nav2s_lifecycle_manager_lead_to_its_states(tiny_weights):
    node = NodeProcess(weights=str(tiny_weights), autostart=False)
    try:
        manager = [sys.executable, '-c', MANAGER, str(PATIENCE_S)]
        done = subprocess.run(manager, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr
        assert node.state() == 'finalized'
        status, _, output = node.stop(signal.SIGINT)
        assert status == 0, output
    finally:
        node.close()


def spoil(content, fault):
    """A weights file's content with a fault."""
    if fault == 'truncated':
        return content[: len(content) // 2]
    if fault == 'no safetensors':
        return b'PK\x03\x04' + content
    if fault == 'other shapes':
        return content.replace(b'\\"width\\":8', b'\\"width\\":9').replace(b'"width\\": 8', b'"width\\": 9')
    return content.replace(b'"name', b'"nome')


def test_with_bad_weights_it_stays_unconfigured_alive_and_says_why(tiny_weights, tmp_path):
    path = tmp_path / 'weights.safetensors'
    content = tiny_weights.read_bytes()
    node = NodeProcess(weights=str(path))
    try:
        node.spin_until(lambda: node.status and str(path) in node.status[0], 'reason on /diagnostics')
        assert node.level == b'\x02'
        reasons = {node.status[0]}
        for fault in ('truncated', 'no safetensors', 'other shapes', 'no class names'):
            path.write_bytes(spoil(content, fault))
            assert path.read_bytes() != content
            assert not node.transition('configure'), fault
            node.spin_until(lambda: node.status[0] not in reasons, f'reason for {fault}')
            assert str(path) in node.status[0]
            assert '\n' not in node.status[0]
            reasons.add(node.status[0])
            assert node.state() == 'unconfigured'
        path.write_bytes(content)
        assert node.transition('configure'), 'a mended file is taken'
    finally:
        node.close()


def test_a_publisher_that_cannot_be_made_is_a_reason_and_leaves_nothing_behind(tiny_weights):
    wrong = {'qos_overrides./lw_refinenet/rear/label.publisher.reliability': 'perhaps'}
    node = NodeProcess(weights=str(tiny_weights), cameras=['front', 'rear'], **wrong)
    try:
        node.spin_until(lambda: node.status and 'reliability' in node.status[0], 'reason on /diagnostics')
        assert node.state() == 'unconfigured'
        topics = ('/lw_refinenet/front/label', '/lw_refinenet/label_names')
        node.spin_until(lambda: not any(map(node.client.count_publishers, topics)), 'publishers to go')
        assert not node.transition('configure'), 'nor does it at a second attempt'
    finally:
        node.close()


def test_cuda_that_was_asked_for_and_is_missing_is_an_error_not_a_fallback(tiny_weights):
    torch = pytest.importorskip('torch')
    if torch.cuda.is_available():
        pytest.skip('there is a CUDA device')
    node = NodeProcess(weights=str(tiny_weights), device='cuda')
    try:
        node.spin_until(lambda: node.status and "'cuda'" in node.status[0], 'reason on /diagnostics')
        assert node.state() == 'unconfigured'
    finally:
        node.close()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_complaint(tiny_weights, number):
    node = NodeProcess(weights=str(tiny_weights))
    try:
        node.wait_active()
        status, _, output = node.stop(number)
        assert status == 0, output
        assert 'Traceback' not in output
    finally:
        node.close()


INTERRUPTED = """
import rclpy
from lw_refinenet_ros.node.segmentation_node import SegmentationNode
rclpy.init()
node = SegmentationNode()
rclpy.shutdown()  # as a signal does
print(node.on_configure(None).name)
"""


def test_an_interrupt_while_it_configures_is_no_fault():
    done = subprocess.run([sys.executable, '-c', INTERRUPTED], capture_output=True, text=True)
    assert done.stdout == 'FAILURE\n', done.stderr
    assert 'not configured' not in done.stderr


def test_transitions_under_load_leave_no_thread_descriptor_or_network_behind(tiny_weights):
    node = LongRun(weights=str(tiny_weights), autostart=False, threads=1)
    try:
        node.listen('label', 'overlay')
        go_round(node, 20)  # `python -m benchmark.faults lifecycle` goes a hundred times
    finally:
        node.close()
