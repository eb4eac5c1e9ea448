# SPDX-License-Identifier: Apache-2.0
"""A node in place of Nav2's costmap, with the parameters of a file as rcl parses them."""

from contextlib import contextmanager

import rclpy


@contextmanager
def costmap_node(file):
    context = rclpy.Context()
    rclpy.init(context=context, args=['--ros-args', '--params-file', str(file)])
    node = rclpy.create_node(
        'local_costmap',
        namespace='local_costmap',
        context=context,
        automatically_declare_parameters_from_overrides=True,
    )
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
