# SPDX-License-Identifier: Apache-2.0
"""The timing accuracy of the player: a bag at 30 Hz over DDS to a subscriber in another process."""

import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from benchmark.table import store
from lw_refinenet_ros.cli.live import ros_environment
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.sources.bag_writer import BagWriter

RATE_HZ, SECONDS = 30, 20
SIZES = ((480, 640), (1080, 1920))
GOAL_MS = 2.0
FEWEST = 0.99  # share of the frames; below it, the table says that it shows little

# Records when each frame arrives, without reading it, so that the figures exclude any processing.
SUBSCRIBER = """
import sys, time
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from lw_refinenet_ros.image.frame import parse_stamp
from lw_refinenet_ros.node.process.malloc import keep_large_allocations

keep_large_allocations()
rclpy.init()
node = rclpy.create_node('stopwatch')
arrivals = []

def note(cdr):
    arrivals.append((time.monotonic_ns(), parse_stamp(cdr)))

node.create_subscription(Image, '/image', note, QoSProfile(depth=10), raw=True)
try:
    rclpy.spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
for arrival_ns, stamp_ns in arrivals:
    print(stamp_ns, arrival_ns)
"""


def main() -> None:
    """Play, listen, and compare times; both processes read the machine's monotonic clock."""
    rows, notes = [], []
    for size in SIZES:
        sent, arrived = measure(size)
        late_ms = np.array([frame['sent_ns'] - frame['due_ns'] for frame in sent]) / 1e6
        rows.append(row(size, 'sent after it was due', late_ms))
        due_ns = {frame['stamp_ns']: frame['due_ns'] for frame in sent}
        apart_ms = np.diff([arrival_ns for _, arrival_ns in arrived]) / 1e6
        wanted_ms = np.diff([due_ns[stamp_ns] for stamp_ns, _ in arrived]) / 1e6
        rows.append(
            row(size, 'distance of two arrivals less that of their stamps', np.abs(apart_ms - wanted_ms))
        )
        age_ms = [(arrival_ns - due_ns[stamp_ns]) / 1e6 for stamp_ns, arrival_ns in arrived]
        rows.append(row(size, 'arrived after it was due', np.array(age_ms)))
        notes.append(f'{size[1]}x{size[0]}: {len(arrived)} of {len(sent)} frames arrived.')
        if len(arrived) < FEWEST * len(sent):
            notes.append('That is too few: the machine could not follow.')
    worst = max(each['p95 (µs)'] for each in rows if each['what'].startswith('sent'))
    notes.append(
        f'A bag of rgb8 frames at {RATE_HZ} Hz, {SECONDS} s, the first second left out, is played by '
        '`lw_refinenet play` to a subscriber in another process that does nothing but note the time. '
        'Both read CLOCK_MONOTONIC. A frame is sent when publish() is called. '
        'The goal is that 95 % of the frames are sent '
        f'within {GOAL_MS:g} ms of when they are due: {worst / 1000:.2f} ms.'
    )
    store('player', 'Timing of the player', rows, notes, packages())


def packages() -> tuple[str, ...]:
    """Return the version of rclpy, if installed from a wheel."""
    found = []
    for name in ('ros-jazzy-rclpy', 'ros-kilted-rclpy'):
        try:
            version(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return tuple(found)


def row(size: tuple[int, int], what: str, values_ms: np.ndarray) -> dict:
    """Return a row of the table."""
    p50, p95, p99 = np.percentile(values_ms, (50, 95, 99))
    said = {'p50': p50, 'p95': p95, 'p99': p99, 'most': values_ms.max()}
    shown = {f'{name} (µs)': round(1000 * float(value)) for name, value in said.items()}
    return {'size': f'{size[1]}x{size[0]}', 'what': what, **shown}


def measure(size: tuple[int, int]) -> tuple[list[dict], list[tuple[int, int]]]:
    """Play a bag of frames of one size; return send times, and (stamp, arrival) in ns, after one second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(0)
        with BagWriter(folder / 'bag.mcap') as bag:
            image = random.integers(0, 255, (*size, 3), np.uint8)
            for index in range(RATE_HZ * SECONDS):
                stamp_ns = 1_000_000_000 + index * 1_000_000_000 // RATE_HZ
                bag.write_image(
                    '/image', Frame.from_array(image, stamp_ns=stamp_ns, frame_id='camera', encoding='rgb8')
                )
        environment = ros_environment()
        listen = [sys.executable, '-c', SUBSCRIBER]
        listener = subprocess.Popen(listen, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            log = folder / 'sent.jsonl'
            play = [sys.executable, '-m', 'lw_refinenet_ros.cli.main', 'play', folder / 'bag.mcap']
            play += ['--wait-for-subscriber', '--log', log]
            subprocess.run(play, env=environment, check=True)
            time.sleep(0.5)  # what was sent last arrives
        finally:
            listener.send_signal(2)
            output, _ = listener.communicate(timeout=10)
        sent = [json.loads(line) for line in log.read_text().splitlines()][RATE_HZ:]
        stamps = {frame['stamp_ns'] for frame in sent}
        arrived = [tuple(map(int, line.split())) for line in output.splitlines()]
        return sent, [pair for pair in arrived if pair[0] in stamps]
