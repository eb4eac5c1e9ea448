# SPDX-License-Identifier: Apache-2.0
"""A camera and a subscriber on Cyclone DDS, without ROS, and the node between them. Needs `cyclonedds`."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmark.network_ends import QUALITY, picture
from benchmark.table import store
from benchmark.transport import PACKAGES, installed
from lw_refinenet_ros.cli.options import Progress

RATE_HZ, FRAMES = 30, 150
SIZES = ((480, 640), (1080, 1920))


def main() -> None:
    """Measure sizes, raw and compressed, reliable and best effort."""
    if not importlib.util.find_spec('cyclonedds'):
        sys.exit('benchmark peers: pip install cyclonedds')
    from test.support.long_run import tiny_weights

    runs = [(size, jpeg, reliable) for size in SIZES for jpeg in (False, True) for reliable in (True, False)]
    progress, rows = Progress('peers: runs', len(runs)), []
    with tiny_weights() as weights:
        for run in runs:
            rows.append(measure(weights, *run))
            progress.show(len(rows))
    limit = Path('/proc/sys/net/core/rmem_max').read_text().strip()
    conditions = (
        f'{FRAMES} frames at {RATE_HZ} Hz on loopback; the peer has config/cyclonedds_large_images.xml '
        f'(net.core.rmem_max {limit}), the node config/fastdds_large_images.xml, and a dummy network. '
        'Cyclone DDS sends through UDP; between vendors there is no shared memory. Lost: gaps in the '
        "sequence numbers. Age: from the peer's write call to the arrival of the label there."
    )
    packages = ('cyclonedds', *filter(installed, PACKAGES))
    store('peers', 'A camera and a subscriber on Cyclone DDS', rows, [conditions], packages)


def measure(weights: Path, size: tuple[int, int], jpeg: bool, reliable: bool) -> dict:
    """Let the peer send its frames; return a row of the table."""
    from test.support.long_run import LongRun

    height, width = size
    image = f'{width}x{height}'
    with tempfile.TemporaryDirectory() as folder:
        if jpeg:
            image = f'{folder}/image.jpg'
            bgr: np.ndarray = picture(height, width)
            cv2.imwrite(image, bgr, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
        program = 'from benchmark.network_ends import node; node()'
        node = LongRun(program=program, weights=str(weights), image_transport='compressed' if jpeg else 'raw')
        try:
            node.client.destroy_publisher(node.images)
            command = [sys.executable, '-m', 'test.support.foreign_peer', image, '--frames', str(FRAMES)]
            command += ['--rate', str(RATE_HZ), *([] if reliable else ['--best-effort'])]
            peer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            while peer.poll() is None:
                node.spin_for(0.2)
            result, fates = json.loads(peer.stdout.read()), node.fates()
        finally:
            node.close()
    ages_ms = result['age_ms'] or [float('nan')]
    return {
        'image': f'{width}x{height} {"JPEG" if jpeg else "raw"}',
        'reliability': 'reliable' if reliable else 'best effort',
        'sent': result['sent'],
        'received': fates.get('received', 0),
        'lost': fates.get('lost', 0),
        'segmented': fates.get('segmented', 0),
        'labels that returned': len(result['labels']),
        'age p50 (ms)': float(np.median(ages_ms)),
    }


if __name__ == '__main__':
    main()
