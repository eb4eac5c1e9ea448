# SPDX-License-Identifier: Apache-2.0
"""A node whose label was remapped: `view --node` and `doctor` find it where it is."""

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from lw_refinenet_ros.node.process.ros_context import ros_context
from lw_refinenet_ros.node.watch import Watch
from test.node.test_doctor import repeated, until
from test.support.node_process import NodeProcess

pytestmark = pytest.mark.ros


@pytest.fixture(scope='module')
def node(tiny_weights):
    running = NodeProcess(weights=str(tiny_weights), remap='~/label:=/semantic/mask')
    running.wait_active()
    yield running
    running.close()


def send(node, street):
    node.send(street, stamp_ns=node.client.get_clock().now().nanoseconds)


def test_the_diagnostics_name_the_topics_of_remapped_outputs_only(node):
    _, values, _, _ = node.status
    assert {key: value for key, value in values.items() if key.endswith('topic')} == {
        'topic': '/image',
        'label topic': '/semantic/mask',
    }


def test_a_viewer_gets_the_remapped_label(node, street, segmenter):
    with ros_context([]) as started, Watch('/lw_refinenet') as watch, repeated(lambda: send(node, street)):
        started()
        watch.labels()
        frame = next(watch.frames())
    assert (frame['label'] == segmenter.segment(street).label).mean() > 0.98


def test_the_doctor_examines_the_remapped_label(node, street, tmp_path):
    _, found = until(
        node,
        street,
        tmp_path / 'doctor.json',
        lambda found: 'label: rate' in found,
        sends=lambda: send(node, street),
    )
    assert found['label: rate']['level'] == 'ok'
    assert found['label: rate']['value'].endswith('on /semantic/mask')
    assert found['image: size']['value'] == '128x96, label 128x96'
