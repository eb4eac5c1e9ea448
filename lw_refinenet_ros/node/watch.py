# SPDX-License-Identifier: Apache-2.0
"""What a running node publishes, frame by frame: image, label and confidence of the same stamp."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from lw_refinenet_ros.image.compressed import parse_compressed_image
from lw_refinenet_ros.image.encodings import rgb
from lw_refinenet_ros.image.frame import Frame, FrameError, parse_image
from lw_refinenet_ros.labels import UNLABELLED, LabelSet
from lw_refinenet_ros.node.diagnostics import TOPIC, output_topic, read_status
from lw_refinenet_ros.node.label_info import LATCHED

__all__ = ['Watch']

PATIENCE_S = 10.0  # until the node's diagnostics, which come once a second, and the names of its classes
OUTPUTS = ('label', 'confidence')
MOST_HELD = 30  # images that wait for their label
DEPTH = 10


class Watch:
    """A context manager that subscribes to a node's outputs, which makes it compute them.

    Args:
        node: its fully qualified name; with several cameras NODE/CAMERA.
    """

    def __init__(self, node: str) -> None:
        self._topics = node
        self._ros = rclpy.create_node('lw_refinenet_view', use_global_arguments=False)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._ros)
        self._labels: LabelSet | None = None
        self._latency_ms: dict[str, float] = {}
        self._figures: dict[str, float] = {}
        self._values: dict[str, str] = {}  # of the diagnostics
        self._held: dict[int, dict[str, Frame]] = {}
        self._ready: list[dict[str, Frame]] = []
        above, _, camera = node.rpartition('/')  # of a node with several cameras
        for name in filter(None, (node, above)):
            self._ros.create_subscription(String, f'{name}/label_names', self._take_names, LATCHED)
        self._statuses = (f'{node}: segmentation', f'{above}: {camera}')
        self._ros.create_subscription(DiagnosticArray, '/diagnostics', self._take_status, DEPTH)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._ros.destroy_node()

    def labels(self) -> LabelSet:
        """Wait for the node; return its classes.

        Raises:
            ValueError: it does not run.
        """
        self._spin(lambda: bool(self._labels and self._values))
        if self._labels is None or not self._values:
            raise ValueError(
                f'{self._topics} published no classes and diagnostics for {PATIENCE_S:g} s: is it running? '
                'of several cameras, name one: NODE/CAMERA'
            )
        return self._labels

    def frames(self) -> Iterator[dict[str, Any]]:
        """Yield the fields of frames until rclpy's context ends: those of `ViewedFrame`."""
        images = self._values[TOPIC]
        compressed = images.endswith('/compressed')
        parse = parse_compressed_image if compressed else parse_image
        self._subscribe('image', images, CompressedImage if compressed else Image, parse)
        for output in OUTPUTS:
            topic = output_topic(self._values, self._topics, output)
            self._subscribe(output, topic, Image, parse_image)
        while rclpy.ok():
            try:
                self._executor.spin_once(timeout_sec=0.1)
            except (ExternalShutdownException, RCLError):
                if rclpy.ok():
                    raise
            while self._ready:
                frames = self._ready.pop(0)
                label, confidence = (_values(frames[output]) for output in OUTPUTS)
                yield {
                    'stamp_ns': frames['label'].stamp_ns,
                    'image': rgb(frames['image']),
                    'label': label,
                    'labels': self._labels,
                    'confidence': confidence,
                    'latency_ms': self._latency_ms,
                    'figures': self._figures,
                }

    def _spin(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while rclpy.ok() and time.monotonic() < end and not until():
            self._executor.spin_once(timeout_sec=0.1)

    def _subscribe(self, role: str, topic: str, kind: type, parse: Callable[[bytes], Frame]) -> None:
        """Hold the frames of a topic until all of the same stamp have come."""

        def take(cdr: bytes) -> None:
            with suppress(FrameError):  # the node counts such messages
                frame = parse(cdr)
                held = self._held.setdefault(frame.stamp_ns, {})
                held[role] = frame
                if len(held) == 1 + len(OUTPUTS):
                    self._ready.append(self._held.pop(frame.stamp_ns))
                while len(self._held) > MOST_HELD:
                    del self._held[next(iter(self._held))]

        qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._ros.create_subscription(kind, topic, take, qos, raw=True)

    def _take_names(self, message: String) -> None:
        content = json.loads(message.data)
        classes = [entry for entry in content['classes'] if entry['id'] != UNLABELLED]
        self._labels = LabelSet.from_dict({'name': content['name'], 'classes': classes})

    def _take_status(self, message: DiagnosticArray) -> None:
        for name in self._statuses:
            if status := read_status(message, name):
                _, self._values, _, stages = status
                self._figures = {'rate_hz': float(self._values['rate_hz'])}
                self._latency_ms = {stage: of['p50'] for stage, of in stages.items() if 'p50' in of}


def _values(frame: Frame) -> npt.NDArray[np.uint8]:
    """View a mono8 frame, which the node publishes with tight rows, as (H, W)."""
    return frame.data[: frame.height * frame.width].reshape(frame.height, frame.width)
