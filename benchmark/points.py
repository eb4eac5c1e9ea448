# SPDX-License-Identifier: Apache-2.0
"""The time of labelled clouds on one core: of depth aligned to the image, and of another camera."""

import time
from collections.abc import Callable

import cv2
import numpy as np

from benchmark.table import store
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.image.point_cloud import (
    POINT,
    Pinhole,
    metres,
    pack_class,
    pack_color,
    project,
    write_points,
)
from lw_refinenet_ros.image.visibility import Pose, locate, look_up
from lw_refinenet_ros.node.process.malloc import keep_large_allocations

SIZE = (480, 640)
RUNS = 200
GOAL_MS = 6.0  # p50 of a cloud of SIZE
CAMERA = Pinhole(*SIZE, fx=600.0, fy=600.0, cx=319.5, cy=239.5)
BESIDE = Pose.build((0.05, 0.0, 0.0, 0.0, 0.01, 0.0, 1.0))


def main() -> None:
    """Time a street of floor, boxes and walls."""
    keep_large_allocations()
    cv2.setNumThreads(1)
    random = np.random.default_rng(1)
    image = random.integers(0, 255, (*SIZE, 3), np.uint8)
    label, confidence = (random.integers(0, 11, SIZE, np.uint8) for _ in range(2))
    depth = 600.0 * 1.2 / np.maximum(np.arange(SIZE[0])[:, None] - 200.0, 18.0) * np.ones(SIZE)
    for _ in range(12):
        row, column = random.integers(100, 380), random.integers(0, 560)
        depth[row - 80 : row + 80, column : column + 70] = random.uniform(1.5, 8)
    millimetres = (depth * 1000).astype(np.uint16)
    frame = Frame(0, '', *SIZE, '16UC1', SIZE[1] * 2, millimetres.view(np.uint8).reshape(-1))
    points, xyz = np.empty(SIZE, POINT), np.empty((3, *SIZE), np.float32)

    def write(pose: Pose | None) -> None:
        color, classes = pack_color(image, 'rgb'), pack_class(label, confidence)
        project(metres(frame), CAMERA, xyz)
        if pose is not None:
            index = locate(xyz, CAMERA, pose)
            color, classes = look_up(color, index, 0), look_up(classes, index, 255)
        write_points(points, xyz, color, classes)

    rows = [
        _timed('depth aligned to the image', write, None),
        _timed('depth of another camera', write, BESIDE),
    ]
    reached = 'reached' if rows[1]['p50 (ms)'] <= GOAL_MS else 'missed'
    conditions = (
        f'{SIZE[1]}x{SIZE[0]} points and pixels, CPU time of one thread, {RUNS} runs: from 16UC1 and labels '
        'to the bytes of x, y, z, rgb, label and confidence, without transport. The second are projected '
        'into the image, the hidden ones left unlabelled.'
    )
    notes = [conditions, f'Another camera, p50 at most {GOAL_MS:g} ms: {reached}.']
    store('points', 'The time of a labelled cloud', rows, notes, ('numpy', 'opencv-python-headless'))


def _timed(name: str, work: Callable[[Pose | None], None], pose: Pose | None) -> dict[str, float | str]:
    times = []
    for _ in range(RUNS):
        started = time.thread_time()
        work(pose)
        times.append((time.thread_time() - started) * 1e3)
    p50, p95 = (float(np.percentile(times, share)) for share in (50, 95))
    return {'points': name, 'p50 (ms)': p50, 'p95 (ms)': p95, 'fastest (ms)': min(times)}


if __name__ == '__main__':
    main()
