# SPDX-License-Identifier: Apache-2.0
"""The overhead of the node over the engine, from the image's callback to published label and overlay.

`python -m benchmark.overhead [SECONDS [WxH]]`.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmark.table import store
from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.class_groups import ClassGroups
from lw_refinenet_ros.cli.options import Progress, image_size
from lw_refinenet_ros.labels import LabelSet

SECONDS = 30.0
SIZE = (480, 640)
RATE_HZ = 5  # slow enough for any engine, so that no frame waits
GOAL_MS = 3.0  # p50 at 640x480
THREADS = 2
SETTLING = 5  # frames excluded at the start
PAIRS = 100  # of runs with and without groups


def main(arguments: list[str] | None = None) -> None:
    """Measure the node with the default weights."""
    seconds = float(arguments[0]) if arguments else SECONDS
    size = image_size(arguments[1]) if arguments and arguments[1:] else SIZE
    frames, engine = _measure(size, seconds)
    stages = {name: np.array([frame[name] for frame in frames]) for name in frames[0]}
    overhead = stages['total'] - stages['engine']
    parts = {
        'wait: callback to inference thread': stages['wait'],
        'view: message to pixels': stages['view'],
        'around the engine: memory, checks': stages['inference'] - stages['engine'],
        'publish: overlay, both messages out': stages['publish'],
        'the node in all': overhead,
        'the engine': stages['engine'],
    }
    rows = [
        {
            'part': name,
            'p50 (µs)': round(float(np.median(values)) * 1e3),
            'p95 (µs)': round(float(np.percentile(values, 95)) * 1e3),
        }
        for name, values in parts.items()
    ]
    ratio, ratio95 = np.percentile(_groups_ratios(size), (50, 95))
    conditions = (
        f'{size[1]}x{size[0]} rgb8 at {RATE_HZ} Hz, {len(frames)} frames of the shipped weights on {engine}, '
        f'{os.cpu_count()} cores; label and overlay are published, and subscribed to by another process. '
        'A stage is timed by the node itself, the engine by a clock around its `run`.'
    )
    groups = (
        f'With class_groups the engine takes {ratio:.3f} times the CPU time of without (p95 {ratio95:.3f}; '
        f'all threads, {PAIRS} pairs of runs in turns).'
    )
    notes = [conditions, groups]
    if size == SIZE:
        reached = 'reached' if np.median(overhead) <= GOAL_MS else 'missed'
        notes.append(f'The node in all, p50 at most {GOAL_MS:g} ms: {reached}.')
    packages = ('openvino', 'numpy', 'opencv-python-headless')
    store('overhead', 'What the node adds to the engine', rows, notes, packages)


def _groups_ratios(size: tuple[int, int]) -> np.ndarray:
    """Return the time of the engine with groups over that without, of pairs of runs on one image."""
    plain = Segmenter.load(threads=THREADS)
    names = plain.labels.names
    labels = LabelSet('halves', ('one', 'other'), ((255, 0, 0), (0, 255, 0)))
    grouped = plain.grouped(ClassGroups(labels, (names[::2], names[1::2])))
    image = cv2.resize(np.random.default_rng(1).integers(0, 255, (12, 16, 3), np.uint8), size[::-1])
    job = plain.job(size)
    plain.prepare(job)

    def seconds(segmenter: Segmenter) -> float:
        started = time.process_time()  # of all threads, which others on the machine do not change
        segmenter.run(job, [image])
        return time.process_time() - started

    for segmenter in (plain, grouped):
        seconds(segmenter)
    return np.array([seconds(grouped) / seconds(plain) for _ in range(PAIRS)])


def run(log: str) -> None:
    """Run the node with a timed engine until interrupted, then write the stages of every frame."""
    from lw_refinenet_ros.inference import segmenter
    from lw_refinenet_ros.node import segmentation_node
    from lw_refinenet_ros.node.process.malloc import keep_large_allocations
    from lw_refinenet_ros.node.statistics import Statistics

    frames: list[dict[str, float]] = []
    engine_ms = [0.0]
    make_engine, segmented = segmenter.make_engine, Statistics.segmented

    def make_timed_engine(*args, **options):
        engine = make_engine(*args, **options)
        run_engine = engine.run

        def timed(*args) -> None:
            started = time.monotonic()
            run_engine(*args)
            engine_ms[0] = (time.monotonic() - started) * 1e3

        engine.run = timed
        return engine

    def note(self: Statistics, stages_ms: dict[str, float], **others) -> None:
        if stages_ms:
            frames.append({**stages_ms, 'engine': engine_ms[0]})
        segmented(self, stages_ms, **others)

    segmenter.make_engine, Statistics.segmented = make_timed_engine, note
    keep_large_allocations()
    segmentation_node.main()
    Path(log).write_text(json.dumps(frames))


def _measure(size: tuple[int, int], seconds: float) -> tuple[list[dict[str, float]], str]:
    """Play to the node; return the stages of each frame in ms, and the engine's description."""
    from lw_refinenet_ros.resources import DEFAULT_WEIGHTS
    from test.support.faults.load import publisher
    from test.support.long_run import LongRun

    progress = Progress('overhead: frames', round(seconds * RATE_HZ))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / 'stages.json'
        program = f'from benchmark.overhead import run; run({str(log)!r})'
        node = LongRun(program=program, weights=DEFAULT_WEIGHTS, threads=THREADS)
        try:
            node.listen('label', 'overlay')
            node.wait_active()
            node.client.destroy_publisher(node.images)  # the publisher is the only camera
            with publisher('--size', f'{size[1]}x{size[0]}', '--rate', str(RATE_HZ), '--wait'):
                labels, wanted = 0, round(seconds * RATE_HZ) + SETTLING
                while labels < wanted:
                    node.spin_until(lambda: node.received['label'], 'label')
                    labels += len(node.received['label'])
                    for kept in node.received.values():
                        kept.clear()
                    progress.show(min(labels, wanted - SETTLING))
            engine = node.status[1]['engine']
            node.process.terminate()
            node.process.wait(60)
        finally:
            node.close()
        return json.loads(log.read_text())[SETTLING:], engine


if __name__ == '__main__':
    main(sys.argv[1:])
