# SPDX-License-Identifier: Apache-2.0
"""The memory needed to evaluate a large bag: `python -m benchmark.evaluation_memory --gb 10`."""

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmark.evaluation import IMAGES, MASKS, pictures, shifted, write_bag
from benchmark.table import store
from lw_refinenet_ros.cli.options import Progress
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

SMALL_GB = 0.1  # the baseline: the model, the libraries and a few frames

# Evaluates a bag in its own process and prints its peak memory in bytes.
PROBE = """
import resource, sys
from lw_refinenet_ros.cli.main import main
status = main(sys.argv[1:])
print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(status)
"""


def compare(size_gb: float, image_size: tuple[int, int], parent: Path | None, weights: str) -> None:
    """Evaluate a small bag and one of the given size, created in a temporary folder."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        free_gb = shutil.disk_usage(folder).free / 1e9
        if free_gb < 1.1 * size_gb:
            sys.exit(f'{folder} has {free_gb:.1f} GB free and the bag needs {size_gb:.1f}')
        rows = [measure(Path(folder), each_gb, image_size, weights) for each_gb in (SMALL_GB, size_gb)]
    grown = rows[1]['peak (MB)'] - rows[0]['peak (MB)']
    claim = (
        f'The large bag takes {grown:.0f} MB more than the small one: this is what grows with the length, '
        'besides libraries, model and a few frames. The goal is less than 1000 MB for 10 GB.'
    )
    shape = f'{image_size[1]}x{image_size[0]}'
    conditions = (
        f'`lw_refinenet evaluate --json --report --resume`, {shape} rgb8 and mono8 masks; peak resident '
        'memory of the process, by getrusage.'
    )
    packages = ('openvino', 'rosbags')
    store('evaluation_memory', 'Memory of an evaluation', rows, [claim, conditions], packages)


def measure(folder, gigabytes, image_size, weights):
    """Create a bag of this size, evaluate it, and return its row."""
    bag, images = folder / 'bag.mcap', pictures(20, image_size)
    masks = [shifted(image[..., 0] // 128) for image in images]  # classes 0 and 1, which every network has
    frames = max(1, round(gigabytes * 1e9 / (images[0].nbytes + masks[0].nbytes)))
    shown = Progress(f'{gigabytes:g} GB: frame written', frames)

    def frames_shown():
        for index in range(frames):
            yield images[index % len(images)]
            shown.show(index + 1)

    write_bag(bag, frames_shown(), itertools.cycle(masks))
    started = time.monotonic()
    outputs = ['--json', folder / 'a.json', '--report', folder / 'a.html', '--resume', folder / 'kept']
    outputs += ['--weights', weights, '--keep-going']
    command = [sys.executable, '-c', PROBE, 'evaluate', '--bag', bag, '--topic', IMAGES, '--labels', MASKS]
    done = subprocess.run(list(map(str, [*command, *outputs])), stdout=subprocess.PIPE, text=True, check=True)
    said = done.stdout.split()
    row = {
        'bag (GB)': round(bag.stat().st_size / 1e9, 2),
        'frames': frames,
        'frames a second': frames / (time.monotonic() - started),
        'peak (MB)': int(said[said.index('peak') + 1]) / 1e6,
    }
    bag.unlink()
    return row


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--gb', type=float, default=10.0, help='size of the bag (default: 10)')
    parser.add_argument('--folder', type=Path, help='folder for the bag (default: the temporary folder)')
    parser.add_argument('--weights', default=DEFAULT_WEIGHTS, help='weights; a small network is faster')
    parser.add_argument('--width', type=int, default=1920, help='width of the images (default: 1920)')
    parser.add_argument('--height', type=int, default=1080, help='height of the images (default: 1080)')
    options = parser.parse_args()
    compare(options.gb, (options.height, options.width), options.folder, options.weights)
