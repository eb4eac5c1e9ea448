# SPDX-License-Identifier: Apache-2.0
"""The outputs of one camera."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.inference.engine import Pixels
from lw_refinenet_ros.inference.segmenter import Segmentation
from lw_refinenet_ros.node.parameters import Settings

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks

from lw_refinenet_ros.labels import UNLABELLED_NAME
from lw_refinenet_ros.node.cloud_message import CloudWriter
from lw_refinenet_ros.node.labelled_cloud import CloudOutputs
from lw_refinenet_ros.node.outputs import ImageOutput, JpegOutput, header_of
from lw_refinenet_ros.node.points import PointsOutput
from lw_refinenet_ros.node.subscription import quality

__all__ = ['CameraOutputs']

IMAGES = {'label': 'mono8', 'confidence': 'mono8', 'mask': 'mono8', 'color': 'rgb8', 'overlay': 'rgb8'}
JPEG, POINTS = 'overlay/compressed', 'points'
WITH_CONFIDENCE = {'confidence', POINTS}


class CameraOutputs:
    """Publishes those outputs of a camera that have subscribers.

    Args:
        prefix: of the topics: the camera's name and a slash, or nothing.
        came: called in the executor's thread when an output has a new subscriber; not on Humble.
    """

    def __init__(
        self, node: LifecycleNode, prefix: str, settings: Callable[[], Settings], came: Callable[[], None]
    ) -> None:
        self._node, self._prefix = node, prefix
        self._publishers: dict[str, Publisher] = {}  # by output
        try:
            events = PublisherEventCallbacks(matched=lambda status: came() if status.current_count else None)
        except TypeError:  # Humble
            events = PublisherEventCallbacks()

        def publisher(kind: type, output: str) -> Publisher:
            self._publishers[output] = node.create_lifecycle_publisher(
                kind,
                f'~/{prefix}{output}',
                quality(ReliabilityPolicy.RELIABLE),
                event_callbacks=events,
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            return self._publishers[output]

        self._images = {name: ImageOutput(publisher(Image, name), kind) for name, kind in IMAGES.items()}
        self._jpeg = JpegOutput(publisher(CompressedImage, JPEG))
        of_points = [ImageOutput(publisher(Image, f'{POINTS}/{n}'), 'mono8') for n in ('label', 'confidence')]
        clouds = CloudOutputs(CloudWriter(publisher(PointCloud2, POINTS)), *of_points)
        self.points = PointsOutput(node, prefix, settings, clouds)  # which has inputs of its own
        self._all: dict[str, ImageOutput | JpegOutput | PointsOutput] = {**self._images}
        self._all |= {JPEG: self._jpeg, POINTS: self.points}

    @property
    def topics(self) -> list[str]:
        """The topics of all outputs, resolved."""
        return [publisher.topic_name for publisher in self._publishers.values()]

    @property
    def remapped(self) -> dict[str, str]:
        """The resolved topics of those outputs that were remapped, by output."""
        topics = {output: publisher.topic_name for output, publisher in self._publishers.items()}
        resolve = self._node.resolve_topic_name
        return {
            output: topic
            for output, topic in topics.items()
            if topic != resolve(f'~/{self._prefix}{output}', only_expand=True)
        }

    @property
    def have_subscribers(self) -> bool:
        """Whether any output has a subscriber."""
        return any(publisher.get_subscription_count() for publisher in self._publishers.values())

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def wanted(self) -> set[str]:
        """Return the names of the outputs that have subscribers."""
        return {name for name, output in self._all.items() if output.wanted}

    @staticmethod
    def need_confidence(wanted: set[str]) -> bool:
        """Return whether any of the outputs contains the confidence."""
        return bool(wanted & WITH_CONFIDENCE)

    def label_memory(self, height: int, width: int) -> Pixels:
        """Return the memory of the label message, uint8 (H, W): a label that lies there is not copied."""
        return self._images['label'].memory(height, width)

    def publish(self, wanted: set[str], frame: Frame, result: Segmentation, settings: Settings) -> None:
        """Publish the wanted outputs of a frame."""
        header, size, images = header_of(frame), result.label.shape, self._images
        if 'label' in wanted:
            images['label'].publish(header, result.label)
        if 'confidence' in wanted and result.confidence is not None:
            images['confidence'].publish(header, result.confidence)
        if 'mask' in wanted:
            # While another model warms up, the setting may name its classes already.
            masked = [n for n in settings.mask_classes if n in (*result.labels.names, UNLABELLED_NAME)]
            images['mask'].publish(header, result.mask(masked, images['mask'].memory(*size)))
        if 'color' in wanted:
            images['color'].publish(header, result.color(out=images['color'].memory(*size)))
        if wanted & {'overlay', JPEG}:
            overlay = images['overlay'].memory(*size)
            painted = [name for name in settings.overlay_classes if name in result.labels.names]
            result.overlay(settings.overlay_alpha, painted if settings.overlay_classes else None, out=overlay)
            if 'overlay' in wanted:
                images['overlay'].publish(header, overlay)
            if JPEG in wanted:
                self._jpeg.publish(header, overlay)
        if POINTS in wanted:
            self.points.add(header, frame.stamp_ns, result)
