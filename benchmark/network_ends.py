# SPDX-License-Identifier: Apache-2.0
"""The three processes of `benchmark.network`: camera, node with a dummy network, subscriber."""

import json
import sys
import threading
import time
from array import array
from pathlib import Path

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy._rclpy_pybind11 import RCLError
from rclpy.duration import Duration
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from lw_refinenet_ros.image.frame import parse_stamp
from lw_refinenet_ros.node.diagnostics import read_sequence, read_status
from lw_refinenet_ros.node.outputs import jpeg_message
from lw_refinenet_ros.node.process.malloc import keep_large_allocations

SETTLE_S, QUIET_S = 2.0, 3.0
NODE = '/lw_refinenet'
QUALITY, GRAIN = 85, 5.0  # of the JPEG, and the standard deviation of its noise: 1.1 bits per pixel
DEPTH, LATE_STATUSES = 5, 2


def node() -> None:
    """Run the real node, which takes no time for its network."""
    from benchmark.transport_node import NoNetwork
    from lw_refinenet_ros.inference import segmenter
    from lw_refinenet_ros.node import segmentation_node

    segmenter.make_engine = lambda *args, **options: NoNetwork()
    segmentation_node.main()


def picture(height: int, width: int) -> np.ndarray:
    """Return a smooth picture with the grain of a camera, uint8 (height, width, 3)."""
    random = np.random.default_rng(0)
    smooth = cv2.resize(random.integers(0, 256, (12, 16, 3), np.uint8), (width, height))
    return np.clip(smooth + random.normal(0, GRAIN, smooth.shape), 0, 255).astype(np.uint8)


def camera(height: int, width: int, rate_hz: float, frames: int, compressed: bool, log: str) -> None:
    """Publish frames once there is a subscriber; log stamp, due and sent times in ns, and whether refused."""
    keep_large_allocations()
    image = picture(height, width)
    if compressed:
        message = jpeg_message()
        message.data = array(
            'B', cv2.imencode('.jpg', image, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1].tobytes()
        )
    else:
        message = Image(height=height, width=width, encoding='rgb8', step=3 * width)
        message.data = array('B', image.tobytes())
    rclpy.init()
    ros = rclpy.create_node('camera')
    topic = 'image/compressed' if compressed else 'image'
    publisher = ros.create_publisher(type(message), topic, QoSProfile(depth=1))
    since = time.monotonic()
    while time.monotonic() - since < SETTLE_S:  # by then the node follows our reliability
        if not publisher.get_subscription_count():
            since = time.monotonic()
        time.sleep(0.05)
    records, begun_ns = [], time.monotonic_ns()
    for index in range(frames):
        due_ns = begun_ns + round(index * 1e9 / rate_hz)
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        message.header.stamp.sec, message.header.stamp.nanosec = index + 1, 0
        refused, sent_ns = False, time.monotonic_ns()
        try:
            publisher.publish(message)
        except RCLError:
            refused = True
        records.append(((index + 1) * 10**9, due_ns, sent_ns, refused))
    publisher.wait_for_all_acked(Duration(seconds=2))
    Path(log).write_text(json.dumps({'sent': records, 'bytes': len(message.data)}))
    time.sleep(QUIET_S)


def subscriber(output: str, log: str) -> None:
    """Subscribe to an output of the node; until standard input closes, log arrivals and diagnostics."""
    keep_large_allocations()
    rclpy.init()
    ros = rclpy.create_node('subscriber')
    arrivals: list[tuple[int, int]] = []
    last: list = []

    def arrive(cdr: bytes) -> None:
        arrivals.append((parse_stamp(cdr), time.monotonic_ns()))

    def diagnose(message: DiagnosticArray) -> None:
        last[:] = [read_status(message, f'{NODE}: segmentation')]
        if last[0] and last[0][1].get('state') == 'active':
            print('active', flush=True)

    kind = CompressedImage if output.endswith('compressed') else Image
    ros.create_subscription(kind, f'{NODE}/{output}', arrive, QoSProfile(depth=DEPTH), raw=True)
    ros.create_subscription(DiagnosticArray, '/diagnostics', diagnose, 10)
    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
    while not closed.is_set():
        rclpy.spin_once(ros, timeout_sec=0.1)
    last.clear()
    for _ in range(LATE_STATUSES):  # the first may have been under way
        while not last:
            rclpy.spin_once(ros, timeout_sec=0.1)
        status = last.pop()
    _, values, fates, _ = status
    record = {'arrivals': arrivals, 'fates': fates, 'sequence': read_sequence(values)}
    Path(log).write_text(json.dumps(record))
