# SPDX-License-Identifier: Apache-2.0
"""The node ended by signals at random moments, from its first import to full load."""

import random
import signal
import subprocess
import sys
import time

from test.support.faults.load import publisher, subscriber

NODE = [sys.executable, '-m', 'lw_refinenet_ros.node.main', '--ros-args']
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
IN_TIME_S = 2.0
PATIENCE_S = 120.0


def end_at_random(weights: str, times: int, seed: int, progress=lambda done: None) -> list[dict]:
    """Start the node and end it with each signal many times, one start after the other, under load.

    Raises:
        AssertionError: it did not end, or complained: a status other than 0 and its signal's, or a traceback
            other than that of Python itself, interrupted while it imports.
    """
    rng = random.Random(seed)
    seconds: dict[str, list[float]] = {number.name: [] for number in SIGNALS}
    with publisher('--size', '320x240'), subscriber('watcher', 0):
        lived = time_to_active(weights)
        for index in range(times * len(SIGNALS)):
            number = SIGNALS[index % len(SIGNALS)]
            moment = rng.uniform(0, 1.5 * lived)
            process = _start(weights)
            time.sleep(moment)
            started = time.monotonic()
            process.send_signal(number)
            output, _ = process.communicate(timeout=PATIENCE_S)
            seconds[number.name].append(time.monotonic() - started)
            if number != signal.SIGKILL:
                said = f'{number.name} after {moment:.2f} s: status {process.returncode}, {output[-800:]}'
                importing = output.rstrip().endswith('KeyboardInterrupt') and process.returncode != 0
                assert importing or process.returncode in {0, -number}, said
                assert importing or 'Traceback' not in output, said
            progress(index + 1)
        time_to_active(weights)  # the last start is as clean as the first
    return [
        {
            'signal': name,
            'times': len(values),
            'longest (s)': max(values),
            f'within {IN_TIME_S:.0f} s': sum(value <= IN_TIME_S for value in values),
        }
        for name, values in seconds.items()
    ]


def time_to_active(weights: str) -> float:
    """Start the node, wait until it logs which images it segments, and end it; return the time it took."""
    process = _start(weights)
    try:
        started = time.monotonic()
        while 'segmented at' not in (line := process.stdout.readline()):
            assert line, 'the node ended by itself'
        return time.monotonic() - started
    finally:
        process.kill()
        process.wait()


def _start(weights: str) -> subprocess.Popen:
    command = [*NODE, '-p', f'weights:={weights}', '-p', 'threads:=1']
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
