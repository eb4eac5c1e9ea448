# SPDX-License-Identifier: Apache-2.0
"""rclpy, from its start to its end, which an interrupt may bring."""

from __future__ import annotations

import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import ExternalShutdownException

from lw_refinenet_ros.one_line import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ['ros_context']


@contextmanager
def ros_context(args: list[str] | None) -> Iterator[Callable[[], None]]:
    """Start rclpy, and shut it down at the end; for the main thread.

    SIGINT and SIGTERM end rclpy's context, which `rclpy.ok()` tells and which wakes an executor. What rclpy
    raises because of that ends the block, and no more.

    Args:
        args: the command line, None for the process's own.

    Returns:
        `started`: until it is called the signals raise KeyboardInterrupt, and what takes long ends at once.
        After that they raise nothing, since in the middle of rclpy anything could be left half done.

    Raises:
        ValueError: rclpy refuses the command line.

    """
    starting = True

    def started() -> None:
        nonlocal starting
        starting = False

    def interrupt(*_: object) -> None:
        if starting:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _start(args)
        try:
            yield started
        except ExternalShutdownException:
            pass
        except RCLError:
            if rclpy.ok():
                raise
    finally:
        started()
        with suppress(RCLError):  # a signal has just shut it down
            rclpy.try_shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(args: list[str] | None) -> None:
    try:
        rclpy.init(args=args)
    except RCLError as error:
        raise ValueError(one_line(str(error))) from error
