# SPDX-License-Identifier: Apache-2.0
"""`segment` killed while it writes: every file under its final name must be complete."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from lw_refinenet_ros.image.label_png import read_label_png

SIZE = (240, 320)  # height, width
IMAGES = 60
LONGEST_S = 0.2  # delay after a number of files, so that a kill can come at any moment


def kill_while_writing(
    weights: Path, count: int, seed: int, folder: Path, progress: Callable[[int], object] = lambda done: None
) -> Counter:
    """Segment images `count` times, killed at random moments; return how many files were whole.

    Raises:
        AssertionError: a file is not whole.
    """
    rng = random.Random(seed)
    images, out = folder / 'images', folder / 'out'
    images.mkdir()
    noise = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), np.uint8)
    for index in range(IMAGES):
        cv2.imwrite(str(images / f'{index}.png'), np.roll(noise, index, axis=0))
    command = [sys.executable, '-m', 'lw_refinenet_ros.cli.main', 'segment', images, '--output', out]
    whole: Counter = Counter()
    for done in range(count):
        process = subprocess.Popen(
            [*map(str, command), '--weights', str(weights), '--engine', 'torch', '--threads', '1'],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        files = rng.randrange(IMAGES // 2)
        while process.poll() is None and len(list(out.glob('overlays/[!.]*'))) < files:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, LONGEST_S))
        process.send_signal(signal.SIGKILL)
        process.wait()
        whole += _whole_files(out)
        shutil.rmtree(out, ignore_errors=True)
        progress(done + 1)
    return whole


def _whole_files(out: Path) -> Counter:
    """Read every file under its final name, ignoring hidden temporary files."""
    for path in out.glob('labels/[!.]*'):
        assert read_label_png(path).shape == SIZE, path
    for path in out.glob('overlays/[!.]*'):
        content = path.read_bytes()
        assert content.endswith(b'\xff\xd9'), path
        assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape[:2] == SIZE, path
    return Counter({kind: len(list(out.glob(f'{kind}/[!.]*'))) for kind in ('labels', 'overlays')})
