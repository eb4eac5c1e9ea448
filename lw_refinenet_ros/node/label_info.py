# SPDX-License-Identifier: Apache-2.0
"""The names of the ids in a label image, latched for subscribers that come late."""

from __future__ import annotations

import json
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from lw_refinenet_ros.labels import UNLABELLED, UNLABELLED_NAME, LabelSet

__all__ = ['LATCHED', 'LabelPublishers']

LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


class LabelPublishers:
    """`~/label_names`, and `~/label_info` where vision_msgs is installed.

    Attributes:
        all: the publishers, to be destroyed by their node.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._names = node.create_publisher(String, '~/label_names', LATCHED)
        self.all = [self._names]
        try:
            from vision_msgs.msg import LabelInfo, VisionClass
        except ImportError:
            self._info = None
            node.get_logger().info('no ~/label_info, which Nav2 needs: vision_msgs is not installed')
        else:
            self._info_type, self._class_type = LabelInfo, VisionClass
            self._info = node.create_publisher(LabelInfo, '~/label_info', LATCHED)
            self.all.append(self._info)

    def publish(self, labels: LabelSet) -> None:
        """Publish the name of every id, the unlabelled one included."""
        names = _label_names(labels)
        self._names.publish(String(data=json.dumps(names)))
        if self._info is not None:
            classes = [self._class_type(class_id=c['id'], class_name=c['name']) for c in names['classes']]
            info = self._info_type(class_map=classes)
            info.header.stamp = self._node.get_clock().now().to_msg()
            self._info.publish(info)


def _label_names(labels: LabelSet) -> dict[str, Any]:
    classes = [
        {'id': i, 'name': name, 'color': list(color)}
        for i, (name, color) in enumerate(zip(labels.names, labels.colors))
    ]
    return {
        'name': labels.name,
        'classes': [*classes, {'id': UNLABELLED, 'name': UNLABELLED_NAME, 'color': [0, 0, 0]}],
    }
