# SPDX-License-Identifier: Apache-2.0
"""Say what a weights file holds, or without one what is installed and which engines work here."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from lw_refinenet_ros import __version__

if TYPE_CHECKING:
    import argparse

__all__ = ['add_arguments', 'machine', 'run']

PACKAGES = ('torch', 'openvino', 'numpy', 'opencv-python-headless', 'rosbags', 'rclpy', 'safetensors', 'av')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('weights', nargs='?', metavar='WEIGHTS', help='shipped name or file')


def run(options: argparse.Namespace) -> None:
    """Print it."""
    rows = _about_weights(options.weights) if options.weights else _about_here()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f'{name:<{width}}  {value}')


def machine() -> str:
    """Name this machine's processor, cores and system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith('model name')]
        model = lines[0].split(':', 1)[1].strip() if lines else model
    return f'{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}'


def _about_here() -> list[tuple[str, str]]:
    from lw_refinenet_ros.inference.engine import make_engine
    from lw_refinenet_ros.inference.segmenter import DEFAULT_WEIGHTS, find_weights
    from lw_refinenet_ros.model.weights import load_model

    rows = [('lw_refinenet_ros', __version__), ('machine', machine()), ('Python', platform.python_version())]
    for package in PACKAGES:
        try:
            rows.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            rows.append((package, 'not installed'))
    rows.append(('ROS_DISTRO', os.environ.get('ROS_DISTRO', 'not set')))
    path = find_weights(DEFAULT_WEIGHTS)
    rows.append(('default weights', str(path)))
    for device, engine in (('auto', 'auto'), ('cuda', 'torch'), ('cpu', 'openvino'), ('cpu', 'torch')):
        network, card = load_model(path)
        try:
            made = make_engine(network, card, device=device, engine=engine, precision='auto', threads=0)
            rows.append((f'engine {engine} on {device}', made.description))
        except ValueError as error:
            rows.append((f'engine {engine} on {device}', f'not here: {error}'))
    return rows


def _about_weights(weights: str) -> list[tuple[str, str]]:
    from lw_refinenet_ros.inference.segmenter import find_weights
    from lw_refinenet_ros.model.weights import load_model

    path = find_weights(weights)
    network, card = load_model(path)
    parameters = sum(p.numel() for p in network.parameters())
    rows = [
        ('file', f'{path} ({path.stat().st_size:,} bytes)'),
        ('architecture', f'{card.architecture}, decoder {card.width} wide'),
        ('parameters', f'{parameters:,}'),
        ('input', f'RGB / 255, mean {_numbers(card.mean)}, std {_numbers(card.std)}'),
        ('classes', f'{card.num_classes} ({card.labels["name"]})'),
    ]
    iou = card.metrics.get('per_class_iou', {})
    for index, entry in enumerate(card.labels['classes']):
        value = iou.get(entry['name'])
        shown = f'  IoU {value:.1%}' if value is not None else ''
        rows.append((f'  {index}', f'{entry["name"]}  rgb{tuple(entry["color"])}{shown}'))
    rows += [(name, f'{value:.1%}') for name, value in card.metrics.items() if isinstance(value, float)]
    rows += [(name, str(value)) for name, value in card.training.items() if not isinstance(value, dict)]
    rows.append(('source', card.source))
    return rows


def _numbers(values: tuple[float, ...]) -> str:
    return '/'.join(f'{v:.3f}' for v in values)
