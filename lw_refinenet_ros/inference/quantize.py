# SPDX-License-Identifier: Apache-2.0
"""Find what of a network may run in int8, and in which ranges its activations lie, from pictures."""

from __future__ import annotations

import importlib
import importlib.util
import io
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

import cv2
import numpy as np
import openvino as ov
from openvino import opset13 as ops

from lw_refinenet_ros.inference.engine import Pixels
from lw_refinenet_ros.inference.openvino_graph import add_network
from lw_refinenet_ros.model.network import Network, enlarged
from lw_refinenet_ros.model.split_classifier import rewrite_for_cpu
from lw_refinenet_ros.model.weights import Card

__all__ = ['find_quantization']


def find_quantization(
    network: Network,
    card: Card,
    images: Sequence[Pixels],
    keep_float: Sequence[str] = (),
    progress: Callable[[int], object] = id,
) -> dict[str, Any]:
    """Quantise a network after training with NNCF, without changing its weights.

    Args:
        network: in evaluation mode.
        card: of its file.
        images: uint8 (H, W, 3) RGB, of what the network will see; all are resized to the first one's size.
        keep_float: the convolutions to keep in float: 'first', 'last' or all 'depthwise' ones.
        progress: called with the number of images that were read.

    Returns:
        what `Card.quantization` holds.

    Raises:
        ValueError: NNCF is not installed, or there are no images.
    """
    if importlib.util.find_spec('nncf') is None:
        raise ValueError('quantizing needs NNCF, which is not installed: pip install nncf')
    if not images:
        raise ValueError('there are no images to find the ranges from; at least one is needed')
    os.environ.setdefault('NNCF_DISABLE_TELEMETRY', '1')
    nncf: Any = importlib.import_module('nncf')
    nncf.set_log_level(logging.WARNING)  # or it lists every layer that stays in float
    rewritten = rewrite_for_cpu(network)
    size = enlarged((images[0].shape[0], images[0].shape[1]), network.least_size)
    parameter = ops.parameter([1, 3, *size], np.float32, name='image')
    model = ov.Model([add_network(rewritten, parameter.output(0))], [parameter])
    read = itertools.count(1)

    def normalised(image: Pixels) -> np.ndarray:
        progress(next(read))
        return _normalise(image, size, card)

    # Of all channels, also before a depthwise convolution: ReLU6 limits them alike.
    one_range = nncf.quantization.advanced_parameters.QuantizationParameters(per_channel=False)
    with redirect_stdout(io.StringIO()):  # NNCF draws a progress bar of its own
        quantized = nncf.quantize(
            model,
            nncf.Dataset(images, normalised),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=_in_float(model, keep_float)),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                disable_bias_correction=True, activations_quantization_params=one_range
            ),
        )
    return _read(quantized, {node.name for node in rewritten.graph.nodes})


def _normalise(image: Pixels, size: tuple[int, int], card: Card) -> np.ndarray:
    """Normalise an image for the network: float32 (1, 3, H, W)."""
    resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    mean, std = (np.array(values, np.float32) * 255 for values in (card.mean, card.std))
    normalised = (resized - mean) / std
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], np.float32)


def _in_float(model: ov.Model, keep_float: Sequence[str]) -> list[str]:
    """Name the convolutions of a graph that are not to be rounded."""
    convolutions = [node for node in model.get_ordered_ops() if _convolves(node)]
    depthwise = [node for node in convolutions if node.get_type_name() == 'GroupConvolution']
    groups = {'first': convolutions[:1], 'last': convolutions[-1:], 'depthwise': depthwise}
    return [node.get_friendly_name() for name in keep_float for node in groups[name]]


def _convolves(node: ov.Node) -> bool:
    return node.get_type_name() in ('Convolution', 'GroupConvolution')


def _read(model: ov.Model, known: set[str]) -> dict[str, Any]:
    """Read from a quantised graph which values it rounds, in which range, and which weights."""
    activations, weights = [], []
    for node in model.get_ordered_ops():
        if _convolves(node) and node.input_value(1).get_node().get_type_name() != 'Constant':
            weights.append(_layer(node, known))  # between constant and convolution they are scaled
        source = node.input_value(0).get_node() if node.get_type_name() == 'FakeQuantize' else None
        if source is None or source.get_type_name() in ('Constant', 'Convert'):
            continue
        if source.get_friendly_name() not in known:
            raise ValueError(f'NNCF rounds values within {_layer(source, known)!r}, which cannot be stored')
        consumers = [_layer(user, known) for user in _users(node)]
        low, high = (_shorten(node.input_value(index).get_node().data.reshape(-1)) for index in (1, 2))
        name = source.get_friendly_name()
        activations.append({'source': name, 'consumers': consumers, 'low': low, 'high': high})
    return {'activations': activations, 'weights': weights}


def _users(node: ov.Node) -> list[ov.Node]:
    return [target.get_node() for target in node.output(0).get_target_inputs()]


def _layer(node: ov.Node, known: set[str]) -> str:
    """Name the fx node that a node is part of: the last of such a part bears the name."""
    while node.get_friendly_name() not in known:
        node = _users(node)[0]
    return str(node.get_friendly_name())


def _shorten(values: np.ndarray) -> list[float]:
    """Return one bound per channel, or one that all channels share, with the digits of a float32."""
    return [float(f'{value:.7g}') for value in (values if values.min() < values.max() else values[:1])]
