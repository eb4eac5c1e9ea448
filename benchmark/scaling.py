# SPDX-License-Identifier: Apache-2.0
"""How latency grows with image size, classes and cameras: three tables, three plots.

`python -m benchmark.scaling [ROUNDS [resolution|classes|cameras...]]`.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import torch

from benchmark.plot import write_plot
from benchmark.table import RESULTS, store
from lw_refinenet_ros.cli.options import Progress
from lw_refinenet_ros.inference.baseline import time_interleaved
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.weights import load_model
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

ROUNDS, THREADS = 15, 2
SIZES = ((240, 320), (360, 480), (480, 640), (600, 800), (720, 960), (720, 1280), (1080, 1920))
CLASSES = (2, 5, 11, 21, 40, 60, 80, 100, 125, 150)
CAMERAS = tuple(range(1, 9))
SIZE, NUM_CLASSES = (480, 640), 11  # unless stated otherwise
Calls = dict[float, Callable[[], object]]


def main(arguments: list[str] | None = None) -> None:
    """Run all three."""
    rounds, *chosen = arguments or [str(ROUNDS)]
    for name, measure in (('resolution', _resolution), ('classes', _classes), ('cameras', _cameras)):
        if not chosen or name in chosen:
            measure(int(rounds))


def _resolution(rounds: int) -> None:
    segmenter = _segmenter(NUM_CLASSES)
    images = {size[0] * size[1] / 1e6: _picture(size) for size in SIZES}
    calls = {pixels: lambda image=image: segmenter.segment(image) for pixels, image in images.items()}
    times = _time('resolution', calls, rounds)
    rows = [
        {'image': f'{size[1]}x{size[0]}', 'pixels (M)': pixels, **_spread(times[pixels])}
        for size, pixels in zip(SIZES, images)
    ]
    for row in rows:
        row['p50 per megapixel (ms)'] = row['p50 (ms)'] / row['pixels (M)']
    _store(
        'resolution',
        'the size of the image',
        'megapixels',
        {'': times},
        rows,
        f'{NUM_CLASSES} classes',
        segmenter,
    )


def _classes(rounds: int) -> None:
    image = _picture(SIZE)
    segmenters = {classes: _segmenter(classes) for classes in CLASSES}
    calls = {n: lambda segmenter=segmenter: segmenter.segment(image) for n, segmenter in segmenters.items()}
    times = _time('classes', calls, rounds)
    rows = [{'classes': n, **_spread(times[n])} for n in CLASSES]
    said = f'{_said(SIZE)}, its classes repeated or left out'
    _store('classes', 'the number of classes', 'classes', {'': times}, rows, said, segmenters[2])


def _cameras(rounds: int) -> None:
    segmenter, image = _segmenter(NUM_CLASSES), _picture(SIZE)
    calls: Calls = {n: lambda n=n: segmenter.segment_batch([image] * n) for n in CAMERAS}
    one_by_one: Calls = {n: lambda n=n: [segmenter.segment(image) for _ in range(n)] for n in CAMERAS}
    both = _time('cameras', {**calls, **{-n: call for n, call in one_by_one.items()}}, rounds)
    times, apart = {n: both[n] for n in CAMERAS}, {n: both[-n] for n in CAMERAS}
    rows = [{'cameras': n, **_spread(times[n])} for n in CAMERAS]
    for n, row in zip(CAMERAS, rows):
        row['p50 per camera (ms)'] = row['p50 (ms)'] / n
        row['p50 one by one (ms)'] = float(np.median(apart[n]))
    said = f'{_said(SIZE)}, {NUM_CLASSES} classes; a frame of each camera at once'
    curves = {'one batch': times, 'one by one': apart}
    _store('cameras', 'the number of cameras', 'cameras', curves, rows, said, segmenter)


def _time(name: str, calls: Calls, rounds: int) -> dict[float, list[float]]:
    return time_interleaved(calls, rounds, Progress(f'scaling, {name}: rounds', rounds).show)


def _spread(times: list[float]) -> dict[str, float]:
    return {'p50 (ms)': float(np.median(times)), 'p95 (ms)': float(np.percentile(times, 95))}


def _store(
    name: str,
    what: str,
    axis: str,
    curves: dict[str, dict],
    rows: list[dict],
    said: str,
    segmenter: Segmenter,
) -> None:
    rounds = len(next(iter(next(iter(curves.values())).values())))
    points = {
        curve: [(x, float(np.median(t)), float(np.percentile(t, 95))) for x, t in times.items()]
        for curve, times in curves.items()
    }
    title = f'Latency against {what}'
    write_plot(RESULTS / f'scaling_{name}.svg', title, (axis, 'latency, ms (median, bar to p95)'), points)
    conditions = (
        f'The shipped {segmenter.card.architecture}, {said}; {segmenter.engine.description}, '
        f'{os.cpu_count()} cores; from '
        f'camera bytes to labels, {rounds} interleaved rounds.'
    )
    notes = [f'![{title}](scaling_{name}.svg)', conditions]
    store(f'scaling_{name}', title, rows, notes, ('torch', 'openvino'))


def _said(size: tuple[int, int]) -> str:
    return f'{size[1]}x{size[0]}'


def _picture(size: tuple[int, int]) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    return cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)


def _segmenter(num_classes: int) -> Segmenter:
    """Return the shipped network with its classes repeated, such that repetitions never have the argmax.

    The labels, and thus the work of interpolating boundaries, are those of a trained network.
    """
    network, card = load_model(DEFAULT_WEIGHTS)
    classifier, trained = network.decoder.classifier, card.num_classes
    chosen = torch.arange(num_classes) % trained
    classifier.weight = torch.nn.Parameter(classifier.weight.detach()[chosen])
    lower = 8.0 * (torch.arange(num_classes) >= trained)
    classifier.bias = torch.nn.Parameter(classifier.bias.detach()[chosen] - lower)
    classifier.out_channels = num_classes
    names, colors = zip(*((f'class {i}', (i, i, i)) for i in range(num_classes)))
    card = replace(card, labels=LabelSet('repeated', names, colors))
    return Segmenter.build(network, card, device='cpu', threads=THREADS)


if __name__ == '__main__':
    main(sys.argv[1:])
