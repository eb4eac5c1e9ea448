# SPDX-License-Identifier: Apache-2.0
"""Add int8 ranges to a weights file, found from frames of a bag or folder (needs NNCF)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lw_refinenet_ros.cli.options import Progress, number

if TYPE_CHECKING:
    import argparse

    from lw_refinenet_ros.inference.engine import Pixels

__all__ = ['add_arguments', 'run']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('weights', metavar='NAME|FILE', help='shipped name or file')
    parser.add_argument('--data', required=True, metavar='BAG|FOLDER', help='frames of what it will see')
    parser.add_argument('--topic', help="a bag's image topic, if it has several")
    parser.add_argument(
        '--frames', type=number(int, 1), default=64, help='spread over the data (default: 64)'
    )
    parser.add_argument(
        '--float',
        action='append',
        choices=('first', 'last'),
        default=[],
        dest='keep_float',
        help='convolution to keep in float, if int8 loses too much; may be given twice',
    )
    parser.add_argument('--output', type=Path, required=True, help='the .safetensors file to write')


def run(options: argparse.Namespace) -> None:
    """Write the same weights with ranges; tell how well their labels agree on the frames."""
    import dataclasses

    import numpy as np
    import torch

    from lw_refinenet_ros.inference.choice import make_engine
    from lw_refinenet_ros.inference.quantize import find_quantization
    from lw_refinenet_ros.inference.segmenter import Segmenter, find_weights
    from lw_refinenet_ros.model.weights import load_model, save_model

    network, card = load_model(find_weights(options.weights))
    images = _frames(options.data, options.topic, options.frames)
    quantization = find_quantization(network, card, images, options.keep_float)
    card = dataclasses.replace(card, quantization=quantization)
    halves = all(torch.equal(t, t.half().float()) for t in network.parameters())  # as it was stored
    save_model(options.output, network, card, torch.float16 if halves else torch.float32)
    segmenters = [
        Segmenter(
            make_engine(network, card, device='cpu', engine='openvino', precision=precision, threads=0), card
        )
        for precision in ('fp32', 'int8')
    ]
    same = []
    progress = Progress('comparing with float32: frame', len(images))
    for index, image in enumerate(images):
        one, other = (segmenter.segment(image).label for segmenter in segmenters)
        same.append((one == other).mean())
        progress.show(index + 1)
    rounded = len(quantization['weights'])
    print(
        f'{options.output}: {rounded} convolutions in int8, ranges from {len(images)} frames; '
        f'{np.mean(same):.2%} of their pixels get the label that float32 gives'
    )
    print('measure it with `lw_refinenet evaluate` and `lw_refinenet benchmark`', file=sys.stderr)


def _frames(data: str, topic: str | None, count: int) -> list[Pixels]:
    """Give up to `count` frames, spread evenly, as RGB."""
    from lw_refinenet_ros.image.encodings import pixels
    from lw_refinenet_ros.sources.opening import open_source

    with open_source(data, topic=topic) as source:
        every = max((source.length or 0) // count, 1)
        images: list[Pixels] = []
        for index, frame in enumerate(source):
            if index % every == 0 and len(images) < count:
                image, order = pixels(frame)
                images.append(image[..., ::-1].copy() if order == 'bgr' else image.copy())
    return images
