# SPDX-License-Identifier: Apache-2.0
"""Requests for transitions that the present state does not have are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lifecycle_msgs.srv import ChangeState
from rclpy._rclpy_pybind11 import RCLError
from rclpy.lifecycle import LifecycleNode

__all__ = ['refuse_impossible_transitions']


def refuse_impossible_transitions(node: LifecycleNode) -> None:
    """Answer a request for an impossible transition by its id with `success` false.

    rclpy does so for one by its label, but lets the error of one by its id, as of a lifecycle manager that
    configures an active node, end the node.
    """
    for service in node.services:
        if service.srv_type is ChangeState:
            service.callback = partial(_change_state, node, service.callback)


def _change_state(
    node: LifecycleNode,
    change: Callable[[ChangeState.Request, ChangeState.Response], ChangeState.Response],
    request: ChangeState.Request,
    response: ChangeState.Response,
) -> ChangeState.Response:
    try:
        return change(request, response)
    except RCLError:
        if not node.context.ok():
            raise
        node.get_logger().error(f'transition {request.transition.id} is impossible in the present state')
        response.success = False
        return response
