# SPDX-License-Identifier: Apache-2.0
"""The CPU path, image to label and overlay, against the published pipeline and the network alone."""

import dataclasses
import importlib.util

import cv2
import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops

from benchmark.table import store
from lw_refinenet_ros.inference.baseline import UpstreamPipeline, time_interleaved
from lw_refinenet_ros.inference.engine import EngineError
from lw_refinenet_ros.inference.openvino_graph import add_network
from lw_refinenet_ros.inference.quantize import find_quantization
from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.network import build_model
from lw_refinenet_ros.model.split_classifier import rewrite_for_cpu
from lw_refinenet_ros.model.weights import Card

ARCHITECTURE, CLASSES, SIZE, THREADS, ROUNDS = 'lw_refinenet_mobilenet_v2', 21, (480, 640), 2, 15
UPSTREAM = 'published pipeline'


def main() -> None:
    """Time everything in interleaved rounds."""
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    network = build_model(ARCHITECTURE, CLASSES).eval()
    colors = tuple((10 * i, 5 * i, 255 - 10 * i) for i in range(CLASSES))
    labels = LabelSet('numbers', tuple(map(str, range(CLASSES))), colors)
    mean, std = network.encoder.mean, network.encoder.std
    card = Card(ARCHITECTURE, 256, labels, mean, std)
    noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    image = cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    upstream = UpstreamPipeline(network, card)
    calls = {UPSTREAM: lambda: upstream(image)}
    if importlib.util.find_spec('nncf'):
        pictures = [np.roll(image, 90 * index, axis=1) for index in range(4)]
        card = dataclasses.replace(card, quantization=find_quantization(network, card, pictures))
    precisions = ('fp32', 'bf16', *(['int8'] if card.quantization else []))
    for precision in precisions:
        try:
            segmenter = Segmenter.build(
                network, card, device='cpu', engine='openvino', precision=precision, threads=THREADS
            )
        except EngineError:
            continue  # this CPU has no bf16
        calls[f'OpenVINO {precision}, image to label and overlay'] = lambda segmenter=segmenter: (
            segmenter.segment(image).overlay(0.5)
        )
        calls[f'OpenVINO {precision}, network alone'] = network_alone(network, card, precision)
    times = time_interleaved(calls, ROUNDS)
    rows = [
        {
            'what': name,
            'p50 (ms)': float(np.median(values)),
            'p95 (ms)': float(np.percentile(values, 95)),
            'times faster': float(np.median(np.divide(times[UPSTREAM], values))),
        }
        for name, values in times.items()
    ]
    conditions = (
        f'{ARCHITECTURE}, untrained, {CLASSES} classes, {SIZE[1]}x{SIZE[0]}, {THREADS} threads; medians of '
        f'{ROUNDS} interleaved rounds. The network alone takes normalised float32 NCHW and gives logits.'
    )
    notes = [conditions]
    if 'int8' not in precisions:
        notes.append('int8 was not measured: NNCF is not installed.')
    for precision in precisions:
        whole, bare = (
            times.get(f'OpenVINO {precision}, {part}')
            for part in ('image to label and overlay', 'network alone')
        )
        if whole and bare:
            ratio = float(np.median(np.divide(whole, bare)))
            notes.append(f'{precision}: the whole call takes {ratio:.2f} of the time of the network alone.')
        half = times.get('OpenVINO bf16, image to label and overlay')
        if precision == 'int8' and whole and half:
            notes.append(f'int8 is {float(np.median(np.divide(half, whole))):.2f} times as fast as bf16.')
    store(
        'cpu',
        'From image to overlay on the CPU',
        rows,
        notes,
        ('torch', 'openvino', 'opencv-python-headless'),
    )


def network_alone(network, card, precision):
    """Return a call of the network alone in OpenVINO."""
    x = ops.parameter([1, 3, *SIZE], np.float32)
    ranges = card.quantization if precision == 'int8' else None
    model = ov.Model([add_network(rewrite_for_cpu(network), x.output(0), ranges)], [x])
    config = {
        'PERFORMANCE_HINT': 'LATENCY',
        'INFERENCE_PRECISION_HINT': {'fp32': 'f32', 'bf16': 'bf16', 'int8': 'bf16'}[precision],
        'INFERENCE_NUM_THREADS': str(THREADS),
    }
    request = ov.Core().compile_model(model, 'CPU', config).create_infer_request()
    tensor = ov.Tensor(np.zeros((1, 3, *SIZE), np.float32))
    return lambda: request.infer({0: tensor}, share_outputs=True)
