# SPDX-License-Identifier: Apache-2.0
"""The cost of RefineNet's parts: from the original to the light-weight network, one part at a time."""

import time
from statistics import median

import torch

from benchmark.table import store
from lw_refinenet_ros.model.cost import measure_cost
from lw_refinenet_ros.model.network import build_model

SIZE = (360, 480)
CLASSES = 21
ROUNDS = 7
LIGHT = {'kernel': 1, 'rcus': (0, 0)}
VARIANTS = {
    'original: 3x3, RCU, CRP': {},
    '1x1 instead of 3x3': {'kernel': 1},
    '1x1, without RCU: the light-weight network': LIGHT,
    'light-weight, without CRP': {**LIGHT, 'crp_stages': 0},
    'light-weight, last two levels only': {**LIGHT, 'levels': 2},
}


def main() -> None:
    """Time all variants in interleaved rounds, so that fluctuations of the machine affect all alike."""
    networks = [build_model('refinenet_resnet50', CLASSES, **dials).eval() for dials in VARIANTS.values()]
    image = torch.randn(1, 3, *SIZE)
    latencies: list[list[float]] = [[] for _ in networks]
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            for network, latency in zip(networks, latencies):
                started = time.perf_counter()
                network(image)
                latency.append((time.perf_counter() - started) * 1e3)
    rows = [
        {
            'ResNet-50 with': name,
            'parameters (M)': sum(p.numel() for p in network.parameters()) / 1e6,
            'multiply-adds (G)': measure_cost(network, SIZE).total() / 1e9,
            'latency (ms)': median(latency[1:]),  # the first warms up
        }
        for name, network, latency in zip(VARIANTS, networks, latencies)
    ]
    for row in rows:
        row['speed-up'] = rows[0]['latency (ms)'] / row['latency (ms)']
    original, light = rows[0], rows[2]
    smaller, faster = (original[c] / light[c] for c in ('parameters (M)', 'latency (ms)'))
    claim = (
        f'The light-weight network has {smaller:.1f} times fewer parameters than RefineNet and is '
        f'{faster:.1f} times faster; the paper claims more than 3 and more than 2.'
    )
    conditions = (
        f'Untrained networks, {CLASSES} classes, {SIZE[1]}x{SIZE[0]}, PyTorch eager float32 on the CPU, '
        f'threads: {torch.get_num_threads()}; medians of {ROUNDS} interleaved rounds. With the last two '
        'levels only, the logits have stride 16 instead of 4.'
    )
    store('ablation', 'What the parts of RefineNet cost', rows, [claim, conditions], ('torch',))
