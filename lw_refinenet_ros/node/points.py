# SPDX-License-Identifier: Apache-2.0
"""Labelled point clouds: each segmented image with the depths or points of the same stamp."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from lw_refinenet_ros.image.frame import FrameError, parse_image, parse_stamp
from lw_refinenet_ros.image.point_cloud import Pinhole, metres, paint, project
from lw_refinenet_ros.node.cloud_message import CloudWriter, copy_xyz
from lw_refinenet_ros.node.depth_pairing import TOLERANCE_NS, DepthPairing
from lw_refinenet_ros.node.subscription import FollowingSubscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode
    from rclpy.publisher import Publisher

    from lw_refinenet_ros.inference.segmenter import Segmentation
    from lw_refinenet_ros.node.cloud_message import Points

__all__ = ['PointsOutput']

SILENCE_S = 2.0  # without depth: then no image is segmented for the points alone


class _Geometry(NamedTuple):
    """A serialized depth image, or a point cloud."""

    cdr: bytes | memoryview
    is_depth: bool


class PointsOutput:
    """Publishes `~/points` from `depth` and `camera_info`, or else from a cloud on `points`.

    Subscribes to them while the result has subscribers, and to `points` only where `depth` has no publisher.

    Args:
        node: that subscribes.
        prefix: of the topics: the camera's name and a slash, or nothing.
        publisher: of the result.

    Attributes:
        published: number of clouds.
        unpaired: number of segmented images whose depth never came.

    """

    def __init__(self, node: LifecycleNode, prefix: str, publisher: Publisher) -> None:
        self._node, self._publisher = node, publisher

        def subscription(kind: type, name: str, receive: Callable[[bytes | memoryview, int], None]) -> Any:
            return FollowingSubscription(node, kind, node.resolve_topic_name(prefix + name), receive)

        self._depth = subscription(Image, 'depth', lambda cdr, _: self._receive(_Geometry(cdr, True)))
        self._cloud = subscription(PointCloud2, 'points', lambda cdr, _: self._receive(_Geometry(cdr, False)))
        self._info = subscription(CameraInfo, 'camera_info', lambda cdr, _: self._receive_info(cdr))
        self._writer = CloudWriter(publisher)
        self.published = self.unpaired = 0
        self._complaint = ''
        self._call: Callable[[Callable[[], None]], None] | None = None
        self._last_received = 0.0  # monotonic seconds
        self._camera_info: bytes | memoryview | None = None
        self._pairing: DepthPairing[_Geometry, tuple[Header, Segmentation]] = DepthPairing()

    # In the executor's thread

    def listen(self, call: Callable[[Callable[[], None]], None]) -> None:
        """Subscribe to depth while there are subscribers; `call` runs a task in the inference thread."""
        self._call = call
        self.follow()

    def stop(self) -> None:
        """Unsubscribe, and forget the results that wait."""
        self._call = None
        self._close()

    def follow(self) -> None:
        """Adapt the subscriptions to the present publishers and subscribers."""
        if self._call is None:
            return
        if not self._publisher.get_subscription_count():
            self._close()
            return
        from_cloud = self._node.count_publishers(self._cloud.topic) and not self._has_depth
        used, unused = [self._depth, self._info], [self._cloud]
        if from_cloud:
            used, unused = unused, used
        for subscription in unused:
            subscription.close()
        for subscription in used:
            subscription.open()
            subscription.follow()
        if time.monotonic() - self._last_received > SILENCE_S:
            self._pairing.clear_depths()

    def warning(self) -> str:
        """Return in one line why subscribers get no points, or an empty string."""
        complaint, self._complaint = self._complaint, ''
        if self._call is None or not self._publisher.get_subscription_count():
            return ''
        depth, info, cloud = self._depth.topic, self._info.topic, self._cloud.topic
        if not self._has_depth and not self._node.count_publishers(cloud):
            return f'no ~/points: nobody publishes {depth} or {cloud}'
        if self._has_depth and self._camera_info is None:
            return f'no ~/points: {info} is missing beside {depth}'
        if not self._pairing.has_depth:
            return f'no ~/points: nothing came on {depth if self._has_depth else cloud} for {SILENCE_S:.0f} s'
        return complaint

    @property
    def _has_depth(self) -> bool:
        return bool(self._node.count_publishers(self._depth.topic))

    def _close(self) -> None:
        for subscription in (self._depth, self._info, self._cloud):
            subscription.close()
        self._pairing.clear()
        self._camera_info = None

    def _receive_info(self, cdr: bytes | memoryview) -> None:
        self._camera_info = cdr

    def _receive(self, geometry: _Geometry) -> None:
        """Keep a depth image or cloud, and publish the result that waits for it."""
        try:
            stamp_ns = parse_stamp(geometry.cdr)
        except FrameError as error:
            self._complaint = f'no ~/points: {error}'
            return
        self._last_received = time.monotonic()
        if self._pairing.add_depth(stamp_ns, geometry) and self._call is not None:
            self._call(self._publish_pairs)

    # In the inference thread

    @property
    def wanted(self) -> bool:
        """Whether there are subscribers, and depth to make points of."""
        return self._pairing.has_depth and bool(self._publisher.get_subscription_count())

    def expect(self, stamp_ns: int) -> None:
        """Keep the depth of an image that is about to be segmented."""
        self._pairing.expect(stamp_ns)

    def add(self, header: Header, stamp_ns: int, result: Segmentation) -> None:
        """Publish a result with confidence now, or when its depth comes; its label is copied."""
        kept = replace(result, label=result.label.copy())
        for distance_ns in self._pairing.add_result(stamp_ns, (header, kept)):
            self.unpaired += 1
            nearest = (
                'there is none' if distance_ns is None else f'the nearest is {distance_ns / 1e6:.1f} ms away'
            )
            self._complaint = (
                f'no ~/points: no depth within {TOLERANCE_NS / 1e6:.0f} ms of an image, {nearest}: '
                'let the camera stamp both alike'
            )
        self._publish_pairs()

    def _publish_pairs(self) -> None:
        """Publish every result whose depth is there."""
        for (header, result), geometry in self._pairing.pop_pairs():
            try:
                self._publish(header, result, geometry)
            except ValueError as error:
                self._complaint = f'no ~/points: {error}'

    def _publish(self, header: Header, result: Segmentation, geometry: _Geometry) -> None:
        assert result.confidence is not None
        points = self._writer.points(*result.label.shape)
        if geometry.is_depth:
            self._project(geometry.cdr, header, points)
        else:
            cloud = deserialize_message(bytes(geometry.cdr), PointCloud2)
            copy_xyz(cloud, points)
            header = Header(stamp=header.stamp, frame_id=cloud.header.frame_id)
        paint(points, result.image, result.order, result.label, result.confidence)
        self._writer.publish(header)
        self.published += 1

    def _project(self, cdr: bytes | memoryview, header: Header, points: Points) -> None:
        depth, info = parse_image(cdr), self._camera_info
        if info is None:
            raise ValueError(f'{self._info.topic} is missing beside {self._depth.topic}')
        if (depth.height, depth.width) != points.shape or depth.frame_id != header.frame_id:
            height, width = points.shape
            raise ValueError(
                f'depth is {depth.width}x{depth.height} in {depth.frame_id!r}, the image {width}x{height} '
                f'in {header.frame_id!r}: align the depth to the image (RealSense: align_depth.enable)'
            )
        project(metres(depth), _pinhole(deserialize_message(bytes(info), CameraInfo)), points)


def _pinhole(info: CameraInfo) -> Pinhole:
    """Return the rectified camera of a camera_info; the raw one where no rectified one is given."""
    fx, cx, fy, cy = info.p[0], info.p[2], info.p[5], info.p[6]
    if not any(info.p):
        fx, cx, fy, cy = info.k[0], info.k[2], info.k[4], info.k[5]
    return Pinhole(info.height, info.width, fx, fy, cx, cy)
