# SPDX-License-Identifier: Apache-2.0
"""What the node publishes over DDS, by the rules of Nav2's semantic segmentation layer."""

import itertools
import json

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from array import array

from sensor_msgs.msg import CameraInfo, Image

from lw_refinenet_ros.cli.main import main
from test.support.costmap_node import costmap_node
from test.support.nav2_costmap import Layer
from test.support.node_process import NodeProcess, pixels_of, stamp_of

pytestmark = pytest.mark.ros

HEIGHT, WIDTH = 96, 128
DEPTH_MM = 2000
K = [100.0, 0.0, 63.5, 0.0, 100.0, 47.5, 0.0, 0.0, 1.0]
RESOLUTION = 0.02  # metres: at this depth each pixel is a tile of its own
HOLE = (slice(10, 20), slice(30, 50))
NODE = '/lw_refinenet'


@pytest.fixture(scope='module')
def parameters(tiny_weights, tmp_path_factory):
    """The written file as rcl parses it for a costmap."""
    file = tmp_path_factory.mktemp('nav2') / 'layer.yaml'
    assert main(['costmap', str(tiny_weights), '--output', str(file)]) == 0
    with costmap_node(file) as costmap:
        return {name: p.value for name, p in costmap.get_parameters_by_prefix('semantic_layer').items()}


@pytest.fixture(scope='module')
def node(tiny_weights):
    running = NodeProcess(weights=str(tiny_weights))
    running.wait_active()
    running.depth = running.client.create_publisher(Image, 'depth', running.qos)
    running.info = running.client.create_publisher(CameraInfo, 'camera_info', running.qos)
    yield running
    running.close()


def publish(node, street, stamp_ns):
    depth = np.full((HEIGHT, WIDTH), DEPTH_MM, np.uint16)
    depth[HOLE] = 0
    message = Image(height=HEIGHT, width=WIDTH, step=2 * WIDTH, encoding='16UC1')
    message.data = array('B', depth.tobytes())
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    message.header.frame_id = 'camera_optical'
    node.info.publish(CameraInfo(height=HEIGHT, width=WIDTH, k=K))
    node.depth.publish(message)
    node.send(street, stamp_ns=stamp_ns)


def test_the_layer_accepts_mask_confidence_and_cloud_and_sees_the_right_class_at_every_point(
    node, parameters, street, segmenter
):
    layer = Layer(parameters, 'camera', RESOLUTION)
    names = {kind: topic.removeprefix(f'{NODE}/') for kind, topic in layer.topics.items()}
    node.listen('label_names', *(names[kind] for kind in ('segmentation', 'confidence', 'pointcloud')))
    assert names.pop('labels') == 'label_info', 'which needs vision_msgs; label_names are the same'
    classes = json.loads(node.spin_until(lambda: node.received['label_names'], 'names')[-1].data)['classes']
    layer.take_label_info([(c['id'], c['name']) for c in classes])
    assert layer.critical == []
    stamps = itertools.count(12_000_000_000, 100_000_000)

    def frame():
        publish(node, street, next(stamps))
        node.executor.spin_once(timeout_sec=0.2)
        by_stamp = [{stamp_of(m): m for m in node.received[topic]} for topic in names.values()]
        complete = set.intersection(*map(set, by_stamp))
        return complete and [messages[max(complete)] for messages in by_stamp]

    received = dict(zip(names, node.spin_until(frame, 'mask, confidence and cloud of one stamp')))
    frames = received['segmentation'], received['confidence'], received['pointcloud']
    for _ in range(6):  # more than samples_to_max_cost
        assert layer.take(*frames) == ''
    label = segmenter.segment(street).label
    np.testing.assert_array_equal(pixels_of(received['segmentation']), label)
    costs = {'sky': 0, 'road': 0, 'car': 254}
    seen = set()
    for v, u in itertools.product(range(HEIGHT), range(WIDTH)):
        tile = u - WIDTH // 2, v - HEIGHT // 2
        if HOLE[0].start <= v < HOLE[0].stop and HOLE[1].start <= u < HOLE[1].stop:
            assert layer.class_at(tile) is None
            continue
        seen.add(name := ('sky', 'road', 'car')[label[v, u]])
        assert layer.class_at(tile) == label[v, u], (v, u)
        assert layer.cost_at(tile) == costs[name], (v, u)
    assert len(seen) > 1


def test_the_rules_drop_what_the_layer_drops(parameters):
    layer = Layer(parameters, 'camera', RESOLUTION)
    layer.take_label_info([(0, 'sky'), (1, 'road'), (2, 'car'), (3, 'kerb')])
    assert layer.critical == ['kerb']
    mask = Image(height=2, width=2, data=[0] * 4)
    late = Image(height=2, width=2, data=[0] * 4)
    late.header.stamp.nanosec = 1
    assert layer.take(mask, mask, late) == 'stamps'
    assert layer.take(mask, mask, Image(height=2, width=3)) == 'sizes'
    assert layer.take(Image(height=2, width=2), mask, mask) == 'short mask'
    with pytest.raises(AssertionError, match='no class_types'):
        Layer(parameters | {'camera.class_types': []}, 'camera', RESOLUTION)
    with pytest.raises(AssertionError, match='max_obstacle_distance'):
        Layer(parameters | {'camera.max_obstacle_distance': 5}, 'camera', RESOLUTION)
