# SPDX-License-Identifier: Apache-2.0
"""Latency and frame loss from a camera's publish call to the node's callback.

Player and node are separate processes, as on a robot; the node is the real one with a dummy network.
`python -m benchmark.transport [SECONDS]`.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from benchmark.table import store
from lw_refinenet_ros.cli.options import Progress
from lw_refinenet_ros.evaluation.live import LiveRun, Published, lost

SECONDS = 10.0
RATE_HZ = 30
GOALS_MS = {(1080, 1920): 8.0, (480, 640): 2.0}  # p50, on two quiet cores
PROFILES = {'config/fastdds_large_images.xml': True, 'Fast DDS defaults': False}
PACKAGES = tuple(f'ros-{distro}-rmw-fastrtps-cpp' for distro in ('jazzy', 'kilted'))  # of wheels
VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')


def main(arguments: list[str] | None = None) -> None:
    """Measure every image size with and without our profile."""
    seconds = float(arguments[0]) if arguments else SECONDS
    runs = [(size, name) for size in GOALS_MS for name in PROFILES]
    progress = Progress('transport: runs', len(runs))
    rows = []
    for size, name in runs:
        rows.append(_measure(size, name, round(seconds * RATE_HZ)))
        progress.show(len(rows))
    conditions = (
        f'rgb8 at {RATE_HZ} Hz for {seconds:g} s, reliable, depth 1, player and node in processes of their '
        f'own on {os.cpu_count()} cores; the network does nothing, the label is published and subscribed to. '
        'Refused (by the middleware, for want of room) and published are counted in the player; received, '
        'lost (by sequence number, before the first that came and after the last one too) and superseded (by '
        'a newer one, while the last was at work) in the node. Times are from before the publish call to the '
        'beginning of the callback, by the monotonic clock. Images are serialized by the player, before they '
        'are due, and by rclpy in its publish call, in turn, ten at a time; they are taken into the '
        "node's own buffers, and by rclpy, twenty at a time."
    )
    notes = [conditions]
    unknown = sum(abs(row['published'] - row['received'] - row['lost']) for row in rows)
    notes.append(f'Frames published, but neither received nor lost by number: {unknown}.')
    for row in rows:
        if row['profile'] in PROFILES and PROFILES[row['profile']]:
            size = tuple(int(n) for n in reversed(row['image'].split('x')))
            kept = row['p50 (ms)'] <= GOALS_MS[size] and row['received'] == row['published'] == row['due']
            said = 'reached' if kept else 'missed'
            notes.append(f'{row["image"]}: none lost and p50 at most {GOALS_MS[size]:g} ms: {said}.')
            by_rclpy = row['by rclpy: p50 (ms)']
            for name, key in (
                ('our own buffers', 'taken by us: p50 (ms)'),
                ('both ways of ours', 'p50 (ms)'),
            ):
                notes.append(f'{row["image"]}: {name} save {1 - row[key] / by_rclpy:.0%} of the p50.')
    store('transport', 'From publish to callback', rows, notes, tuple(filter(installed, PACKAGES)))


def installed(package: str) -> bool:
    """Return whether a package is installed."""
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _measure(size: tuple[int, int], profile: str, frames: int) -> dict:
    """Play a number of frames; return one row of the table."""
    from benchmark.transport_node import BLOCK
    from lw_refinenet_ros.node.diagnostics import read_sequence
    from test.support.long_run import LongRun, tiny_weights

    with tempfile.TemporaryDirectory() as folder, tiny_weights() as weights:
        sent, arrived = Path(folder) / 'sent.json', Path(folder) / 'arrived.json'
        kept = {name: os.environ.pop(name, None) for name in VARIABLES}
        try:
            if PROFILES[profile]:
                os.environ.update({name: value for name, value in kept.items() if value})
            node = LongRun(
                program=f'from benchmark.transport_node import run; run({str(arrived)!r})',
                weights=str(weights),
            )
            try:
                node.listen('label')
                node.wait_active()
                node.client.destroy_publisher(node.images)  # the player is the only camera
                command = ['--size', f'{size[1]}x{size[0]}', '--rate', str(RATE_HZ), '--frames', str(frames)]
                player = subprocess.Popen(
                    [
                        sys.executable,
                        '-m',
                        'benchmark.transport_publisher',
                        *command,
                        '--wait',
                        '--log',
                        str(sent),
                    ]
                )
                while player.poll() is None:
                    node.spin_for(0.2)
                    del node.received['label'][:]
                fates, sequence = node.fates(), read_sequence(node.status[1])
                node.process.send_signal(signal.SIGTERM)  # SIGINT is ignored in the background of a script
                node.process.wait(60)
            finally:
                node.close()
        finally:
            os.environ.update({name: value for name, value in kept.items() if value})
        records = [Published(*record) for record in json.loads(sent.read_text())]
        arrivals = json.loads(arrived.read_text())
    run = LiveRun(records, (), {'received': 0, 'lost': 0, **fates}, {}, {}, sequence)
    published = {frame.stamp_ns: frame.sent_ns for frame in records if not frame.refused}
    by_player = {frame.stamp_ns: index // BLOCK % 2 == 0 for index, frame in enumerate(records)}
    times: dict[tuple[bool, bool], list[float]] = {
        way: [] for way in itertools.product((True, False), repeat=2)
    }
    for stamp, ns, taken_by_rclpy in arrivals:
        if stamp in published:
            times[by_player[stamp], not taken_by_rclpy].append((ns - published[stamp]) / 1e6)
    return {
        'image': f'{size[1]}x{size[0]}',
        'profile': profile,
        'due': frames,
        'refused': len(records) - len(published),
        'published': len(published),
        'received': sum(map(len, times.values())),
        'lost': lost(run),
        'superseded': fates.get('superseded', 0),
        'segmented': fates.get('segmented', 0),
        'p50 (ms)': _percentile(times[True, True], 50),
        'p95 (ms)': _percentile(times[True, True], 95),
        'taken by us: p50 (ms)': _percentile(times[False, True], 50),
        'by rclpy: p50 (ms)': _percentile(times[False, False], 50),
    }


def _percentile(times: list[float], percent: int) -> float:
    return float(np.percentile(times, percent)) if times else float('nan')


if __name__ == '__main__':
    main(sys.argv[1:])
