# SPDX-License-Identifier: Apache-2.0
"""One camera: its subscription, its outputs and the fates of its frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy import get_rmw_implementation_identifier
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image

from lw_refinenet_ros.image.compressed import parse_compressed_image
from lw_refinenet_ros.image.encodings import fault_of_brightness
from lw_refinenet_ros.image.frame import Frame, parse_image
from lw_refinenet_ros.inference.engine import Job, Pixels
from lw_refinenet_ros.node.camera_outputs import CameraOutputs
from lw_refinenet_ros.node.diagnostics import LOST, RECEIVED, SEQUENCE, TOPIC
from lw_refinenet_ros.node.parameters import Settings
from lw_refinenet_ros.node.process.middleware import hides_others, remedy, separation
from lw_refinenet_ros.node.statistics import Statistics
from lw_refinenet_ros.node.subscription import FollowingSubscription, offered_types, type_name

__all__ = ['Arrival', 'Camera']

OTHER_CLOCK_MS = 3.6e6  # above this age the stamps come from another clock, as in a replay without /clock
COMPRESSED = '/compressed'  # what image_transport appends to the topic of the raw images
SILENCE_S = 2.0  # without a frame from a matched publisher is worth a warning
FEW_LOST = 0.25  # of the frames of a second; more are worth a warning


@dataclass(frozen=True)
class Arrival:
    """A serialized image and its time of arrival, in seconds of the monotonic clock."""

    cdr: bytes | memoryview
    received: float


class Camera:
    """Receives the images of one camera, and knows its outputs and statistics.

    Args:
        name: becomes part of the topics; empty for the only camera.
        transport: 'raw' or 'compressed'.

    Attributes:
        parse: views a serialized image as a frame.
        outputs: its publishers.
        statistics: of its frames since the node was configured.
    """

    def __init__(
        self, node: LifecycleNode, name: str, transport: str, settings: Callable[[], Settings]
    ) -> None:
        self.name = name
        self._node, self._settings = node, settings
        prefix = f'{name}/' if name else ''
        compressed = transport == 'compressed'
        # Remapping `image` moves no `image/compressed`: the name is resolved first.
        raw = node.resolve_topic_name(f'{prefix}image').removesuffix(COMPRESSED if compressed else '')
        kind, other = (CompressedImage, Image) if compressed else (Image, CompressedImage)
        topic, self._other_topic = (raw + COMPRESSED, raw) if compressed else (raw, raw + COMPRESSED)
        self._type, self._other_type = type_name(kind), type_name(other)
        self._switch = f'set image_transport: {"raw" if compressed else "compressed"}'
        self._subscription = FollowingSubscription(node, kind, topic, self._receive)
        self.parse = parse_compressed_image if compressed else parse_image
        self.outputs = CameraOutputs(node, prefix, settings, self.follow)
        self.statistics = Statistics()
        self._complaint = ''  # of the last second's worst frame
        self._enqueue: Callable[[Camera, Arrival], str] | None = None
        self._logged = {''}  # warnings that the log has seen, each once, without their figures
        self._counted = (0, 0)  # received and lost a second ago
        self._allocate: Callable[[int], Pixels] | None = None
        self._listening_since = 0.0  # monotonic seconds
        self._next_due = 0.0  # when max_rate lets the next frame in, monotonic seconds

    # In the executor's thread

    @property
    def topic(self) -> str:
        """The topic of the images, resolved."""
        return self._subscription.topic

    @property
    def is_idle(self) -> bool:
        """Whether no image is needed at present."""
        return not (self._settings().enabled and self.outputs.have_subscribers)

    def listen(
        self,
        enqueue: Callable[[Camera, Arrival], str],
        call: Callable[[Callable[[], None]], None],
        allocate: Callable[[int], Pixels] | None,
    ) -> None:
        """Subscribe whenever images are needed, and pass messages to the inference thread.

        Args:
            enqueue: takes the newest message and returns the fate of one that waited, or an empty string.
            call: runs a task in the inference thread.
            allocate: returns memory for raw images that the engine reads without a copy, if there is a kind.
        """
        self._enqueue, self._listening_since = enqueue, time.monotonic()
        self._allocate = allocate if self.parse is parse_image else None
        self.outputs.points.listen(call)
        self.follow()
        outputs = ', '.join(self.outputs.topics)
        self._node.get_logger().info(f'segmenting {self.topic} ({self._type}) for subscribers of {outputs}')

    def stop(self) -> None:
        """Unsubscribe."""
        self._subscription.close()
        self.outputs.points.stop()
        self._enqueue = None

    def close(self) -> None:
        """Unsubscribe and destroy the publishers."""
        self.stop()
        self.outputs.close()

    def follow(self) -> None:
        """Adapt the subscriptions to the present publishers and subscribers."""
        if self._enqueue is None:
            return
        if self.is_idle:
            self._subscription.close()
        else:
            self._subscription.open(self._allocate)
            self._subscription.follow()
        self.outputs.points.follow()

    def warning(self) -> str:
        """Return in one line what is wrong with this camera, or an empty string."""
        complaint, self._complaint = self._complaint, ''
        if complaint:  # which is in the log
            return complaint
        warning = self._missing()
        cause = ''.join(character for character in warning if not character.isdigit())
        if cause not in self._logged and time.monotonic() - self._listening_since > SILENCE_S:
            self._logged.add(cause)
            self._node.get_logger().warning(warning)
        return warning

    def _missing(self) -> str:
        """Return in one line what the camera or the points lack, or an empty string."""
        types = offered_types(self._node, self.topic)
        if not types and self.is_idle and hides_others(get_rmw_implementation_identifier()):
            return ''
        if not types:
            beside = f', but there is {self._other_topic}: {self._switch}' if self._has_other else ''
            return f'nobody publishes {self.topic}{beside}'
        if self._type not in types:
            carried, todo = ', '.join(sorted(types)), f'remap `image`, or {self._switch}'
            if self._other_type not in types:
                todo = 'remap `image`, or convert them: ros2 run image_transport republish'
            return f'{self.topic} carries {carried}, not {self._type}: {todo}'
        if self.is_idle:
            return ''
        if time.monotonic() - max(self.statistics.last_received, self._subscription.since) > SILENCE_S:
            apart = separation(get_rmw_implementation_identifier())
            apart = f'{apart}; ' if apart else ''
            only = f'if only {self._other_topic} sends, {self._switch}; ' if self._has_other else ''
            return (
                f'no frame for {SILENCE_S:.0f} s though {self.topic} has a publisher: {apart}{only}if its '
                f'images are large, {self._remedy}'
            )
        return self._losses() or self.outputs.points.warning()

    @property
    def _has_other(self) -> bool:
        return self._other_type in offered_types(self._node, self._other_topic)

    def _losses(self) -> str:
        """Return in one line that too many frames were lost since the last call, or an empty string."""
        fates = self.statistics.fates()
        before, self._counted = self._counted, (fates.get(RECEIVED, 0), fates.get(LOST, 0))
        received, lost = (now - then for now, then in zip(self._counted, before))
        if lost <= FEW_LOST * (received + lost):
            return ''
        shown = f'{lost} of {received + lost} frames of {self.topic} were lost in transport'
        return f'{shown}: if its images are large, {self._remedy}'

    @property
    def _remedy(self) -> str:
        return remedy(get_rmw_implementation_identifier())

    def values(self) -> dict[str, str]:
        """Return the values that the diagnostics show beside the statistics."""
        points = self.outputs.points
        values = {TOPIC: self.topic, 'batch': str(self.statistics.batch)}
        values |= {'points published': str(points.published), 'points without depth': str(points.unpaired)}
        values |= {f'{output} {TOPIC}': topic for output, topic in self.outputs.remapped.items()}
        if self._subscription.span is not None:
            values[SEQUENCE] = '{} to {}'.format(*self._subscription.span)
        age_ms = self.statistics.age_ms
        if age_ms is not None and abs(age_ms) < OTHER_CLOCK_MS:
            values['age_ms'] = f'{age_ms:.1f}'
        return values

    # In the subscription's thread

    def _receive(self, cdr: bytes | memoryview, lost: int) -> None:
        """Enqueue the newest message, unless the parameters forbid it."""
        now = time.monotonic()
        self.statistics.count(RECEIVED)
        if lost:
            self.statistics.count(LOST, lost)
        if self._enqueue is None:
            return
        settings = self._settings()
        if settings.max_rate > 0:
            if now < self._next_due:
                self.statistics.count('skipped')
                return
            period = 1 / settings.max_rate
            self._next_due = max(self._next_due, now - period) + period
        fate = self._enqueue(self, Arrival(cdr, now))
        if fate:
            self.statistics.count(fate)

    # In the inference thread

    def drop(self, fate: str, why: str) -> None:
        """Count a frame without a result, and log the reason."""
        self.statistics.count(fate)
        of = f' of {self.name}' if self.name else ''
        self._complaint = f'frame{of} dropped: {why}'
        if self._node.context.ok():  # else the node is ending, and its outputs with it
            self._node.get_logger().warning(self._complaint, throttle_duration_sec=1.0)

    def log_change(self, frame: Frame, job: Job, brightest: int) -> None:
        """Log that the images differ from those before, and that 16 bits do not hold that many."""
        height, width = job.network_size
        of = f' of {self.name}' if self.name else ''
        self._node.get_logger().info(
            f'images{of} are {frame.width}x{frame.height} {frame.encoding}, segmented at {width}x{height}'
        )
        if frame.encoding.endswith('16') and (dark := fault_of_brightness(brightest)):
            self._node.get_logger().warning(f'images{of}: {dark}')

    def now_ns(self) -> int:
        """Return the time of the node's clock, in ns."""
        return int(self._node.get_clock().now().nanoseconds)
