# SPDX-License-Identifier: Apache-2.0
"""Time the engines of this machine against the published pipeline: image in, label and overlay out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.options import Progress, image_size
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ['add_arguments', 'run']

UPSTREAM = 'published pipeline'
CHOICES = (
    ('torch', 'cpu', 'fp32'),
    ('torch', 'cpu', 'bf16'),
    ('openvino', 'cpu', 'fp32'),
    ('openvino', 'cpu', 'bf16'),
    ('torch', 'cuda', 'fp32'),
    ('torch', 'cuda', 'fp16'),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        '--weights', default=DEFAULT_WEIGHTS, metavar='NAME|FILE', help='shipped name or file'
    )
    parser.add_argument('--size', type=image_size, default=(480, 640), help='WxH (default: 640x480)')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads; 0 is all cores (default: 0)')
    parser.add_argument('--rounds', type=int, default=20, help='timings of each (default: 20)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the table there')


def run(options: argparse.Namespace) -> None:
    """Measure all in turn and print a table."""
    import numpy as np
    import torch

    from lw_refinenet_ros.cli.info import machine
    from lw_refinenet_ros.evaluation.files import write_json
    from lw_refinenet_ros.image.labels import LabelSet
    from lw_refinenet_ros.inference.baseline import UpstreamPipeline, time_interleaved
    from lw_refinenet_ros.inference.segmenter import Segmenter, find_weights
    from lw_refinenet_ros.model.weights import load_model

    if options.rounds < 1:
        msg = f'--rounds {options.rounds} must be at least 1'
        raise ValueError(msg)
    if options.threads:
        torch.set_num_threads(options.threads)
    network, card = load_model(find_weights(options.weights))
    image = _picture(options.size)
    upstream = UpstreamPipeline(network, card, LabelSet.from_dict(card.labels))
    calls: dict[str, Callable[[], object]] = {UPSTREAM: lambda: upstream(image)}
    agreement: dict[str, float] = {}
    reference = Segmenter.load(options.weights, engine='torch', device='cpu', precision='fp32').segment(image)
    for engine, device, precision in CHOICES:
        try:
            segmenter = Segmenter.load(
                options.weights, engine=engine, device=device, precision=precision, threads=options.threads
            )
        except ValueError:
            continue  # not on this machine, as `info` says with the reason
        name = f'{engine} {device} {precision}'
        calls[name] = lambda segmenter=segmenter: segmenter.segment(image).overlay(0.5)  # type: ignore[misc]
        agreement[name] = float((segmenter.segment(image).label == reference.label).mean())
    progress = Progress('round', options.rounds)
    times = time_interleaved(calls, options.rounds, progress.show)
    rows: list[dict[str, Any]] = []
    for name, values in times.items():
        p50, p95 = np.percentile(values, (50, 95))
        ratio = float(np.median(np.divide(times[UPSTREAM], values)))
        same = agreement.get(name)  # the published pipeline upsamples otherwise
        rows.append({'name': name, 'p50_ms': p50, 'p95_ms': p95, 'speedup': ratio, 'agreement': same})
    height, width = options.size
    print(f'{card.architecture}, {card.num_classes} classes, {width}x{height}; {machine()}')
    print(f'{"":<22}{"p50 ms":>9}{"p95 ms":>9}{"speed-up":>10}{"same label":>12}')
    for row in rows:
        shown = '' if row['agreement'] is None else f'{row["agreement"]:>12.2%}'
        print(f'{row["name"]:<22}{row["p50_ms"]:>9.1f}{row["p95_ms"]:>9.1f}{row["speedup"]:>9.1f}x{shown}')
    if options.json:
        about = {'machine': machine(), 'architecture': card.architecture, 'size': [height, width]}
        write_json(options.json, about | {'rounds': options.rounds, 'rows': rows})


def _picture(size: tuple[int, int]) -> Any:
    """Give a picture of smooth blobs, uint8 (H, W, 3): what pixels hold hardly matters to the time."""
    import cv2
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    return cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
