# SPDX-License-Identifier: Apache-2.0
"""Check the card of a weights file, so that a network can rely on its entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lw_refinenet_ros.limits import MAX_PIXELS

__all__ = ['MAX_NUMBER', 'MIN_STD', 'TEMPERATURES', 'check_card']

MAX_NUMBER = 1e6  # no mean, deviation or range is larger; float32 holds its square
MIN_STD = 1e-6
TEMPERATURES = (1e-3, 1e3)  # a fitted one is from 0.05 to 20

Test = tuple[Callable[[Any], bool], str]  # and the requirement, for the message


def check_card(card: Mapping[str, Any]) -> None:
    """Check types and ranges of all entries that are used but the labels, which `LabelSet` checks.

    Raises:
        ValueError: something is of another type or out of its range; the message names it.
    """
    _require(card, 'its', _CARD)
    dials, metrics, quantization = card['dials'], card['metrics'], card['quantization']
    _require(dials, 'dials', dict.fromkeys(dials, _INTEGERS), optional=True)
    height, width = dials.get('least_size', (0, 0))
    if not (min(height, width) >= 0 and height * width <= MAX_PIXELS):
        raise ValueError(f'least_size={height, width} must be of at most the {MAX_PIXELS} pixels of an image')
    _require(metrics, 'metrics', _METRICS, optional=True)
    by_class = metrics.get('per_class_iou', {})
    _require(by_class, 'per_class_iou', dict.fromkeys(by_class, _RATIO))
    _require(quantization, 'quantization', _QUANTIZATION, optional=True)
    for item in quantization.get('activations', ()):
        _require(item, 'an int8 range', _RANGE)
        if not max(item['low']) < min(item['high']):  # each includes zero
            raise ValueError(f'the int8 range of {item["source"]!r} must have low < high')
    if 'accuracy' in quantization:
        accuracy = quantization['accuracy']
        _require(accuracy, 'the int8 accuracy', _ACCURACY, optional=True)
        if 'agreement' not in accuracy or ('miou' in accuracy) != ('float_miou' in accuracy):
            raise ValueError('the int8 accuracy needs agreement, and both or neither of miou and float_miou')


def _require(values: Any, where: str, tests: Mapping[str, Test], *, optional: bool = False) -> None:
    """Test values by their names; a message names the type of a bad value, which may be of any size."""
    if not isinstance(values, Mapping):
        raise ValueError(f'{where} must be a mapping, not {type(values).__name__}')
    for name, (test, requirement) in tests.items():
        if name not in values and optional:
            continue
        value = values.get(name)
        if not test(value):
            kind = type(value).__name__
            shown = f'={value}' if isinstance(value, int | float) else f', of type {kind},'
            raise ValueError(f'{where} {name}{shown} must be {requirement}')


def _integer(value: Any) -> bool:
    return type(value) is int and abs(value) <= MAX_NUMBER


def _integers(value: Any) -> bool:
    return _integer(value) or (isinstance(value, list | tuple) and all(map(_integer, value)))


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < MAX_NUMBER


def _numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_number, value))


def _fraction(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


_TEXT: Test = (lambda v: isinstance(v, str), 'text')
_TEXTS: Test = (_texts, 'a list of text')
_MAPPING: Test = (lambda v: isinstance(v, dict), 'a mapping')
_LIST: Test = (lambda v: isinstance(v, list | tuple), 'a list')
_INTEGER: Test = (_integer, 'an integer')
_INTEGERS: Test = (_integers, 'an integer or a list of them')
_FRACTION: Test = (_fraction, 'from 0 to 1')
_RATIO: Test = (lambda v: v is None or _fraction(v), 'from 0 to 1, or null')
_RANGES: Test = (_numbers, 'finite numbers')

_CARD: dict[str, Test] = {
    'architecture': _TEXT,
    'width': _INTEGER,
    'mean': (lambda v: _numbers(v) and len(v) == 3, 'three finite numbers'),
    'std': (lambda v: _numbers(v) and len(v) == 3 and min(v) >= MIN_STD, 'three finite numbers above 0'),
    'temperature': (
        lambda v: _number(v) and TEMPERATURES[0] <= v <= TEMPERATURES[1],
        f'from {TEMPERATURES[0]} to {TEMPERATURES[1]}',
    ),
    'training': _MAPPING,
    'metrics': _MAPPING,
    'source': _TEXT,
    'dials': _MAPPING,
    'quantization': _MAPPING,
}
_METRICS: dict[str, Test] = {
    'miou': _RATIO,
    'pixel_accuracy': _RATIO,
    'per_class_iou': _MAPPING,
    'frames': _INTEGER,
}
_QUANTIZATION: dict[str, Test] = {'activations': _LIST, 'weights': _TEXTS, 'accuracy': _MAPPING}
_RANGE: dict[str, Test] = {
    'source': (lambda v: isinstance(v, str) and v != '', 'text'),
    'consumers': (lambda v: _texts(v) and len(v) > 0, 'a list of text'),
    'low': _RANGES,
    'high': _RANGES,
}
_ACCURACY: dict[str, Test] = {
    'frames': _INTEGER,
    'agreement': _FRACTION,
    'miou': _FRACTION,
    'float_miou': _FRACTION,
}
