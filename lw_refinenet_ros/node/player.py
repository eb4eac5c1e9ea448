# SPDX-License-Identifier: Apache-2.0
"""Publishes recorded frames as an image topic, each when it is due."""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from lw_refinenet_ros.node.memory import keep_large_allocations
from lw_refinenet_ros.node.outputs import header_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.publisher import Publisher

    from lw_refinenet_ros.image.frame import Frame
    from lw_refinenet_ros.sources.source import Source

__all__ = ['Player', 'Sent', 'play']

SETTLE_S = 2.0  # subscribers that follow our reliability have done so by then
NAP_S = 0.1  # the longest sleep, so that an interrupt is noticed


class Sent(NamedTuple):
    """A frame that was published, its times by the monotonic clock."""

    stamp_ns: int
    due_ns: int
    sent_ns: int


def play(
    source: Source,
    topic: str,
    *,
    rate: float,
    loop: bool,
    clock: bool,
    wait_for_subscriber: bool,
    sent: Callable[[Sent], None],
) -> bool:
    """Play a source until its end, or for ever with `loop`; False if it was interrupted."""
    keep_large_allocations()
    rclpy.init(args=[])
    try:
        player = Player(topic, clock=clock)
        if wait_for_subscriber:
            player.wait_for_subscriber()
        while rclpy.ok():
            player.play(source, rate, sent)
            if not loop:
                break
        return bool(rclpy.ok())
    finally:
        rclpy.try_shutdown()


class Player(Node):  # type: ignore[misc]
    """Plays sources to one topic; stamps, frame ids and pixels go out as they came.

    Args:
        topic: where the images go.
        clock: whether to publish each frame's stamp on /clock before it.

    """

    def __init__(self, topic: str, *, clock: bool = False) -> None:
        super().__init__('lw_refinenet_player')
        self._images = self.create_publisher(
            Image, topic, QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        )
        self._clock: Publisher | None = self.create_publisher(Clock, '/clock', 1) if clock else None
        self._message = Image()

    def wait_for_subscriber(self) -> None:
        """Wait until somebody has subscribed for two seconds without a break."""
        since = time.monotonic()
        while rclpy.ok() and time.monotonic() - since < SETTLE_S:
            if not self._images.get_subscription_count():
                since = time.monotonic()
            time.sleep(NAP_S)

    def play(self, source: Source, rate: float, sent: Callable[[Sent], None]) -> None:
        """Publish every frame of a source, as far apart as its stamps are, divided by `rate`."""
        start: tuple[int, int] | None = None
        for frame in source:
            if not rclpy.ok():
                return
            if start is None:
                start = (time.monotonic_ns(), frame.stamp_ns)
            due_ns = start[0] + round((frame.stamp_ns - start[1]) / rate)
            self._fill(frame)
            _sleep_until(due_ns)
            if not rclpy.ok():
                return
            if self._clock is not None:
                self._clock.publish(Clock(clock=self._message.header.stamp))
            # Before publishing: the subscriber may have the frame before publish() returns.
            sent_ns = time.monotonic_ns()
            self._images.publish(self._message)
            sent(Sent(frame.stamp_ns, due_ns, sent_ns))

    def _fill(self, frame: Frame) -> None:
        message = self._message
        message.header = header_of(frame)
        message.height, message.width, message.step = frame.height, frame.width, frame.step
        message.encoding, message.is_bigendian = frame.encoding, int(frame.is_bigendian)
        if len(message.data) != frame.data.size:
            message.data = array('B', bytes(frame.data.size))
        np.copyto(np.frombuffer(message.data, np.uint8), frame.data)


def _sleep_until(due_ns: int) -> None:
    while rclpy.ok() and (left := (due_ns - time.monotonic_ns()) / 1e9) > 0:
        time.sleep(min(left, NAP_S))
