# SPDX-License-Identifier: Apache-2.0
"""The node as it is, with a network that does nothing and a note of when each frame arrived."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from lw_refinenet_ros.image.frame import parse_stamp
from lw_refinenet_ros.inference import segmenter
from lw_refinenet_ros.inference.engine import Job, Pixels
from lw_refinenet_ros.node import segmentation_node


class NoNetwork:
    """An engine that leaves the labels as they are."""

    name, device, precision = 'none', 'cpu', 'none'
    description = 'no network at all'

    def prepare(self, job: Job) -> None:
        """Compile nothing."""

    def close(self) -> None:
        """Release nothing."""

    def run(self, job: Job, images: Sequence[Pixels], labels: Sequence[Pixels], confidences: object) -> None:
        """Do nothing."""


class TimedNode(segmentation_node.SegmentationNode):
    """Notes stamp and arrival, both in ns, of each message in the callback of the image's subscription."""

    arrivals: list[tuple[int, int]] = []  # noqa: RUF012

    def create_subscription(self, kind: type, topic: str, callback, *args: object, **options: object):
        """Subscribe with the node's own callback behind the clock."""
        if not topic.endswith('/image'):
            return super().create_subscription(kind, topic, callback, *args, **options)

        def timed(cdr: bytes, info: dict) -> None:
            now_ns = time.monotonic_ns()
            callback(cdr, info)
            self.arrivals.append((parse_stamp(cdr), now_ns))

        return super().create_subscription(kind, topic, timed, *args, **options)


def run(arrivals: str) -> None:
    """Run the node until it is interrupted, then write what arrived when into a JSON file."""
    segmenter.make_engine = lambda *args, **options: NoNetwork()
    segmentation_node.SegmentationNode = TimedNode
    segmentation_node.main()
    Path(arrivals).write_text(json.dumps(TimedNode.arrivals))
