# SPDX-License-Identifier: Apache-2.0
"""The node's log names its topics, and each thing that is missing once."""

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from test.support.long_run import LongRun

pytestmark = pytest.mark.ros

TOPIC = '/nowhere'


@pytest.fixture(scope='module')
def node(tiny_weights):
    running = LongRun(weights=str(tiny_weights), threads=1, remap=f'image:={TOPIC}')
    yield running
    running.close()


def in_log(node, text):
    return [line for line in node.said if text in line]


def diagnostics(node, count):
    for _ in range(count):
        node.status = None
        node.spin_until(lambda: node.status, 'diagnostics')


def test_it_names_the_topics_when_it_is_active(node):
    (line,) = node.spin_until(lambda: in_log(node, f'segmenting {TOPIC} (sensor_msgs/msg/Image)'), 'line')
    assert '/lw_refinenet/label, ' in line
    assert '/lw_refinenet/points' in line


def test_it_says_once_that_nobody_publishes(node):
    node.spin_until(lambda: in_log(node, f'nobody publishes {TOPIC}'), 'warning')
    diagnostics(node, 2)
    assert len(in_log(node, f'nobody publishes {TOPIC}')) == 1


def test_it_says_once_why_there_are_no_points(node, street):
    camera = node.client.create_publisher(Image, TOPIC, 1)
    node.listen('points')

    def complained():
        node.send(street, publisher=camera)
        return in_log(node, 'no ~/points: nobody publishes /depth or /points')

    node.spin_until(complained, 'warning')
    diagnostics(node, 2)
    assert len(complained()) == 1


def test_it_says_what_parameters_were_and_are_and_of_a_slider_only_where_it_stops(node):
    node.spin_until(lambda: in_log(node, 'segmenting'), 'active node')
    passed = [Parameter('overlay_alpha', value=n / 100) for n in range(51, 81)]
    changes = [*passed, Parameter('overlay_classes', value=['road']), Parameter('max_rate', value=0.0)]
    request = SetParameters.Request(parameters=[each.to_parameter_msg() for each in changes])
    node.call(SetParameters, 'set_parameters', request)
    assert not node.set(overlay_alpha=2.0)[0].successful
    node.spin_until(lambda: in_log(node, ' -> '), 'line')
    diagnostics(node, 2)
    alpha, classes = in_log(node, ' -> ')
    assert '[INFO]' in alpha
    assert alpha.endswith('overlay_alpha: 0.5 -> 0.8')
    assert classes.endswith("overlay_classes: [''] -> ['road']")
