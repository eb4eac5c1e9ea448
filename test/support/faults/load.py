# SPDX-License-Identifier: Apache-2.0
"""Faults around the running node: senders that die, clocks that jump, sizes that change, listeners that hang.

Every function takes a running node, raises AssertionError where it fails, and returns what it measured.
"""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager

import numpy as np

from test.support import ROOT
from test.support.faults.messages import REASONS, damaged, fate, originals
from test.support.long_run import LongRun, pixels_of, stamp_of

SILENT = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
SUBSCRIBER = """
import sys, time, rclpy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('listener_' + sys.argv[1])
for name in ('label', 'overlay'):
    callback = lambda message: time.sleep(float(sys.argv[2]))
    node.create_subscription(Image, '/lw_refinenet/' + name, callback, QoSProfile(depth=10))
rclpy.spin(node)
"""
KEPT = 100  # latest labels; a run of hours must not keep them all


@contextmanager
def publisher(*options: str):
    """Run `test.support.publisher` in a process of its own."""
    process = subprocess.Popen([sys.executable, '-m', 'test.support.publisher', *options], cwd=ROOT, **SILENT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def subscriber(name: str, delay_s: float):
    """Run a listener to label and overlay in a process of its own that takes so long over each message."""
    process = subprocess.Popen([sys.executable, '-c', SUBSCRIBER, name, str(delay_s)], **SILENT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 10_000 + width).integers(0, 256, (height, width, 3), np.uint8)


def send_damaged(node: LongRun, count: int, seed: int, progress=lambda done: None) -> Counter:
    """Send damaged messages over DDS; the node counts bad ones by reason and serves the next good one."""
    rng, good = random.Random(seed), originals()['Image']
    picture = _picture(96, 128)
    node.answer('label', picture, 10**15)
    before = Counter(node.fates())
    sent: Counter = Counter()
    while sent.total() < count:
        message = damaged(rng.choice(good), rng)
        reason = fate('Image', memoryview(message))
        if reason in REASONS:
            sent[f'bad: {reason}'] += 1
            node.images.publish(message)
            node.spin_for(0.002)  # else the next one supersedes it
            progress(sent.total())
    node.answer('label', picture, 10**15 + 1)
    fates = Counter(node.fates()) - before
    seen = {what for what in fates if what.startswith('bad: ')}
    assert seen and seen <= set(sent), f'sent {sent}, counted {fates}'
    assert not fates['failed'], f'a bad message is no fault of the model: {fates}'
    return fates


def restart_publisher(node: LongRun, times: int, progress=lambda done: None) -> dict[str, float]:
    """Kill and start a camera; after each start labels come again. Returns seconds to the first label."""
    waits = []
    for index in range(times):
        with publisher('--size', '320x240'):
            node.received['label'].clear()
            started = time.monotonic()
            node.spin_until(lambda: len(node.received['label']) >= 3, 'label after a new start')
            waits.append(time.monotonic() - started)
        progress(index + 1)
    return {'p50 (s)': float(np.median(waits)), 'longest (s)': max(waits)}


def loop_clock(node: LongRun, times: int, progress=lambda done: None) -> dict[str, int]:
    """Play a second of pictures over and over, with /clock: labels of the jumped-back time keep coming."""
    labels = loops = 0
    last = -1
    with publisher('--size', '320x240', '--frames', '30', '--loop', '--clock'):
        while loops < times:
            node.spin_until(lambda: node.received['label'], 'label')
            for message in node.received['label']:
                labels += 1
                loops += stamp_of(message) < last
                last = stamp_of(message)
            node.received['label'].clear()
            progress(loops)
    return {'jumps back': loops, 'labels': labels}


def change_resolution(node: LongRun, count: int, seed: int, progress=lambda done: None) -> dict[str, float]:
    """Send every frame in another size, from a pixel up: each has its label. Returns the memory it took."""
    rng = random.Random(seed)
    sizes = [(1, 1), (1, 200), (200, 1), (2, 2), (33, 47), (480, 640)]
    memory = []
    for index in range(count):
        height, width = sizes[index] if index < len(sizes) else (rng.randint(1, 300), rng.randint(1, 300))
        answer = node.answer('label', _picture(height, width), 10**12 + index)
        assert pixels_of(answer).shape == (height, width)
        node.received['label'].clear()
        memory.append(node.memory_mb())
        progress(index + 1)
    settled = memory[min(20, count // 2) :]
    return {'memory, early (MB)': float(max(settled[: len(settled) // 2 + 1])), 'late (MB)': settled[-1]}


def answer_closed_loop(node: LongRun, frames: int, progress=lambda done: None) -> list[tuple[float, int]]:
    """Send the next frame when a label is there; return memory (MB) and threads a hundred times."""
    picture, samples = _picture(96, 128), []
    kept = node.received['label']
    for index in range(frames):
        node.send(picture, stamp_ns=index + 1)
        again = time.monotonic() + 2
        while not (kept and stamp_of(kept[-1]) == index + 1):
            node.executor.spin_once(timeout_sec=0.5)
            assert node.process.poll() is None, 'the node died: ' + ' | '.join(node.said)
            if time.monotonic() > again:  # one lost frame must not stop the run
                node.send(picture, stamp_ns=index + 1)
                again = time.monotonic() + 2
        del kept[:-KEPT]
        if index % max(frames // 100, 1) == 0:
            samples.append((node.memory_mb(), node.threads()))
        progress(index + 1)
    return samples


def soak(
    node: LongRun, minutes: float, progress=lambda done: None
) -> tuple[list[tuple[float, int]], Counter]:
    """Play 30 frames a second; return memory (MB) and threads a hundred times, and the frames by fate."""
    before, samples = Counter(node.fates()), []
    with publisher('--size', '320x240', '--wait'):
        node.spin_until(lambda: node.received['label'], 'first label')
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            node.spin_for(0.6 * minutes)
            samples.append((node.memory_mb(), node.threads()))
            for kept in node.received.values():
                del kept[:-KEPT]
            progress(len(samples))
        fates = Counter(node.fates()) - before
    return samples, fates


def hang_subscribers(node: LongRun, seconds: float) -> list[dict]:
    """Count labels alone, then with two slow listeners, one that hangs and one that was killed."""
    rows = []
    with ExitStack() as stack:
        stack.enter_context(publisher('--size', '320x240', '--wait'))
        node.spin_until(lambda: node.received['label'], 'first label')
        rows.append(_count_labels(node, 'alone', seconds))
        _, _, hung, killed = (
            stack.enter_context(subscriber(name, delay_s))
            for name, delay_s in (('slow', 0.5), ('slower', 2), ('hung', 0), ('killed', 0))
        )
        node.spin_until(lambda: node.client.count_subscribers('/lw_refinenet/label') == 5, 'four subscribers')
        node.spin_for(1.0)
        hung.send_signal(signal.SIGSTOP)
        killed.kill()
        rows.append(_count_labels(node, 'with four slow and lost subscribers', seconds))
    return rows


def _count_labels(node: LongRun, what: str, seconds: float) -> dict:
    before = Counter(node.fates())
    node.received['label'].clear()
    started = time.monotonic()
    node.spin_for(seconds)
    labels, took = len(node.received['label']), time.monotonic() - started
    fates = Counter(node.fates()) - before
    assert labels, f'no label {what}'
    return {
        'subscribers': what,
        'labels per s': labels / took,
        'publish p95 (ms)': node.status[3]['publish']['p95'],
        'lost before the node': fates['lost'],
    }
