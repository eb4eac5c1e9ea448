# SPDX-License-Identifier: Apache-2.0
"""Describe a weights file, the cost of an architecture, or what is installed and works here."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import os
import platform
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lw_refinenet_ros import __version__
from lw_refinenet_ros.cli.environment import machine
from lw_refinenet_ros.cli.options import image_size
from lw_refinenet_ros.cli.table import Colored, print_table
from lw_refinenet_ros.cli.terminal import shows_color
from lw_refinenet_ros.node.process import middleware
from lw_refinenet_ros.node.process.fast_dds import SHARED_MEMORY, free_bytes
from lw_refinenet_ros.resources import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from lw_refinenet_ros.model.network import Network

__all__ = ['add_arguments', 'run']

PACKAGES = ('torch', 'openvino', 'numpy', 'opencv-python-headless', 'rosbags', 'rclpy', 'safetensors', 'av')
Row = tuple[str, ...]  # name, value; of classes also name and, on a terminal, colour
VOC_CLASSES = 21  # as in the published parameter counts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('weights', nargs='?', metavar='WEIGHTS|ARCHITECTURE', help='weights or architecture')
    parser.add_argument(
        '--size',
        type=image_size,
        default=(480, 640),
        metavar='WxH',
        help='image size for counting multiply-adds (default: 640x480)',
    )


def run(options: argparse.Namespace) -> None:
    """Print the description."""
    rows: Sequence[Row]
    if options.weights is None:
        rows = _about_here()
    elif re.fullmatch(r'(lw_)?refinenet_\w+', options.weights):
        rows = _about_architecture(options.weights, options.size)
    else:
        rows = _about_weights(options.weights, options.size)
    for cells, group in itertools.groupby(rows, len):
        print_table(list(group), '<' * (cells - 1) + 'w')


def _about_here() -> list[tuple[str, str]]:
    from lw_refinenet_ros.inference.segmenter import Segmenter
    from lw_refinenet_ros.resources import find_weights

    rows = [('lw_refinenet_ros', __version__), ('machine', machine()), ('Python', platform.python_version())]
    for package in PACKAGES:
        try:
            rows.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            rows.append((package, 'not installed'))
    rows.append(('ROS_DISTRO', os.environ.get('ROS_DISTRO', 'not set')))
    if importlib.util.find_spec('rclpy') is None:
        rows.append(('middleware', 'none: no ROS 2 is sourced or installed'))
    else:
        in_use = os.environ.get('RMW_IMPLEMENTATION') or middleware.DEFAULT
        rows += [('middleware', in_use), ('  large images', middleware.describe(in_use))]
    if SHARED_MEMORY.is_dir():
        rows.append(('  shared memory', f'{free_bytes() / 2**20:.0f} MiB free in {SHARED_MEMORY}'))
    rows.append(('default weights', str(find_weights(DEFAULT_WEIGHTS))))
    for device, engine in (('auto', 'auto'), ('cuda', 'torch'), ('cpu', 'openvino'), ('cpu', 'torch')):
        try:
            segmenter = Segmenter.load(device=device, engine=engine)
            rows.append((f'engine {engine} on {device}', segmenter.engine.description))
        except ValueError as error:
            rows.append((f'engine {engine} on {device}', f'not here: {error}'))
    return rows


def _about_network(network: Network, size: tuple[int, int]) -> list[tuple[str, str]]:
    """Return the cost of a network: parameters, multiply-adds, sizes of its feature maps."""
    import torch

    from lw_refinenet_ros.model.cost import measure_cost
    from lw_refinenet_ros.model.network import enlarged
    from lw_refinenet_ros.model.rewrite import rewrite_for_inference

    cost = measure_cost(network, size)
    total, encoder = cost.total(), cost.total('encoder')
    parts = f'encoder {encoder / 1e9:.2f}, decoder {(total - encoder) / 1e9:.2f}'
    seen = enlarged(size, network.least_size)
    with torch.device('meta'):  # no weight is needed any more
        after = measure_cost(rewrite_for_inference(network.to('meta')), seen).total()
    rows = [
        ('parameters', f'{sum(p.numel() for p in network.parameters()):,}'),
        ('multiply-adds', f'{total / 1e9:.2f} G for one {size[1]}x{size[0]} image ({parts})'),
        *([('  seen as', f'{seen[1]}x{seen[0]}')] if seen != size else []),
        ('  rewritten', f'{after / 1e9:.2f} G after the exact rewrites for inference'),
    ]
    return rows + [
        (f'  {name}', f'{width}x{height}, {channels} channels')
        for name, (channels, height, width) in cost.maps.items()
    ]


def _about_architecture(name: str, size: tuple[int, int]) -> list[Row]:
    import torch

    from lw_refinenet_ros.model.network import build_model

    with torch.device('meta'):  # nothing is computed
        network = build_model(name, VOC_CLASSES).eval()
    return [('architecture', f'{name}, {VOC_CLASSES} classes'), *_about_network(network, size)]


def _about_weights(weights: str, size: tuple[int, int]) -> list[Row]:
    from lw_refinenet_ros.inference.choice import accuracy_of_int8
    from lw_refinenet_ros.model.weights import load_model
    from lw_refinenet_ros.resources import find_weights

    path = find_weights(weights)
    network, card = load_model(path)
    dials = ''.join(f', {name}={value}' for name, value in card.dials.items())
    rows: list[Row] = [
        ('file', f'{path} ({path.stat().st_size:,} bytes)'),
        ('architecture', f'{card.architecture}, decoder {card.width} wide{dials}'),
        *_about_network(network, size),
        ('input', f'RGB / 255, mean {_numbers(card.mean)}, std {_numbers(card.std)}'),
        ('classes', f'{card.num_classes} ({card.labels.name})'),
    ]
    iou = card.metrics.get('per_class_iou', {})
    for index, (name, rgb) in enumerate(zip(card.labels.names, card.labels.colors)):
        value = iou.get(name)
        shown = f'  IoU {value:.1%}' if value is not None else ''
        swatch = (Colored('   ', 48, 2, *rgb),) if shows_color(sys.stdout) else ()
        rows.append((f'  {index}', *swatch, name, f'rgb{rgb}{shown}'))
    rows += [(name, f'{value:.1%}') for name, value in card.metrics.items() if isinstance(value, float)]
    rows += [(name, str(value)) for name, value in card.training.items() if not isinstance(value, dict)]
    if card.quantization:
        rows.append(('int8', f'{len(card.quantization["weights"])} convolutions; {accuracy_of_int8(card)}'))
    rows.append(('source', card.source))
    return rows


def _numbers(values: tuple[float, ...]) -> str:
    return '/'.join(f'{v:.3f}' for v in values)
