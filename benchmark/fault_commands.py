# SPDX-License-Identifier: Apache-2.0
"""Commands ended by signals at random moments, from Python's first line to their last."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.sources.bag_writer import BagWriter

SIGNALS = (signal.SIGINT, signal.SIGTERM)
MARK = 'LW_REFINENET_BENCHMARK_RUN'  # in the environment of a run and of all that it starts
PATIENCE_S = 120.0
PF_EXITING = 4
NO_PYTHON = 'Fatal Python error: init'  # interrupted before there was an interpreter
AT_ONCE = 4  # commands: they mostly wait
FRAMES, RATE_HZ, SIZE = 15, 10, (96, 128)


def end_commands_at_random(weights: Path, folder: Path, times: int, seed: int, progress) -> list[dict]:
    """Start each command and send it a signal, so many times for each signal; count how it ended.

    The commands take turns on a few cores, each with a domain of its own.

    Raises:
        AssertionError: it ended with another status, left a process behind, or printed a traceback.
    """
    series = [
        (name, command, number) for name, command in _commands(weights, folder).items() for number in SIGNALS
    ]
    done = itertools.count(1)
    first_domain = int(os.environ.get('ROS_DOMAIN_ID', '1'))

    def run(index: int) -> dict:
        name, command, number = series[index]
        domain = (first_domain + index) % 102
        return _series(
            name, command, number, times, random.Random(seed + index), domain, lambda: progress(next(done))
        )

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, range(len(series))))


def _series(
    name: str, command: list[str], number: signal.Signals, times: int, rng: random.Random, domain: int, count
) -> dict:
    """End one command by one signal, so many times."""
    lifetime = _lifetime(command, domain)
    ends: dict[int, list[float]] = {128 + number: [], -number: []}
    while sum(map(len, ends.values())) < times:
        moment = rng.uniform(0, lifetime)
        started = time.monotonic()
        ended = _end(command, moment, number, domain)
        if ended is None:  # it was done before, or Python was not there yet
            if (whole := time.monotonic() - started) < moment:  # it was measured on a busier machine
                lifetime = 1.1 * whole
            continue
        status, seconds, left, output = ended
        context = f'{name}, {number.name} after {moment:.3f} s: status {status}, left {left}: {output}'
        assert status in ends, context
        assert not left, context
        assert status < 0 or 'Traceback' not in output, context
        ends[status].append(seconds)
        count()
    return {
        'command': name,
        'signal': number.name,
        'times': times,
        f'status {128 + signal.SIGINT} or {128 + signal.SIGTERM}': len(ends[128 + number]),
        'ended by the system': len(ends[-number]),
        'lifetime (s)': lifetime,
        'to the end, at most (s)': max(ends[128 + number] + ends[-number]),
    }


def _end(
    command: list[str], moment: float, number: signal.Signals, domain: int
) -> tuple[int, float, list[str], str] | None:
    """Return status, seconds to the end, survivors and output; None if it had ended by itself."""
    run = str(uuid.uuid4())
    with subprocess.Popen(
        [part.format(run=run) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {MARK: run, 'ROS_DOMAIN_ID': str(domain)},
    ) as process:
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            started = time.monotonic()
            process.send_signal(number)
            late = _is_exiting(process.pid)
            status = process.wait(PATIENCE_S)
            if late and status == 0:
                return None
            seconds, left = time.monotonic() - started, _running(f'{MARK}={run}')
            output = process.stdout.read()
            return None if NO_PYTHON in output else (status, seconds, left, output)
        assert process.returncode == 0, process.stdout.read()
        return None


def _is_exiting(pid: int) -> bool:
    """Return whether the kernel is already taking the process down, beyond the reach of signals."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return fields[0] == 'Z' or bool(int(fields[6]) & PF_EXITING)


def _running(mark: str) -> list[str]:
    """Name the processes that have the mark in their environment."""
    found = []
    for environment in Path('/proc').glob('[0-9]*/environ'):
        try:
            if mark.encode() in environment.read_bytes().split(b'\0'):
                line = environment.with_name('cmdline').read_bytes()
                found.append(line.replace(b'\0', b' ').decode(errors='replace'))
        except OSError:  # gone by now
            continue
    return found


def _lifetime(command: list[str], domain: int) -> float:
    started = time.monotonic()
    parts = [part.format(run=f'whole_{domain}') for part in command]
    env = os.environ | {'ROS_DOMAIN_ID': str(domain)}
    subprocess.run(parts, check=True, capture_output=True, env=env)
    return time.monotonic() - started


def _commands(weights: Path, folder: Path) -> dict[str, list[str]]:
    """Write a short recording with truth and a small data set; return the commands that use them."""
    bag, data = folder / 'bag.mcap', folder / 'data'
    rng = np.random.default_rng(0)
    for part in ('images', 'labels'):
        (data / part).mkdir(parents=True)
    with BagWriter(bag) as writer:
        for index in range(FRAMES):
            stamp_ns = 1_000_000_000 + index * 1_000_000_000 // RATE_HZ
            image = rng.integers(0, 255, (*SIZE, 3), np.uint8)
            truth = rng.integers(0, 3, SIZE, np.uint8)
            for topic, array, encoding in (('/image', image, 'rgb8'), ('/truth', truth, 'mono8')):
                frame = Frame.from_array(array, stamp_ns=stamp_ns, frame_id='camera', encoding=encoding)
                writer.write_image(topic, frame)
            Image.fromarray(image).save(data / 'images' / f'{index}.png')
            Image.fromarray(truth).save(data / 'labels' / f'{index}.png')
    classes = [{'name': name, 'color': [80 * i, 40, 200]} for i, name in enumerate(('sky', 'road', 'car'))]
    (data / 'classes.yaml').write_text(yaml.safe_dump({'name': 'tiny', 'ignore': 255, 'classes': classes}))
    ours = ['--weights', str(weights)]
    run = [sys.executable, '-m', 'lw_refinenet_ros.cli.main']
    train = ['--data', str(data), '--init', str(weights), '--output', f'{folder}/{{run}}']
    train += ['--epochs', '2', '--batch-size', '4', '--crop-height', '64', '--crop-width', '64']
    return {
        'demo': [
            *run, 'demo', '--source', str(bag), '--topic', '/image', '--output', f'{folder}/{{run}}', *ours
        ],
        'play': [*run, 'play', str(bag), '--topic', '/image'],
        'evaluate --live': [
            *run, 'evaluate', '--bag', str(bag), '--topic', '/image', '--labels', '/truth', '--live', *ours
        ],
        'train': [*run, 'train', *train],
    }  # fmt: skip
