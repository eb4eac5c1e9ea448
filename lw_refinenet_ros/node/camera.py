# SPDX-License-Identifier: Apache-2.0
"""One camera: its subscription, its outputs and what became of its frames."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image

from lw_refinenet_ros.image.frame import parse_compressed_image, parse_image
from lw_refinenet_ros.node.diagnostics import WARMING_UP
from lw_refinenet_ros.node.inference_thread import Arrival
from lw_refinenet_ros.node.outputs import ImageOutput, JpegOutput
from lw_refinenet_ros.node.statistics import Statistics

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode
    from rclpy.subscription import Subscription

    from lw_refinenet_ros.image.frame import Frame
    from lw_refinenet_ros.inference.engine import Job
    from lw_refinenet_ros.node.inference_thread import InferenceThread

__all__ = ['Camera', 'quality']

IMAGES = {'label': 'mono8', 'confidence': 'mono8', 'color': 'rgb8', 'overlay': 'rgb8'}
SILENCE_S = 2.0  # without a frame from a matched publisher is worth a warning


def quality(
    reliability: ReliabilityPolicy, durability: DurabilityPolicy = DurabilityPolicy.VOLATILE
) -> QoSProfile:
    """Give a quality of service of depth 1."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=reliability, durability=durability
    )


class Camera:
    """Takes one camera's images and holds its publishers.

    Args:
        node: that subscribes and publishes.
        name: becomes part of the topics; empty for the only camera.
        transport: 'raw' or 'compressed'.

    Attributes:
        name: as above.
        topic: that is subscribed to, resolved.
        images: the image outputs by name.
        jpeg: the compressed overlay.
        outputs: all of them by name.
        statistics: of its frames since the node was configured.
        job: what the last frame needed of the engine; None before the first.
        age_ms: of the last result when it was out, by its stamp and the node's clock; None before the first.

    """

    def __init__(self, node: LifecycleNode, name: str, transport: str) -> None:
        self.name = name
        self._node = node
        prefix = f'{name}/' if name else ''
        compressed = transport == 'compressed'
        # Remapping `image` moves no `image/compressed`: the name is resolved first.
        self.topic = node.resolve_topic_name(f'{prefix}image') + ('/compressed' if compressed else '')
        self._type = CompressedImage if compressed else Image
        self.parse = parse_compressed_image if compressed else parse_image
        overrides = QoSOverridingOptions.with_default_policies()

        def publisher(kind: type, output: str) -> Any:
            return node.create_lifecycle_publisher(
                kind,
                f'~/{prefix}{output}',
                quality(ReliabilityPolicy.RELIABLE),
                qos_overriding_options=overrides,
            )

        self._publishers = {output: publisher(Image, output) for output in IMAGES}
        self._publishers['overlay/compressed'] = publisher(CompressedImage, 'overlay/compressed')
        self.images = {name: ImageOutput(self._publishers[name], IMAGES[name]) for name in IMAGES}
        self.jpeg = JpegOutput(self._publishers['overlay/compressed'])
        self.outputs: dict[str, ImageOutput | JpegOutput] = {**self.images, 'overlay/compressed': self.jpeg}
        self.statistics = Statistics()
        self.job: Job | None = None
        self.age_ms: float | None = None
        self._complaint = ''  # of the last second's worst frame
        self._inference: InferenceThread | None = None
        self._subscription: Subscription | None = None
        self._last_sequence: dict[str, int] = {}
        self._next_due = 0.0  # when max_rate lets the next frame in, monotonic seconds
        self._listening_since = 0.0  # monotonic seconds

    # In the executor's thread

    def listen(self, inference: InferenceThread) -> None:
        """Hand frames to the inference thread from now on."""
        self._inference = inference
        self._subscribe(ReliabilityPolicy.BEST_EFFORT)

    def stop(self) -> None:
        """Listen no more."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._inference = None

    def close(self) -> None:
        """Let go of everything."""
        self.stop()
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def follow_publishers(self) -> None:
        """Ask for reliable transport where every publisher offers it: only then is no large image lost."""
        if self._subscription is None:
            return
        publishers = self._node.get_publishers_info_by_topic(self._subscription.topic_name)
        offered = {publisher.qos_profile.reliability for publisher in publishers}
        all_reliable = offered == {ReliabilityPolicy.RELIABLE}
        wanted = ReliabilityPolicy.RELIABLE if all_reliable else ReliabilityPolicy.BEST_EFFORT
        if offered and wanted != self._subscription.qos_profile.reliability:
            self._subscribe(wanted)

    def take(self) -> None:
        """Take a frame that waits, while the executor is kept from it."""
        if self._subscription is None:
            return
        with self._subscription.handle:
            taken = self._subscription.handle.take_message(self._type, True)
        if taken is not None:
            self._receive(*taken)

    def warning(self) -> str:
        """Say in one line what is wrong with this camera, or give an empty string."""
        complaint, self._complaint = self._complaint, ''
        if complaint:
            return complaint
        if not self._node.count_publishers(self.topic):
            return f'nobody publishes {self.topic}'
        if time.monotonic() - max(self.statistics.last_received, self._listening_since) > SILENCE_S:
            return (
                f'no frame for {SILENCE_S:.0f} s though {self.topic} has a publisher: if its images '
                'are large, give both processes the Fast DDS profile config/fastdds_large_images.xml'
            )
        return ''

    def _subscribe(self, reliability: ReliabilityPolicy) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._last_sequence.clear()
        self._listening_since = time.monotonic()
        self._subscription = self._node.create_subscription(
            self._type, self.topic, self._receive, quality(reliability), raw=True
        )

    def _receive(self, cdr: bytes, info: dict[str, Any]) -> None:
        """Hand the newest frame over; nothing else happens here."""
        now = time.monotonic()
        self.statistics.count('received')
        self._count_lost(info)
        if self._inference is None:
            return
        settings = self._inference.settings
        if not settings.enabled:
            self.statistics.count('disabled')
            return
        if settings.max_rate > 0:
            if now < self._next_due:
                self.statistics.count('skipped')
                return
            period = 1 / settings.max_rate
            self._next_due = max(self._next_due, now - period) + period
        if self._inference.offer(self, Arrival(cdr, now)):
            self.statistics.count(WARMING_UP if self._inference.warming_up else 'superseded')

    def _count_lost(self, info: dict[str, Any]) -> None:
        """Count the gaps in each publisher's sequence numbers, where the middleware gives them."""
        sequence = info.get('publication_sequence_number')
        if sequence is None:
            return
        publisher = str(info.get('publisher_gid'))
        last = self._last_sequence.get(publisher, sequence - 1)
        if sequence > last + 1:
            self.statistics.count('lost', sequence - last - 1)
        self._last_sequence[publisher] = sequence

    # In the inference thread

    def drop(self, fate: str, why: str) -> None:
        """Count a frame that gave no result, and say why."""
        self.statistics.count(fate)
        of = f' of {self.name}' if self.name else ''
        self._complaint = f'frame{of} dropped: {why}'
        if self._node.context.ok():  # else the node is ending, and its outputs with it
            self._node.get_logger().warning(self._complaint, throttle_duration_sec=1.0)

    def log_change(self, frame: Frame, job: Job) -> None:
        """Say that images are of another kind than before."""
        height, width = job.network_size
        of = f' of {self.name}' if self.name else ''
        self._node.get_logger().info(
            f'images{of} are {frame.width}x{frame.height} {frame.encoding}, segmented at {width}x{height}'
        )

    def now_ns(self) -> int:
        """Give the time of the node's clock, in ns."""
        return int(self._node.get_clock().now().nanoseconds)
