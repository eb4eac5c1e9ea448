# SPDX-License-Identifier: Apache-2.0
"""The real node with a dummy network, recording when and how each frame arrived."""

import json
import time
from pathlib import Path

from lw_refinenet_ros.image.frame import parse_stamp
from lw_refinenet_ros.inference import segmenter
from lw_refinenet_ros.inference.engine import Batch, Job
from lw_refinenet_ros.node import camera, segmentation_node
from lw_refinenet_ros.node.message_buffers import Message, MessageBuffers
from lw_refinenet_ros.node.process.malloc import keep_large_allocations

BLOCK = 10  # messages


class NoNetwork:
    """An engine that leaves the labels as they are."""

    name, device, precision = 'none', 'cpu', 'none'
    description = 'no network at all'

    def prepare(self, job: Job) -> None:
        """Compile nothing."""

    def close(self) -> None:
        """Release nothing."""

    def run(self, job: Job, batch: Batch) -> None:
        """Do nothing."""


def run(arrivals: str) -> None:
    """Run the node until interrupted, then write its arrivals to a JSON file.

    The messages are taken into our own buffers and by rclpy in turn, twice `BLOCK` at a time: the player
    changes its way after each `BLOCK`. Of each the file has the stamp and the time at the beginning of the
    callback, both in ns, and whether rclpy took it.
    """
    arrived: list[tuple[int, int, bool]] = []
    receive, take = camera.Camera._receive, MessageBuffers.take

    def timed(self: camera.Camera, cdr: bytes | memoryview, *missing: int) -> None:
        now_ns = time.monotonic_ns()
        receive(self, cdr, *missing)
        arrived.append((parse_stamp(cdr), now_ns, isinstance(cdr, bytes)))

    def in_turn(self: MessageBuffers) -> Message | None:
        message = self._take_by_rclpy() if len(arrived) // (2 * BLOCK) % 2 else take(self)
        return message and message._replace(publisher=None)  # the two ways name it differently

    segmenter.make_engine = lambda *args, **options: NoNetwork()
    camera.Camera._receive, MessageBuffers.take = timed, in_turn
    keep_large_allocations()
    segmentation_node.main()
    Path(arrivals).write_text(json.dumps(arrived))
