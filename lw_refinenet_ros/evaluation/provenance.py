# SPDX-License-Identifier: Apache-2.0
"""Which weights, architecture, engine and precision produced the figures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from lw_refinenet_ros.inference.segmenter import Segmenter
from lw_refinenet_ros.model.weights import read_card
from lw_refinenet_ros.resources import find_weights

__all__ = [
    'describe_network_size',
    'describe_segmenter',
    'describe_weights',
    'file_digest',
    'provenance',
    'shortened',
]

SHORT = 12  # hexadecimal digits of a hash that people compare


def describe_weights(weights: str) -> dict[str, str]:
    """Return shipped weights or a file as they were named, their SHA-256 and their architecture."""
    path = find_weights(weights)
    return {
        'weights': weights,
        'weights_sha256': file_digest(path),
        'architecture': read_card(weights).architecture,
    }


def describe_segmenter(segmenter: Segmenter, weights: str) -> dict[str, str]:
    """Return what `describe_weights` does, and the engine, precision and device of a loaded segmenter."""
    engine = segmenter.engine
    return {
        **describe_weights(weights),
        **({'class_groups': segmenter.groups.description} if segmenter.groups else {}),
        **describe_network_size(segmenter.network_size),
        'engine': engine.description,
        'precision': engine.precision,
        'device': engine.device,
    }


def describe_network_size(size: tuple[int, int]) -> dict[str, str]:
    """Return the (height, width) that the network sees; nothing where that is the images' own."""
    height, width = size
    if height and width:
        return {'network_size': f'{width}x{height}'}
    return {'network_size': f'{height} high' if height else f'{width} wide'} if any(size) else {}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _digest(path: Path, _size: int, _mtime_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shortened(conditions: Mapping[str, str]) -> dict[str, str]:
    """Return conditions for display, with shortened hashes."""
    return {
        name.replace('_', ' '): value[:SHORT] if name.endswith('_sha256') else value
        for name, value in conditions.items()
    }


def provenance(conditions: Mapping[str, str]) -> str:
    """Return in one line the weights with their hash, architecture, engine, precision and network size."""
    parts = [conditions[name] for name in ('weights', 'architecture', 'engine') if name in conditions]
    digest = conditions.get('weights_sha256')
    if parts and digest:
        parts[0] += f' (sha256 {digest[:SHORT]})'
    if size := conditions.get('network_size'):
        parts.append(f'images seen at {size}')
    return ', '.join(parts)
