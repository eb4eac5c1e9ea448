# SPDX-License-Identifier: Apache-2.0
"""Labelled point clouds: the depths or points of the same stamp for each segmented image."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from lw_refinenet_ros.image.frame import FrameError, parse_image, parse_stamp
from lw_refinenet_ros.image.point_cloud import Pinhole
from lw_refinenet_ros.image.visibility import Pose
from lw_refinenet_ros.inference.segmenter import Segmentation
from lw_refinenet_ros.node.depth_pairing import DepthPairing
from lw_refinenet_ros.node.frames import Frames
from lw_refinenet_ros.node.labelled_cloud import CloudOutputs, Geometry, is_in_place, pinhole
from lw_refinenet_ros.node.parameters import Settings
from lw_refinenet_ros.node.subscription import FollowingSubscription, offered_types, type_name
from lw_refinenet_ros.one_line import one_line

__all__ = ['PointsOutput']

INFO, DEPTH_INFO = 'camera_info', 'depth/camera_info'
SILENCE_S = 2.0  # without depth: then no image is segmented for the points alone


class _Serialized(NamedTuple):
    """A serialized depth image, or a point cloud."""

    cdr: bytes | memoryview
    is_depth: bool


class PointsOutput:
    """Makes labelled clouds of `depth` and its `camera_info`, or else of a cloud on `points`.

    Subscribes to them while the result has subscribers, and to `points` only where `depth` has no publisher.

    Attributes:
        published: number of clouds.
        unpaired: number of segmented images whose depth never came.
    """

    def __init__(
        self, node: LifecycleNode, prefix: str, settings: Callable[[], Settings], outputs: CloudOutputs
    ) -> None:
        self._node, self._settings, self._outputs = node, settings, outputs

        def subscription(kind: type, name: str, receive: Callable[..., None], latched: bool = False) -> Any:
            return FollowingSubscription(node, kind, node.resolve_topic_name(prefix + name), receive, latched)

        def info(name: str) -> Any:
            return subscription(
                CameraInfo, name, lambda cdr, *_: self._infos.update({name: cdr}), latched=True
            )

        self._depth = subscription(Image, 'depth', lambda cdr, *_: self._receive(_Serialized(cdr, True)))
        self._cloud = subscription(
            PointCloud2, 'points', lambda cdr, *_: self._receive(_Serialized(cdr, False))
        )
        self._info, self._depth_info = info(INFO), info(DEPTH_INFO)
        self._infos: dict[str, bytes | memoryview] = {}  # the last of each
        self._frames = Frames(node)
        self.published = self.unpaired = 0
        self._published_then = 0  # `published` at the last image without depth
        self._complaint = ''
        self._call: Callable[[Callable[[], None]], None] | None = None
        self._last_received = 0.0  # monotonic seconds
        self._last_seen = 0.0  # when an image last showed a point, likewise
        self._pairing: DepthPairing[_Serialized, tuple[Header, Segmentation]] = DepthPairing()

    # In the executor's thread

    def listen(self, call: Callable[[Callable[[], None]], None]) -> None:
        """Let `follow` subscribe from now on; `call` runs a task in the inference thread."""
        self._call = call

    def stop(self) -> None:
        """Unsubscribe, and forget the results that wait."""
        self._call = None
        self._close()

    def follow(self) -> None:
        """Adapt the subscriptions to the present publishers and subscribers."""
        if self._call is None:
            return
        if not self._outputs.wanted:
            self._close()
            return
        used = [self._depth, self._depth_info, self._info]
        if self._has_depth:
            self._cloud.close()
        else:
            used.append(self._cloud)  # some middleware tells of publishers to subscribers only
        for subscription in used:
            subscription.open()
            subscription.follow()
        if not self._node.count_publishers(self._depth_info.topic):
            self._infos.pop(DEPTH_INFO, None)
        self._frames.follow()
        if time.monotonic() - self._last_received > SILENCE_S:
            self._pairing.clear_depths()

    def warning(self) -> str:
        """Return in one line why subscribers get no points, or an empty string."""
        complaint, self._complaint = self._complaint, ''
        if self._call is None or not self._outputs.wanted:
            return ''
        depth, info, cloud = self._depth.topic, self._info.topic, self._cloud.topic
        if not self._has_depth and not self._has_cloud:
            for topic, kind in ((depth, Image), (cloud, PointCloud2)):
                if types := offered_types(self._node, topic):
                    carried = ', '.join(sorted(types))
                    return (
                        f'no ~/points: {topic} carries {carried}, not {type_name(kind)}: convert or remap it'
                    )
            return f'no ~/points: nobody publishes {depth} or {cloud}'
        if self._has_depth and INFO not in self._infos:
            return f'no ~/points: {info} is missing beside {depth}'
        if not self._pairing.has_depth:
            return f'no ~/points: nothing came on {depth if self._has_depth else cloud} for {SILENCE_S:.0f} s'
        return complaint

    @property
    def _has_depth(self) -> bool:
        return type_name(Image) in offered_types(self._node, self._depth.topic)

    @property
    def _has_cloud(self) -> bool:
        return type_name(PointCloud2) in offered_types(self._node, self._cloud.topic)

    def _close(self) -> None:
        for subscription in (self._depth, self._depth_info, self._info, self._cloud):
            subscription.close()
        self._pairing.clear()
        self._infos.clear()
        self._frames.close()

    def _receive(self, geometry: _Serialized) -> None:
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
        return self._pairing.has_depth and self._outputs.wanted

    def expect(self, stamp_ns: int) -> None:
        """Keep the depth of an image that is about to be segmented."""
        self._pairing.expect(stamp_ns)

    def add(self, header: Header, stamp_ns: int, result: Segmentation) -> None:
        """Publish a result with confidence now, or when its depth comes; its label is copied."""
        kept = replace(result, label=result.label.copy())
        for distance_ns in self._pairing.add_result(stamp_ns, (header, kept)):
            self.unpaired += 1
            if self.published == self._published_then:  # else depths come at another rate than images
                nearest = (
                    'there is none'
                    if distance_ns is None
                    else f'the nearest is {distance_ns / 1e6:.1f} ms away'
                )
                self._complaint = (
                    f'no ~/points: no depth within {self._settings().points_tolerance * 1e3:.0f} ms of an '
                    f'image, {nearest}: let the camera stamp both alike, or raise points_tolerance'
                )
            self._published_then = self.published
        self._publish_pairs()

    def _publish_pairs(self) -> None:
        """Publish every result whose depth is there."""
        settings = self._settings()
        for (header, result), serialized in self._pairing.pop_pairs(round(settings.points_tolerance * 1e9)):
            try:
                geometry, camera = self._view(serialized, header, result)

                def pose(of: Header = geometry.header, frame: str = header.frame_id) -> Pose:
                    return self._frames.pose(of, frame, settings.points_transform)

                seen = self._outputs.publish(header, result, geometry, camera, pose)
                self.published += 1
                if seen:
                    self._last_seen = time.monotonic()
                elif time.monotonic() - self._last_seen > SILENCE_S:  # a lidar may send parts of its circle
                    self._complaint = (
                        f'the image shows no point of {geometry.header.frame_id!r}: check its pose in '
                        f'{header.frame_id!r}, which must be an optical frame (z ahead)'
                    )
            except Exception as error:  # whatever a message holds, the thread goes on
                kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
                self._complaint = one_line(f'no ~/points: {kind}{error}')

    def _view(
        self, serialized: _Serialized, header: Header, result: Segmentation
    ) -> tuple[Geometry, Pinhole | None]:
        """Return a geometry, and the camera of the image if it is known."""
        info, depth_info = self._infos.get(INFO), self._infos.get(DEPTH_INFO)
        height, width = size = result.label.shape
        if not serialized.is_depth:
            geometry = Geometry.of_cloud(serialized.cdr)
            if info is None or is_in_place(geometry, header, result):
                return geometry, None
            return geometry, pinhole(info, size)
        if info is None:
            raise ValueError(f'{self._info.topic} is missing beside {self._depth.topic}')
        camera = pinhole(info, size)
        depth = parse_image(serialized.cdr)
        if depth_info is not None:
            return Geometry.of_depth(serialized.cdr, pinhole(depth_info, (depth.height, depth.width))), camera
        if (depth.height, depth.width, depth.frame_id) != (height, width, header.frame_id):
            raise ValueError(
                f'depth is {depth.width}x{depth.height} in {depth.frame_id!r}, the image {width}x{height} '
                f'in {header.frame_id!r}: publish {self._depth_info.topic}, or align the depth to the image '
                '(RealSense: align_depth.enable)'
            )
        return Geometry.of_depth(serialized.cdr, camera), camera
