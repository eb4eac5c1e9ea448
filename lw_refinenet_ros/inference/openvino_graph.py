# SPDX-License-Identifier: Apache-2.0
"""Our networks as OpenVINO graphs, built node by node: tracing takes seconds, this milliseconds."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops
from torch import fx, nn
from torch.nn import functional

from lw_refinenet_ros.model.inverted_residual import SamePadConv2d

__all__ = ['add_network']


def add_network(
    network: fx.GraphModule, image: ov.Output, quantization: Mapping[str, Any] | None = None
) -> ov.Output:
    """Append a network to a graph.

    Args:
        network: from `rewrite_for_inference`, on the CPU; its weights become constants.
        image: a normalised float node (N, 3, H, W) of static shape.
        quantization: `Card.quantization`, to run in int8 what it lists; None or empty is all in float.

    Returns:
        the logits (N, num_classes, ceil(H / 4), ceil(W / 4)).

    Raises:
        NotImplementedError: the network has an operation that is not supported.
        ValueError: the quantization names nodes that the network does not have.
    """
    with torch.no_grad():
        return _Builder(network, quantization or {}).run(image)


KERNEL_INPUTS = 4  # channels whose weights an int8 kernel keeps side by side


class _Builder(fx.Interpreter):
    """Runs a network's own forward pass on graph nodes in place of tensors.

    The last node of what an fx node becomes bears its name.
    """

    def __init__(self, network: fx.GraphModule, quantization: Mapping[str, Any]) -> None:
        super().__init__(network)
        activations = quantization.get('activations', [])
        self._weights = set(quantization.get('weights', []))
        self._ranges = {
            (item['source'], consumer): (item['low'], item['high'])
            for item in activations
            for consumer in item['consumers']
        }
        self._rounded: dict[Any, ov.Output] = {}
        known = {node.name for node in network.graph.nodes}
        named = self._weights.union(*self._ranges)
        if named - known:
            raise ValueError(
                f'its int8 ranges are for {sorted(named - known)[0]!r}, which this version does not have: '
                'quantize the float weights again'
            )

    def run_node(self, n: fx.Node) -> Any:
        """Turn one fx node into nodes and name them."""
        self._node = n
        result = super().run_node(n)
        if isinstance(result, ov.Output) and n.op != 'output':
            result.get_node().set_friendly_name(n.name)
        return result

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[Any, Any]:
        """Return a node's inputs, rounded to int8 where that was asked for."""

        def load(source: fx.Node) -> Any:
            limits = self._ranges.get((source.name, n.name))
            if limits is None:
                return self.env[source]
            key = (source, str(limits))
            if key not in self._rounded:
                low, high = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in limits)
                self._rounded[key] = _round(self.env[source], low, high, 256)
            return self._rounded[key]

        return fx.node.map_arg(n.args, load), fx.node.map_arg(n.kwargs, load)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ov.Output:  # noqa: ARG002
        """Turn one layer into nodes."""
        layer = self.fetch_attr(target)
        (x,) = args
        if isinstance(layer, nn.Conv2d):
            return _convolution(layer, x, int8=self._node.name in self._weights)
        if isinstance(layer, nn.ReLU6):
            return ops.clamp(x, 0.0, 6.0).output(0)
        if isinstance(layer, nn.ReLU):
            return ops.relu(x).output(0)
        raise NotImplementedError(f'{target}: no OpenVINO node for {type(layer).__name__}')

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Turn one function into nodes; what is not of the graph runs as it is."""
        first = args[0][0] if isinstance(args[0], (list, tuple)) else args[0]
        if not isinstance(first, ov.Output):
            return super().call_function(target, args, kwargs)
        if target in FUNCTIONS:
            return FUNCTIONS[target](*args, **kwargs)
        if target is getattr and args[1] == 'shape':
            return torch.Size(args[0].shape)
        raise NotImplementedError(f'no OpenVINO node for {target}')


def _round(x: ov.Output, low: np.ndarray, high: np.ndarray, levels: int) -> ov.Output:
    """Round values to one of `levels` between low and high; of one number, or one per channel."""
    return ops.fake_quantize(x, low, high, low, high, levels).output(0)


def _convolution(layer: nn.Conv2d, x: ov.Output, *, int8: bool) -> ov.Output:
    weight, stride = layer.weight.detach().numpy(), list(layer.stride)
    if isinstance(layer, SamePadConv2d):
        begin, end = layer.pads(list(x.shape)[-2:])
    else:
        begin = end = [int(pad) for pad in layer.padding]
    dilations = list(layer.dilation)
    if layer.groups > 1:
        weight = weight.reshape(layer.groups, -1, *weight.shape[1:])
    kernel: Any = ops.constant(np.ascontiguousarray(weight)).output(0)
    if int8:
        reach = _reach(weight, 1 if layer.groups == 1 else 2)
        kernel = _round(kernel, -reach, reach, 255)
    convolve = ops.convolution if layer.groups == 1 else ops.group_convolution
    y = convolve(x, kernel, stride, begin, end, dilations)
    if layer.bias is not None:
        y = ops.add(y, layer.bias.detach().numpy().reshape(1, -1, 1, 1))
    return y.output(0)


def _reach(weight: np.ndarray, inputs: int) -> np.ndarray:
    """Return how far the levels of the weights of each output channel reach, from -127 to 127.

    To the largest weight, or further: without VNNI, kernels multiply the activations of two neighbouring
    input channels, up to 255 each, and add the products in 16 bits, which saturate where the weights of both
    add up to more than 128. Here none do, on any CPU, so that all give the same labels.

    Args:
        weight: float32 (outputs, inputs, height, width), before them the groups if there are any.
        inputs: the axis of the input channels.
    """
    inner = tuple(range(inputs, weight.ndim))
    largest = np.maximum(np.abs(weight).max(inner, keepdims=True), np.float32(1e-6))
    if weight.shape[1:3] == (1, 1) and inputs == 2:  # depthwise: kernels multiply in 32 bits
        return np.asarray(largest)
    if weight.shape[inputs] < KERNEL_INPUTS:  # the taps of so few lie side by side: any two may be added
        return np.asarray(2 * largest)
    odd = [(0, weight.shape[inputs] % 2 if axis == inputs else 0) for axis in range(weight.ndim)]
    padded = np.pad(weight, odd)
    pairs = [padded.take(range(first, padded.shape[inputs], 2), inputs) for first in (0, 1)]
    added = [np.maximum(sign * pairs[0], 0) + np.maximum(sign * pairs[1], 0) for sign in (1, -1)]
    most = np.maximum(*added).max(inner, keepdims=True)
    return np.asarray(np.maximum(largest, most * np.float32(127 / 127.5)))  # half a level more, if rounded up


def _interpolate(x: ov.Output, *, size: torch.Size, mode: str, align_corners: bool, **_: object) -> ov.Output:
    assert mode == 'bilinear'
    return ops.interpolate(
        x,
        np.array([int(n) for n in size]),
        'linear_onnx',
        'sizes',
        coordinate_transformation_mode='align_corners' if align_corners else 'half_pixel',
        axes=np.array([2, 3]),
    ).output(0)


def _max_pool(x: ov.Output, kernel: int, stride: int = 1, padding: int = 0, **_: object) -> ov.Output:
    """Pool along rows, then down columns: for 5x5, 10 comparisons a pixel in place of 25."""
    rows = ops.max_pool(x, [1, stride], [1, 1], [0, padding], [0, padding], [1, kernel])
    columns = ops.max_pool(rows.output(0), [stride, 1], [1, 1], [padding, 0], [padding, 0], [kernel, 1])
    return columns.output(0)


def _add(a: ov.Output, b: ov.Output) -> ov.Output:
    return ops.add(a, b).output(0)


FUNCTIONS: dict[Any, Callable[..., ov.Output]] = {
    torch.add: _add,
    torch.relu: lambda x: ops.relu(x).output(0),
    functional.max_pool2d: _max_pool,
    functional.interpolate: _interpolate,
    operator.add: _add,
    torch.cat: lambda maps, axis: ops.concat(list(maps), axis).output(0),
}
