# SPDX-License-Identifier: Apache-2.0
"""The player with made-up frames, which serializes them itself and lets rclpy do it in turn."""

import itertools
import sys

from benchmark.transport_node import BLOCK
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.node.replay import player
from test.support.publisher import publish


def run() -> None:
    """Publish as `test.support.publisher` does, every second `BLOCK` of frames by rclpy."""
    count, fill = itertools.count(), player._Channel.fill

    def in_turn(self: player._Channel, frame: Frame) -> None:
        self.serializes = next(count) // BLOCK % 2 == 0
        fill(self, frame)

    player._Channel.fill = in_turn
    publish(sys.argv[1:])


if __name__ == '__main__':
    run()
