# SPDX-License-Identifier: Apache-2.0
"""Record the outputs of the node, and the arrival of each result; a process of its own in a live run.

It writes `ready` to standard output once the node is active and has compiled for the images that will
come, and ends when standard input is closed and nothing more arrives.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos
from sensor_msgs.msg import Image

from lw_refinenet_ros.image.frame import Frame, parse_image
from lw_refinenet_ros.node.diagnostics import (
    LOST,
    RECEIVED,
    SUPERSEDED,
    WARMING_UP,
    Status,
    read_sequence,
    read_status,
)
from lw_refinenet_ros.node.outputs import fill_image
from lw_refinenet_ros.node.process.malloc import keep_large_allocations
from lw_refinenet_ros.node.process.ros_context import ros_context
from lw_refinenet_ros.node.replay.qos import recorded
from lw_refinenet_ros.sources.bag_writer import BagWriter
from lw_refinenet_ros.sources.opening import open_source

__all__ = ['main']

DEPTH = 10  # results that may wait while one is written
QUIET_S = 1.5  # without a result, and with diagnostics from after the end, all is in


class Recorder(Node):  # type: ignore[misc]
    """Writes topics of a segmentation node to a bag.

    Attributes:
        arrivals: stamp and arrival (monotonic), both in ns, of every label.
        status: the node's last diagnostics, None before the first.
        recording: whether results are written; earlier ones are ignored.
    """

    def __init__(self, node: str, bag: BagWriter, outputs: Sequence[str]) -> None:
        super().__init__('lw_refinenet_recorder')
        self.arrivals: list[tuple[int, int]] = []
        self.recording = False
        self.status: Status | None = None
        self.status_time = self.last_arrival = time.monotonic()
        self._name, self._bag = f'{node}: segmentation', bag
        self._offered: dict[str, list[Qos]] = {}
        qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        for output in outputs:
            self.create_subscription(
                Image, f'{node}/{output}', self._writer(f'{node}/{output}'), qos, raw=True
            )
        self.create_subscription(DiagnosticArray, '/diagnostics', self._read_status, DEPTH)

    def _writer(self, topic: str) -> Callable[[bytes], None]:
        def write(cdr: bytes) -> None:
            if not self.recording:
                return
            self.last_arrival = time.monotonic()
            arrival_ns = time.monotonic_ns()
            stamp_ns = parse_image(cdr).stamp_ns
            if topic.endswith('/label'):
                self.arrivals.append((stamp_ns, arrival_ns))
            if topic not in self._offered:
                infos = self.get_publishers_info_by_topic(topic)
                self._offered[topic] = [recorded(info.qos_profile) for info in infos]
            self._bag.write_raw(topic, 'sensor_msgs/msg/Image', cdr, stamp_ns, self._offered[topic])

        return write

    def _read_status(self, message: DiagnosticArray) -> None:
        status = read_status(message, self._name)
        if status is not None:
            self.status, self.status_time = status, time.monotonic()


def _warm_up(recorder: Recorder, executor: SingleThreadedExecutor, first: Frame, topic: str) -> None:
    """Publish a first image until the node has compiled for it: a camera runs before the drive begins."""
    publisher = recorder.create_publisher(Image, topic, QoSProfile(depth=1))
    message = Image()
    fill_image(message, first)
    fates: dict[str, int] = {}
    while rclpy.ok() and not _settled(fates):
        publisher.publish(message)
        fates = _next_fates(recorder, executor)
    recorder.destroy_publisher(publisher)
    before: dict[str, int] = {}
    while rclpy.ok() and before != fates:
        before, fates = fates, _next_fates(recorder, executor)


def _next_fates(recorder: Recorder, executor: SingleThreadedExecutor) -> dict[str, int]:
    """Return the frames by fate of the node's next diagnostics, which come once a second."""
    last = recorder.status_time
    while rclpy.ok() and recorder.status_time == last:
        executor.spin_once(timeout_sec=0.1)
    return recorder.status[2] if recorder.status else {}


def _settled(fates: dict[str, int]) -> bool:
    """Return whether a frame has been dealt with, even if it was a bad one."""
    waiting = {RECEIVED, LOST, SUPERSEDED, WARMING_UP}
    return any(count for fate, count in fates.items() if fate not in waiting)


def _wait_for_end(finish: threading.Event) -> None:
    sys.stdin.read()
    finish.set()


def main(args: list[str] | None = None) -> int:
    """Record until standard input is closed."""
    parser = argparse.ArgumentParser(prog='recorder', description=__doc__.splitlines()[0] if __doc__ else '')
    parser.add_argument('--node', default='/lw_refinenet', help='fully qualified name of the node')
    parser.add_argument('--outputs', nargs='+', default=['label', 'overlay'], help='topics below the node')
    parser.add_argument('--bag', type=Path, required=True, help='the mcap file to write')
    parser.add_argument(
        '--log', type=Path, required=True, help='JSON of arrivals and of what the node counted'
    )
    parser.add_argument('--first-frame-of', required=True, metavar='SOURCE', help='to warm the node up with')
    parser.add_argument('--first-frame-to', required=True, metavar='TOPIC', help='that the node listens to')
    parser.add_argument('--topic', help="the source's image topic, if it has several")
    options = parser.parse_args(args)
    # what cannot be read, the player names
    with open_source(options.first_frame_of, topic=options.topic, on_error=lambda _: None) as source:
        first = next(iter(source))
    keep_large_allocations()
    finish = threading.Event()
    threading.Thread(target=_wait_for_end, args=(finish,), daemon=True).start()
    finished = False
    with ros_context([]) as started, BagWriter(options.bag, compress=True) as bag:
        started()
        recorder = Recorder(options.node, bag, options.outputs)
        executor = SingleThreadedExecutor()
        executor.add_node(recorder)
        while not (recorder.status and recorder.status[1].get('state') == 'active'):
            executor.spin_once(timeout_sec=0.1)
        _warm_up(recorder, executor, first, options.first_frame_to)
        counted = recorder.status[2]
        recorder.recording = True
        sys.stdout.write('ready\n')
        sys.stdout.flush()
        ended = 0.0
        while True:
            executor.spin_once(timeout_sec=0.1)
            if finish.is_set():
                ended = ended or time.monotonic()
                settled = max(ended, recorder.last_arrival) + QUIET_S
                if time.monotonic() > settled and recorder.status_time > settled - QUIET_S / 3:
                    break
        _, values, fates, stages = recorder.status
        fates = {fate: count - counted.get(fate, 0) for fate, count in fates.items()}
        log = {
            'arrivals': recorder.arrivals,
            'values': values,
            'fates': fates,
            'stages_ms': stages,
            'sequence': read_sequence(values),
        }
        options.log.write_text(json.dumps(log))
        executor.shutdown()
        finished = True
    return 0 if finished else 1  # an interrupt: the bag that was begun is gone with its writer


if __name__ == '__main__':
    sys.exit(main())
