# SPDX-License-Identifier: Apache-2.0
"""rclpy's context as a context manager that ends cleanly on SIGINT and SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import rclpy
from rclpy._rclpy_pybind11 import RCLError, UnknownROSArgsError
from rclpy.executors import ExternalShutdownException
from rclpy.signals import SignalHandlerOptions

from lw_refinenet_ros.one_line import one_line

__all__ = ['ros_context']


@contextmanager
def ros_context(args: list[str] | None) -> Iterator[Callable[[], None]]:
    """Start rclpy, and shut it down at the end; for the main thread.

    SIGINT and SIGTERM end rclpy's context: `rclpy.ok()` turns false and an executor wakes. The errors that
    rclpy raises for that reason end the block, and no more. A signal that is ignored stays ignored.

    Args:
        args: the command line, None for the process's own.

    Yields:
        `started`: until it is called the signals go to the handler that was there before, or raise
        KeyboardInterrupt, which ends a long start at once. After that they raise nothing, since in the
        middle of rclpy anything could be left half done; the handler gets them after the block.

    Raises:
        ValueError: rclpy refuses the command line.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    starting, missed = True, list[signal.Signals]()

    def started() -> None:
        nonlocal starting
        starting = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if not starting:
            missed.append(signal.Signals(number))
        elif callable(handler):
            handler(number, frame)
        else:
            raise KeyboardInterrupt

    for number in before:
        signal.signal(number, interrupt)
    try:
        _start(args, SignalHandlerOptions.ALL if signal.SIGINT in before else SignalHandlerOptions.SIGTERM)
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
        for number in missed:
            handler = before[number]
            if callable(handler):
                handler(number, None)


def _start(args: list[str] | None, handlers: SignalHandlerOptions) -> None:
    try:
        rclpy.init(args=args, signal_handler_options=handlers)
    except UnknownROSArgsError as error:
        raise ValueError(
            f'unknown arguments {one_line(str(error))} after --ros-args: '
            'write -r TOPIC:=NAME to remap, -p NAME:=VALUE for a parameter'
        ) from error
    except RCLError as error:
        said = one_line(str(error))
        remedy = ': set ROS_LOG_DIR to a folder that can be written' if 'initialize logging' in said else ''
        raise ValueError(f'{said}{remedy}') from error
