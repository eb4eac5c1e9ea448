# SPDX-License-Identifier: Apache-2.0
"""Accuracy, size and speed of the shipped weights, and the agreement of every engine and precision.

`CAMVID=FOLDER make benchmark ARGS=weights`, with CamVid as FOLDER/train and FOLDER/val of images and labels.
"""

import os
import sys
import time
from pathlib import Path
from statistics import median

from benchmark.table import store
from lw_refinenet_ros.evaluation.confusion import Confusion
from lw_refinenet_ros.inference.choice import has_bf16
from lw_refinenet_ros.inference.engine import EngineError
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.model.weights import load_model
from lw_refinenet_ros.resources import find_weights
from lw_refinenet_ros.training.dataset import find_pairs, read_pair

WEIGHTS = {'camvid': 'train and val', 'camvid_mobilenet_v2': 'train and val'}  # with their training data
RUNS = (
    ('torch', 'fp32'),
    ('torch', 'bf16'),
    ('openvino', 'fp32'),
    ('openvino', 'bf16'),
    ('openvino', 'int8'),
)
THREADS = 2
SEEN = (
    'Both have been trained on val: mIoU says how well they fit it, not what to expect of new frames '
    '(weights/README.md).'
)


def main() -> None:
    """Segment every val frame with all engines and precisions, interleaved; the first is the reference."""
    if 'CAMVID' not in os.environ:
        sys.exit('weights: skipped, CAMVID=FOLDER with val/images and val/labels is not set')
    pairs = find_pairs(Path(os.environ['CAMVID']) / 'val')
    runs = [run for run in RUNS if run[1] != 'bf16' or has_bf16('cpu')]  # emulated, it takes seconds
    rows = [row for weights in WEIGHTS for row in _compare(weights, pairs, runs)]
    conditions = (
        f"CamVid's val split, {len(pairs)} frames of 480x360, single scale, no flipping; latency from "
        f'camera bytes to labels of one frame, {THREADS} threads, median; all engines in turn on each '
        'frame. Agreement is the share of pixels with the same label as the first row of the same weights.'
    )
    title = 'The shipped weights, by engine and precision'
    store('weights', title, rows, [conditions, SEEN], ('torch', 'openvino'), by_cpu=True)


def _compare(weights: str, pairs, runs: list[tuple[str, str]]) -> list[dict]:
    network, card = load_model(weights)
    segmenters = {}
    for name, precision in runs:
        try:
            segmenters[name, precision] = Segmenter.build(
                network, card, device='cpu', engine=name, precision=precision, threads=THREADS
            )
        except EngineError as error:
            print(f'{weights}, {name} {precision}: {error}')
    confusion = {run: Confusion(len(pairs.labels.names)) for run in segmenters}
    same, latency = dict.fromkeys(segmenters, 0.0), {run: [] for run in segmenters}
    for index, (image, truth) in enumerate(read_pair(*pair) for pair in zip(pairs.images, pairs.masks)):
        reference = None
        for run, segmenter in segmenters.items():
            if index == 0:
                segmenter.segment(image)  # compiles
            started = time.perf_counter()
            label = segmenter.segment(image).label
            latency[run].append((time.perf_counter() - started) * 1e3)
            reference = label if reference is None else reference
            same[run] += float((label == reference).mean()) / len(pairs)
            confusion[run].update(label, truth)
        print(f'\r{weights}: frame {index + 1} of {len(pairs)}', end='', file=sys.stderr)
    print(file=sys.stderr)
    rows = []
    for (engine, precision), table in confusion.items():
        p50 = median(latency[engine, precision])
        rows.append(
            {
                'weights': weights,
                'trained on': WEIGHTS[weights],
                'engine': engine,
                'precision': precision,
                'mIoU (%)': 100 * table.miou,
                'agreement (%)': f'{100 * same[engine, precision]:.2f}',
                'p50 (ms)': p50,
                'frames/s': 1e3 / p50,
                'file (bytes)': find_weights(weights).stat().st_size,
            }
        )
    return rows
