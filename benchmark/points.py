# SPDX-License-Identifier: Apache-2.0
"""The time of labelled clouds on one core, from a serialized depth image or cloud to the message.

`python -m benchmark.points [RUNS]`; pin it to a core: `taskset -c 0`.
"""

from __future__ import annotations

import sys
import time
from array import array

import cv2
import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from benchmark.table import store
from lw_refinenet_ros.image.frame import Frame, serialize_image
from lw_refinenet_ros.image.point_cloud import Pinhole, metres, project
from lw_refinenet_ros.image.visibility import Pose
from lw_refinenet_ros.inference.segmenter import Segmentation
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.node.cloud_message import CloudWriter
from lw_refinenet_ros.node.labelled_cloud import CloudOutputs, Geometry
from lw_refinenet_ros.node.outputs import ImageOutput
from lw_refinenet_ros.node.process.malloc import keep_large_allocations

SIZE = (480, 640)
RUNS = 200
GOAL_MS = 6.0  # p50 of a cloud of SIZE
CAMERA = Pinhole(*SIZE, fx=600.0, fy=600.0, cx=319.5, cy=239.5)
BESIDE = Pose.build((0.05, 0.0, 0.0, 0.0, 0.01, 0.0, 1.0))


class Publisher:
    """A publisher whose messages end here: transport is not timed."""

    def __init__(self, subscribers: int) -> None:
        self.get_subscription_count = lambda: subscribers
        self.publish = lambda _: None


def street(random: np.random.Generator) -> np.ndarray:
    """Return the depths of floor, boxes and walls in millimetres."""
    depth = 600.0 * 1.2 / np.maximum(np.arange(SIZE[0])[:, None] - 200.0, 18.0) * np.ones(SIZE)
    for _ in range(12):
        row, column = random.integers(100, 380), random.integers(0, 560)
        depth[row - 80 : row + 80, column : column + 70] = random.uniform(1.5, 8)
    return (depth * 1000).astype(np.uint16)


def depth_image(array: np.ndarray, frame_id: str, encoding: str) -> Frame:
    """Return a depth image, not serialized."""
    return Frame.from_array(array, stamp_ns=0, frame_id=frame_id, encoding=encoding)


def cloud(frame: Frame, height: int, width: int, point_step: int) -> bytes:
    """Return the points of a depth image as a serialized cloud with x, y and z first."""
    xyz = np.empty((3, *SIZE), np.float32)
    project(metres(frame), CAMERA, xyz)
    data = np.zeros((height * width, point_step // 4), np.float32)
    data[:, :3] = xyz.reshape(3, -1).T
    fields = [
        PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate('xyz')
    ]
    message = PointCloud2(
        header=Header(frame_id=frame.frame_id), height=height, width=width, fields=fields,
        point_step=point_step, row_step=width * point_step, data=array('B', data.tobytes()),
    )  # fmt: skip
    return serialize_message(message)


def main(arguments: list[str] | None = None) -> None:
    """Time the usual inputs in turns."""
    runs = int(arguments[0]) if arguments else RUNS
    keep_large_allocations()
    cv2.setNumThreads(1)
    random = np.random.default_rng(1)
    image = random.integers(0, 255, (*SIZE, 3), np.uint8)
    label, confidence = (random.integers(0, 11, SIZE, np.uint8) for _ in range(2))
    classes = LabelSet('eleven', tuple(map(str, range(11))), ((0, 0, 0),) * 11)
    result = Segmentation(image=image, order='rgb', label=label, confidence=confidence, labels=classes)

    millimetres = street(random)
    aligned, beside = (depth_image(millimetres, frame_id, '16UC1') for frame_id in ('camera', 'depth'))
    in_metres = depth_image((millimetres / np.float32(1000)).astype(np.float32), 'depth', '32FC1')
    inputs = {
        'depth aligned to the image': (Geometry.of_depth, serialize_image(aligned), CAMERA),
        'depth of another camera, 16UC1': (Geometry.of_depth, serialize_image(beside), CAMERA),
        'depth of another camera, 32FC1': (Geometry.of_depth, serialize_image(in_metres), CAMERA),
        'cloud aligned to the image, 32 bytes a point': (Geometry.of_cloud, cloud(aligned, *SIZE, 32)),
        'organised cloud, 32 bytes a point': (Geometry.of_cloud, cloud(beside, *SIZE, 32)),
        'unorganised cloud, 16 bytes a point': (Geometry.of_cloud, cloud(beside, 1, millimetres.size, 16)),
    }
    outputs = {
        name: CloudOutputs(CloudWriter(Publisher(1)), *(ImageOutput(Publisher(0), 'mono8') for _ in range(2)))
        for name in inputs
    }
    times: dict[str, list[float]] = {name: [] for name in inputs}
    for _ in range(runs):
        for name, (read, *message) in inputs.items():
            started = time.thread_time()
            outputs[name].publish(Header(frame_id='camera'), result, read(*message), CAMERA, lambda: BESIDE)
            times[name].append((time.thread_time() - started) * 1e3)
    rows = [
        {
            'input': name,
            'p50 (ms)': float(np.median(each)),
            'p95 (ms)': float(np.percentile(each, 95)),
            'fastest (ms)': min(each),
        }
        for name, each in times.items()
    ]
    worst = max(float(row['p50 (ms)']) for row in rows)
    reached = 'reached' if worst <= GOAL_MS else 'missed'
    conditions = (
        f'{SIZE[1]}x{SIZE[0]} points and pixels, CPU time of one thread, {runs} runs of each in turns: from '
        'the serialized depth image or cloud, and labels, to the message of x, y, z, rgb, label and '
        'confidence, without transport. What is not aligned is projected into the image, hidden points left '
        'unlabelled.'
    )
    notes = [conditions, f'p50 of each at most {GOAL_MS:g} ms: {reached}.']
    store('points', 'The time of a labelled cloud', rows, notes, ('numpy', 'opencv-python-headless'))


if __name__ == '__main__':
    main(sys.argv[1:])
