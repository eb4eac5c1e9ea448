# SPDX-License-Identifier: Apache-2.0
"""Add int8 ranges, measured on frames of a bag or folder, to a weights file (needs NNCF)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lw_refinenet_ros.cli.options import Progress, number, source
from lw_refinenet_ros.cli.outputs import WEIGHTS, Declared, Output

if TYPE_CHECKING:
    from lw_refinenet_ros.inference.engine import Pixels
    from lw_refinenet_ros.inference.segmenter import Segmenter
    from lw_refinenet_ros.labels import LabelSet

    Examples = Sequence[tuple[Pixels, Pixels | None]]  # RGB, and its mask

__all__ = ['add_arguments', 'outputs', 'run']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('weights', metavar='NAME|FILE', help='shipped weights or a file')
    parser.add_argument(
        '--data', type=source, required=True, metavar='BAG|FOLDER', help='frames like those it will see'
    )
    parser.add_argument('--topic', help="the bag's image topic, if it has several")
    parser.add_argument('--frames', type=number(int, 1), default=64, help='frames to measure (default: 64)')
    parser.add_argument(
        '--held-out',
        type=Path,
        metavar='FOLDER',
        help='folder with images/ and labels/ to measure the accuracy on (default: other frames of --data)',
    )
    parser.add_argument(
        '--float',
        action='append',
        choices=('first', 'last', 'depthwise'),
        default=[],
        dest='keep_float',
        help='convolutions to keep in float, if int8 loses too much accuracy; repeatable',
    )
    parser.add_argument('--output', type=Path, required=True, help='the .safetensors file to write')


def outputs(options: argparse.Namespace) -> Declared:
    return [Output('--output', options.output, WEIGHTS)], [options.weights, options.data, options.held_out]


def run(options: argparse.Namespace) -> None:
    """Write the weights with int8 ranges and the accuracy of int8 on other frames."""
    import dataclasses

    import torch

    from lw_refinenet_ros.inference.choice import inaccuracy_of_int8
    from lw_refinenet_ros.inference.quantize import find_quantization
    from lw_refinenet_ros.inference.segmenter import Segmenter
    from lw_refinenet_ros.model.weights import load_model, save_model

    network, card = load_model(options.weights)
    images = _frames(options.data, options.topic, options.frames if options.held_out else 2 * options.frames)
    if options.held_out:
        held_out = _examples(options.held_out, card.labels)
    else:
        images, held_out = images[::2], [(image, None) for image in images[1::2]]
    if not held_out:
        raise ValueError(f'{options.data}: at least 2 frames are needed, one to measure and one to check')
    progress = Progress('ranges from frame', len(images))
    quantization = find_quantization(network, card, images, options.keep_float, progress.show)
    card = dataclasses.replace(card, quantization=quantization)
    exact, rounded = (
        Segmenter.build(network, card, device='cpu', engine='openvino', precision=precision)
        for precision in ('fp32', 'int8')
    )
    accuracy = quantization['accuracy'] = _accuracy(exact, rounded, held_out)
    halves = all(torch.equal(t, t.half().float()) for t in network.parameters())  # keep the stored precision
    save_model(options.output, network, card, torch.float16 if halves else torch.float32)
    mious = ''
    if 'miou' in accuracy:
        mious = f', mIoU {accuracy["miou"]:.1%} instead of {accuracy["float_miou"]:.1%}'
    print(
        f'{options.output}: {len(quantization["weights"])} convolutions in int8, ranges from {len(images)} '
        f'frames; on {len(held_out)} others {accuracy["agreement"]:.2%} of the pixels get the same label as '
        f'in float32{mious}'
    )
    if objection := inaccuracy_of_int8(card):
        raise ValueError(
            f"{options.output}: 'auto' runs its float weights, since in int8 {objection}; "
            'try more --frames like those it will see, or --float depthwise, first or last'
        )
    print('measure it with `lw_refinenet evaluate` and `lw_refinenet benchmark`', file=sys.stderr)


def _frames(data: str, topic: str | None, count: int) -> list[Pixels]:
    """Return up to `count` frames, spread evenly, as RGB."""
    from lw_refinenet_ros.image.encodings import color_image
    from lw_refinenet_ros.sources.opening import open_source

    with open_source(data, topic=topic) as source:
        endless = data.startswith('camera:')
        length = count if endless else source.length or sum(1 for _ in source)
        chosen = {index * length // min(count, length) for index in range(min(count, length))}
        images: list[Pixels] = []
        for index, frame in enumerate(source):
            if index in chosen:
                image, order = color_image(frame)
                images.append(image[..., ::-1].copy() if order == 'bgr' else image.copy())
            if len(images) == len(chosen):
                break
    return images


def _examples(folder: Path, labels: LabelSet) -> Examples:
    """Read the images and masks of a folder, which must have the classes of the weights."""
    from lw_refinenet_ros.training.dataset import find_pairs, read_pair

    pairs = find_pairs(folder)
    if pairs.labels.names != labels.names:
        names = ', '.join(pairs.labels.names)
        raise ValueError(f'{folder}: its classes are {names}, not those of the weights')
    return [read_pair(image, mask) for image, mask in zip(pairs.images, pairs.masks)]


def _accuracy(exact: Segmenter, rounded: Segmenter, examples: Examples) -> dict[str, Any]:
    """Measure the `accuracy` entry of `Card.quantization`."""
    import numpy as np

    from lw_refinenet_ros.evaluation.confusion import Confusion

    same = []
    counts = [Confusion(len(exact.labels.names)) for _ in range(2)]
    progress = Progress('comparing with float32: frame', len(examples))
    for index, (image, mask) in enumerate(examples):
        one, other = (segmenter.segment(image).label for segmenter in (exact, rounded))
        same.append((one == other).mean())
        if mask is not None:
            for confusion, label in zip(counts, (one, other)):
                confusion.update(label, mask)
        progress.show(index + 1)
    accuracy = {'frames': len(examples), 'agreement': round(float(np.mean(same)), 5)}
    if not np.isnan(counts[0].miou):
        accuracy |= {'float_miou': round(counts[0].miou, 4), 'miou': round(counts[1].miou, 4)}
    return accuracy
