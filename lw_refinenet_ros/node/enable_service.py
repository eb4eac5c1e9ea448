# SPDX-License-Identifier: Apache-2.0
"""The service `~/enable`, which switches segmentation on and off."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

__all__ = ['offer_enable']


def offer_enable(node: Node) -> None:
    """Offer `~/enable`, which sets the parameter `enabled`, where std_srvs is installed."""
    try:
        from std_srvs.srv import SetBool
    except ImportError:
        node.get_logger().info('no ~/enable: std_srvs is not installed')
        return

    def enable(request: Any, response: Any) -> Any:
        result = node.set_parameters_atomically([Parameter('enabled', value=request.data)])
        response.success, response.message = result.successful, result.reason
        return response

    node.create_service(SetBool, '~/enable', enable)
