# SPDX-License-Identifier: Apache-2.0
"""The longest gap between labels while the node changes its weights, at 25 Hz with the shipped network.

`python -m benchmark.swap [ROUNDS [WIDTHxHEIGHT]]`: the network's own size, or one at which this CPU keeps up.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmark.table import store
from lw_refinenet_ros.cli.options import Progress
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS, find_weights
from test.support.long_run import LongRun

SIZE, RATE_HZ, ROUNDS = (360, 480), 25.0, 200
ALLOWED_PERIODS = 3
SETTLE_S, QUIET_S = 1.0, 5.0
SHOWN = {'the median': 0.5, 'the 95th percentile': 0.95, 'the worst': 1.0}  # by the longest gap


def main(arguments: list[str] | None = None) -> None:
    """Swap between two copies of the same weights, so that frames cost the same before and after."""
    rounds = int(arguments[0]) if arguments else ROUNDS
    width, height = map(int, arguments[1].split('x')) if arguments and arguments[1:] else (0, 0)
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / f'{name}.safetensors' for name in ('one', 'other')]
        for copy in copies:
            shutil.copy(find_weights(DEFAULT_WEIGHTS), copy)
        node = LongRun(weights=str(copies[0]), network_width=width, network_height=height)
        size = f'{SIZE[1]}x{SIZE[0]}'
        command = ['-m', 'test.support.publisher', '--size', size, '--rate', str(RATE_HZ), '--wait']
        camera = subprocess.Popen([sys.executable, *command], cwd=Path(__file__).parents[1])
        try:
            none, *swaps = measure(node, copies, rounds)
        finally:
            camera.terminate()
            camera.wait()
            node.close()
    swaps.sort(key=lambda swap: swap['longest gap (ms)'])
    shown = [{**swaps[round(part * (rounds - 1))], 'swap': name} for name, part in SHOWN.items()]
    allowed_ms = ALLOWED_PERIODS / RATE_HZ * 1e3
    over = sum(swap['longest gap (ms)'] > allowed_ms for swap in swaps)
    result = (
        f'Of {rounds} swaps {over} had a gap longer than {ALLOWED_PERIODS} frame periods, which is '
        f'{allowed_ms:.0f} ms.'
    )
    conditions = (
        f'{DEFAULT_WEIGHTS}, {size} rgb8 at {RATE_HZ:.0f} Hz through DDS, in the network '
        f'{f"{width}x{height}" if width else "its own size"}; gaps are between arrivals of '
        f'`~/label` at a subscriber, from the request to {SETTLE_S:g} s after the new weights served.'
    )
    store(
        'swap',
        'Changing the weights of a node that serves',
        [none, *shown],
        [result, conditions],
        ('torch', 'openvino'),
        by_cpu=True,
    )


def measure(node: LongRun, copies: list[Path], rounds: int) -> list[dict]:
    """Return a row without a swap and one for each swap."""
    node.listen('label')
    labels = node.received['label']
    node.spin_until(lambda: len(labels) > 2 * RATE_HZ, 'labels')
    arrivals: list[float] = []

    class Arrivals(list):
        def append(self, _: object) -> None:
            arrivals.append(time.monotonic())

    node.client.create_subscription(type(labels[0]), '/lw_refinenet/label', Arrivals().append, 1)
    node.spin_until(lambda: arrivals, 'labels')
    arrivals.clear()
    node.spin_for(QUIET_S)
    rows = [row('none, for comparison', arrivals, 0.0)]
    progress = Progress('swap: rounds', rounds)
    for turn in range(rounds):
        weights = str(copies[(turn + 1) % 2])
        del arrivals[:-1]
        started = time.monotonic()
        assert node.set(weights=weights)[0].successful
        answered = time.monotonic() - started
        node.spin_until(lambda weights=weights: node.status[1]['weights'] == weights, 'new weights')
        node.spin_for(SETTLE_S)
        rows.append(row(f'{turn + 1}', arrivals, answered))
        labels.clear()
        progress.show(turn + 1)
    return rows


def row(name: str, arrivals: list[float], answered_s: float) -> dict:
    """Summarise the gaps between arrivals."""
    gaps_ms = np.diff(arrivals) * 1e3
    return {
        'swap': name,
        'labels': len(arrivals),
        'median gap (ms)': float(np.median(gaps_ms)),
        'longest gap (ms)': float(gaps_ms.max()),
        'request answered after (ms)': answered_s * 1e3,
    }


if __name__ == '__main__':
    main(sys.argv[1:])
