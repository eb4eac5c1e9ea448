# SPDX-License-Identifier: Apache-2.0
"""Camera and node on two machines: frames lost and age, by link, image and Fast DDS profile. Needs root.

The machines are network namespaces of this one: `python -m benchmark.network [PROFILE.xml...]`. Where the
kernel's limit of socket buffers is below what the profile asks for, the table is network_small_buffers.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.network_link import HOSTS, Link, hosts, on
from benchmark.table import store
from benchmark.transport import PACKAGES, VARIABLES, installed
from lw_refinenet_ros.cli.options import Progress
from lw_refinenet_ros.evaluation.live import LiveRun, Published, lost
from lw_refinenet_ros.node.process import middleware

ROOT = Path(__file__).parents[1]
(VARIABLE,) = middleware.environment(middleware.DEFAULT, ROOT / 'config')
RATE_HZ, FRAMES = 30, 90
BUFFER = 4194304  # bytes; of the sockets, in the profile
PATIENCE_S = 180  # TCP on a lossy link may hold each publish call for a second
LINKS = (
    Link('1 Gb/s', 1000),
    Link('100 Mb/s', 100),
    Link('1 Gb/s, 0.1 % loss', 1000, 0.001),
    Link('1 Gb/s, 1 % loss', 1000, 0.01),
    Link('like Wi-Fi: 100 Mb/s, 20 ± 5 ms, 1 % loss', 100, 0.01, 20, 5),
)
DEFAULT, OURS = 'Fast DDS defaults', 'config/fastdds_large_images_network.xml'
TCP = 'FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA'


class Images(NamedTuple):
    """What the camera sends, and what the node returns."""

    height: int
    width: int
    compressed: bool
    output: str

    @property
    def mbit(self) -> float:
        """Mbit/s; a JPEG has about a bit per pixel."""
        return self.height * self.width * RATE_HZ * (1 if self.compressed else 24) / 1e6

    @property
    def transport(self) -> str:
        return 'compressed' if self.compressed else 'raw'

    @property
    def name(self) -> str:
        return f'{self.width}x{self.height} {"JPEG" if self.compressed else "raw"}'


IMAGES = (
    Images(480, 640, False, 'label'),
    Images(480, 640, True, 'label'),
    Images(1080, 1920, True, 'overlay/compressed'),
)


def main(profiles: list[str] | None = None) -> None:
    """Measure every link, image and profile."""
    from test.support.long_run import tiny_weights

    if os.geteuid() != 0:
        sys.exit('benchmark network: needs root, to make network namespaces')
    limits = {
        f'net.core.{end}': int(Path('/proc/sys/net/core', end).read_text())
        for end in ('rmem_max', 'wmem_max')
    }
    settings = [DEFAULT, *(profiles or [OURS, TCP])]
    fitting = [(link, images) for link in LINKS for images in IMAGES if images.mbit < link.mbit]
    runs = [(link, images, setting) for link, images in fitting for setting in settings]
    progress = Progress('network: runs', len(runs))
    rows = []
    with tiny_weights() as weights:
        for link, images, setting in runs:
            rows.append(measure(link, images, setting, weights))
            print(json.dumps(rows[-1]), file=sys.stderr)
            progress.show(len(rows))
    conditions = (
        'Camera and subscriber on one host, the node with a dummy network on the other: namespaces of one '
        f'machine, token buckets for the rates (full duplex), losses in both directions. {FRAMES} frames at '
        f'{RATE_HZ} Hz, reliable, depth 1. The node returns ~/label, for 1920x1080 ~/overlay/compressed. '
        "Refused: by the camera's middleware, which had no room; lost: on the way to the node, by sequence "
        'number; results lost: on the way back. Age: from the publish call to the arrival of the result. '
        f'{", ".join(f"{name} {limit}" for name, limit in limits.items())}.'
    )
    name = 'network' if min(limits.values()) >= BUFFER else 'network_small_buffers'
    store(name, 'Camera and node on two machines', rows, [conditions], tuple(filter(installed, PACKAGES)))


def measure(link: Link, images: Images, setting: str, weights: Path) -> dict:
    """Play to the node over a link; return a row of the table."""
    with tempfile.TemporaryDirectory() as temporary, hosts(link):
        folder, started = Path(temporary), []
        environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
        environment |= {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET', 'PYTHONPATH': str(ROOT)}
        name, _, value = setting.partition('=')
        if setting != DEFAULT:
            environment |= {name: value} if value else {VARIABLE: str(Path(setting).resolve())}

        def start(host: str, call: str, *arguments: str) -> subprocess.Popen:
            program = f'from benchmark import network_ends as ends; ends.{call}'
            process = subprocess.Popen(
                on(host, sys.executable, '-c', program, *arguments),
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            started.append(process)
            return process

        try:
            ros = ['-p', f'weights:={weights}', '-p', f'image_transport:={images.transport}']
            start(HOSTS[1], 'node()', '--ros-args', *ros, '--log-level', 'error')
            results, sent = folder / 'results.json', folder / 'sent.json'
            subscriber = start(HOSTS[0], f'subscriber({images.output!r}, {str(results)!r})')
            assert subscriber.stdout.readline() == 'active\n'
            arguments = (images.height, images.width, RATE_HZ, FRAMES, images.compressed, str(sent))
            camera = start(HOSTS[0], f'camera{arguments}')
            camera.wait(PATIENCE_S)
            subscriber.stdin.close()
            subscriber.wait(PATIENCE_S)
        finally:
            for process in started:
                process.kill()
                process.wait()
        return row(link, images, setting, json.loads(sent.read_text()), json.loads(results.read_text()))


def row(link: Link, images: Images, setting: str, sent: dict, results: dict) -> dict:
    """Summarise a run."""
    frames = [Published(*record) for record in sent['sent']]
    sent_ns = {frame.stamp_ns: frame.sent_ns for frame in frames}
    ages_ms = [(arrival_ns - sent_ns[stamp_ns]) / 1e6 for stamp_ns, arrival_ns in results['arrivals']]
    p50, p95 = np.percentile(ages_ms, (50, 95)).tolist() if ages_ms else (None, None)
    fates = results['fates']
    refused = sum(frame.refused for frame in frames)
    return {
        'link': link.name,
        'images': images.name,
        'Mb/s': sent['bytes'] * 8 * RATE_HZ / 1e6,
        'setting': setting,
        'refused': refused,
        'published': len(frames) - refused,
        'received': fates['received'],
        'lost': lost(LiveRun(frames, (), fates, {}, {}, results['sequence'])),
        'results lost': fates['segmented'] - len(ages_ms),
        'age p50 (ms)': p50,
        'age p95 (ms)': p95,
    }


if __name__ == '__main__':
    main(sys.argv[1:])
