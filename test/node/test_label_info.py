# SPDX-License-Identifier: Apache-2.0
"""The names of the classes as vision_msgs has them, which no wheel brings."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from rclpy.qos import DurabilityPolicy, QoSProfile

from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.node.label_info import LabelPublishers
from test.support.node_process import NodeProcess

pytestmark = pytest.mark.ros

NAMED = {0: 'sky', 1: 'road', 2: 'car', 255: 'unlabelled'}


def test_label_info_is_latched_and_lists_the_unlabelled(tiny_weights):
    vision_msgs = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    node = NodeProcess(weights=str(tiny_weights))
    try:
        node.wait_active()
        received = []
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.client.create_subscription(
            vision_msgs.LabelInfo, '/lw_refinenet/label_info', received.append, latched
        )
        (message,) = node.spin_until(lambda: received, 'label info')
        assert {c.class_id: c.class_name for c in message.class_map} == NAMED
    finally:
        node.close()


class FakeNode:
    """Remembers what was published, by topic."""

    def __init__(self):
        self.published, self.said = {}, []

    def create_publisher(self, kind, topic, qos):
        return SimpleNamespace(publish=lambda message: self.published.update({topic: message}))

    def get_logger(self):
        return SimpleNamespace(info=self.said.append)

    def get_clock(self):
        return SimpleNamespace(now=lambda: SimpleNamespace(to_msg=lambda: 'now'))


@pytest.mark.parametrize('installed', [True, False])
def test_label_info_is_published_where_vision_msgs_is_installed_and_missed_aloud(monkeypatch, installed):
    vision_msgs, messages = ModuleType('vision_msgs'), ModuleType('vision_msgs.msg')
    messages.VisionClass = SimpleNamespace
    messages.LabelInfo = lambda **fields: SimpleNamespace(header=SimpleNamespace(), **fields)
    monkeypatch.setitem(sys.modules, 'vision_msgs', vision_msgs if installed else None)
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', messages if installed else None)
    node = FakeNode()
    labels = LabelSet('tiny', ('sky', 'road', 'car'), ((1, 2, 3),) * 3)
    LabelPublishers(node).publish(labels)
    names = json.loads(node.published['~/label_names'].data)['classes']
    assert {c['id']: c['name'] for c in names} == NAMED
    if installed:
        info = node.published['~/label_info']
        assert {c.class_id: c.class_name for c in info.class_map} == NAMED
        assert info.header.stamp == 'now'
        assert node.said == []
    else:
        assert list(node.published) == ['~/label_names']
        assert 'vision_msgs is not installed' in node.said[0]
