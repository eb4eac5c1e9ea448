# SPDX-License-Identifier: Apache-2.0
"""Frames per second of evaluating a bag and of the segmenter alone, interleaved in one process."""

import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from benchmark.table import store
from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.evaluation.evaluate import Prediction, evaluate, segment_with
from lw_refinenet_ros.evaluation.examples import BagExamples
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.sources.bag_writer import BagWriter

SIZE, FRAMES, ROUNDS = (480, 640), 40, 7
IMAGES, MASKS = '/camera/image', '/camera/mask'


def main() -> None:
    """Time both on the same frames in interleaved rounds, so that fluctuations affect both alike."""
    segmenter = Segmenter.load()
    images = pictures(FRAMES)
    for confidence in (False, True):
        segmenter.prepare(segmenter.job(SIZE, confidence=confidence))
    times: dict[str, list[float]] = {}
    busy: dict[str, list[float]] = {}

    def timed(name, call):
        started, spent = time.perf_counter(), time.process_time()
        call()
        times.setdefault(name, []).append((time.perf_counter() - started) / FRAMES * 1e3)
        busy.setdefault(name, []).append((time.process_time() - spent) / FRAMES * 1e3)

    with tempfile.TemporaryDirectory() as folder:
        bag = Path(folder) / 'bag.mcap'
        write_bag(bag, images, [shifted(segmenter.segment(image).label) for image in images])
        examples = BagExamples(bag, IMAGES, MASKS, 0)

        made = [segmenter.segment(image, confidence=True) for image in images]

        def segment_all(*, confidence):
            for image in images:
                segmenter.segment(image, confidence=confidence)

        def without_network(example):
            return Prediction(made[example.index].label, made[example.index].confidence, None)

        for _ in range(ROUNDS):
            timed('labels', lambda: segment_all(confidence=False))
            timed('labels and confidence', lambda: segment_all(confidence=True))
            timed('evaluate', lambda: evaluate(examples, segment_with(segmenter), segmenter.labels, worst=8))
            timed('evaluate, network left out', lambda: evaluate(examples, without_network, segmenter.labels))
    rows = [
        {
            'what': name,
            'frames a second': 1e3 / float(np.median(values)),
            'ms a frame': float(np.median(values)),
            'CPU ms a frame': float(np.median(busy[name])),
            'evaluate / this': f'{np.median(np.divide(values, times["evaluate"])):.3f}',
        }
        for name, values in times.items()
    ]
    share = float(np.median(np.divide(times['labels and confidence'], times['evaluate'])))
    claim = (
        f'evaluate runs at {share:.2f} of the frames a second of the segmenter that gives labels and '
        'confidence, which it needs both; the goal is 0.9. It reads rgb8 images and mono8 masks from a bag.'
    )
    outlines = sum(np.count_nonzero(np.diff(each.label, axis=1)) for each in made) / FRAMES
    conditions = (
        f'{segmenter.card.architecture}, {len(segmenter.labels.names)} classes, {SIZE[1]}x{SIZE[0]}, '
        f'{segmenter.engine.description}; {FRAMES} frames, medians of {ROUNDS} interleaved rounds; the last '
        f'column is the median of the ratios of each round. A row of the labels changes class '
        f'{outlines / SIZE[0]:.0f} times; the outlines are what scoring depends on.'
    )
    packages = ('openvino', 'numpy', 'opencv-python-headless')
    store('evaluation', 'Evaluating a bag', rows, [claim, conditions], packages)


def pictures(count, size=SIZE):
    """Return frames of a moving, street-like scene of smooth blobs, uint8 (H, W, 3)."""
    noise = np.random.default_rng(0).integers(0, 255, (18, 24, 3), np.uint8)
    scene = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    return [np.roll(scene, 5 * index, axis=1) for index in range(count)]


def shifted(label):
    """Return a slightly wrong mask with a strip without truth."""
    truth = np.roll(label, 3, axis=1)
    truth[:8] = 255
    return truth


def write_bag(path, images, masks):
    """Write images and masks at 10 Hz, repeating the masks as needed."""
    with BagWriter(path) as bag:
        for index, (image, mask) in enumerate(zip(images, masks)):
            stamp_ns = 1_700_000_000_000_000_000 + index * 100_000_000
            for topic, array, encoding in ((IMAGES, image, 'rgb8'), (MASKS, mask, 'mono8')):
                frame = Frame.from_array(array, stamp_ns=stamp_ns, frame_id='camera', encoding=encoding)
                bag.write_image(topic, frame)
