# SPDX-License-Identifier: Apache-2.0
"""A segmented image and the depths or points that belong to it, as a labelled cloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from lw_refinenet_ros.image.cloud import copy_xyz, parse_cloud
from lw_refinenet_ros.image.frame import parse_image
from lw_refinenet_ros.image.point_cloud import Pinhole, metres, pack_class, pack_color, project, write_points
from lw_refinenet_ros.image.visibility import Pose, locate, look_up
from lw_refinenet_ros.inference.segmenter import Segmentation
from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.node.cloud_message import CloudWriter
from lw_refinenet_ros.node.outputs import ImageOutput, header_of

__all__ = ['CloudOutputs', 'Geometry', 'is_in_place', 'pinhole']

LABEL_BYTE, CONFIDENCE_BYTE = 0, 2  # of what `pack_class` returns
UNKNOWN_VIEWPOINT_M = 0.1  # a cloud in the camera's frame may have been seen from elsewhere


class Geometry(NamedTuple):
    """Points of any number."""

    header: Header  # of the depth image or cloud
    size: tuple[int, int]  # (height, width) of it; a cloud that is not organised has one row
    camera: Pinhole | None  # of the depth image; None for a cloud
    # Writes x, y and z of every point into float32 (3, height, width)
    write: Callable[[npt.NDArray[np.float32]], None]

    @classmethod
    def of_depth(cls, cdr: bytes | memoryview, camera: Pinhole) -> Geometry:
        """View a serialized depth image.

        Raises:
            FrameError: it is none.
        """
        frame = parse_image(cdr)
        size = (frame.height, frame.width)
        return cls(header_of(frame), size, camera, lambda xyz: project(metres(frame, xyz[2]), camera, xyz))

    @classmethod
    def of_cloud(cls, cdr: bytes | memoryview) -> Geometry:
        """View a serialized cloud.

        Raises:
            ValueError: it has no points, no coordinates, or less data than so many need.
        """
        cloud = parse_cloud(cdr)
        _, height, width = cloud.xyz.shape
        return cls(header_of(cloud), (height, width), None, lambda xyz: copy_xyz(cloud, xyz))


class CloudOutputs:
    """Publishes labelled clouds, and their labels and confidences as images of the cloud's size."""

    def __init__(self, points: CloudWriter, label: ImageOutput, confidence: ImageOutput) -> None:
        self._points, self._label, self._confidence = points, label, confidence
        self._xyz = np.empty((3, 0, 0), np.float32)

    @property
    def wanted(self) -> bool:
        """Whether there are subscribers."""
        return self._points.wanted or self._label.wanted or self._confidence.wanted

    def publish(
        self,
        header: Header,
        result: Segmentation,
        geometry: Geometry,
        camera: Pinhole | None,
        pose: Callable[[], Pose],
    ) -> bool:
        """Publish what is wanted.

        A geometry with a point for each pixel gets the stamp of the image, any other keeps its own.

        Args:
            header: of the image.
            result: with confidence.
            geometry: seen at about the same time.
            camera: that took the image, if it is known.
            pose: returns where the geometry's frame lies in the image's.

        Returns:
            Whether the image shows any of the points, if there are any.

        Raises:
            ValueError: they do not fit together.
        """
        assert result.confidence is not None
        own, seen = geometry.header, True
        if self._xyz.shape[1:] != geometry.size:
            self._xyz = np.empty((3, *geometry.size), np.float32)
        # Whether points are wanted is asked once, since it may change meanwhile.
        color = pack_color(result.image, result.order) if self._points.wanted else None
        classes = pack_class(result.label, result.confidence)
        if _is_aligned(geometry, header, result, camera):
            own = Header(stamp=header.stamp, frame_id=own.frame_id)
            if color is not None:
                geometry.write(self._xyz)
        else:
            height, width = result.label.shape
            if camera is None or (camera.height, camera.width) != (height, width):
                of = f'camera_info is of {camera.width}x{camera.height}' if camera else 'no camera_info comes'
                raise ValueError(f'the image is {width}x{height}, but {of}: publish the one of the image')
            geometry.write(self._xyz)
            baseline = UNKNOWN_VIEWPOINT_M if geometry.camera is None else 0.0
            index = locate(self._xyz, camera, pose(), baseline)
            color = None if color is None else look_up(color, index, 0)
            classes = look_up(classes, index, UNLABELLED)
            seen = bool((classes != UNLABELLED).any() or np.isnan(self._xyz[2]).all())
        if color is not None:
            write_points(self._points.points(*geometry.size), self._xyz, color, classes)
            self._points.publish(own)
        each = classes.view(np.uint8).reshape(*geometry.size, 4)
        for image, byte in ((self._label, LABEL_BYTE), (self._confidence, CONFIDENCE_BYTE)):
            if image.wanted:
                image.publish(own, each[..., byte])
        return seen


def is_in_place(geometry: Geometry, header: Header, result: Segmentation) -> bool:
    """Return whether a geometry has as many points as the image pixels, in the frame of the image."""
    return (geometry.size, geometry.header.frame_id) == (result.label.shape, header.frame_id)


def _is_aligned(geometry: Geometry, header: Header, result: Segmentation, camera: Pinhole | None) -> bool:
    """Whether each pixel of the image has its point, in the order of the pixels."""
    same_camera = geometry.camera is None or camera is None or geometry.camera == camera
    return is_in_place(geometry, header, result) and same_camera


def pinhole(cdr: bytes | memoryview, size: tuple[int, int]) -> Pinhole:
    """Return the rectified camera of a serialized camera_info; the raw one where no rectified one is given.

    Args:
        cdr: the message.
        size: (height, width) of the camera's images, by which it is told whether they are binned or a region
            of the whole image that the message describes.

    Raises:
        ValueError: it is not calibrated.
    """
    info = deserialize_message(bytes(cdr), CameraInfo)
    fx, cx, fy, cy = info.p[0], info.p[2], info.p[5], info.p[6]
    if not any(info.p):
        fx, cx, fy, cy = info.k[0], info.k[2], info.k[4], info.k[5]
    roi, across, down = info.roi, max(info.binning_x, 1), max(info.binning_y, 1)
    part = ((roi.height or info.height) // down, (roi.width or info.width) // across)
    if size != part or size == (info.height, info.width):
        return Pinhole(info.height, info.width, fx, fy, cx, cy)
    return Pinhole(*part, fx / across, fy / down, (cx - roi.x_offset) / across, (cy - roi.y_offset) / down)
