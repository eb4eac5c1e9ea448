# SPDX-License-Identifier: Apache-2.0
"""Our networks as OpenVINO graphs, built node by node: tracing takes seconds, this milliseconds."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops
from torch import fx, nn
from torch.nn import functional

from lw_refinenet_ros.model.inverted_residual import SamePadConv2d

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ['add_network']


def add_network(network: fx.GraphModule, image: ov.Output) -> ov.Output:
    """Append a network to a graph.

    Args:
        network: as `rewrite_for_inference` gives it, on the CPU; its weights become constants.
        image: a normalised float node (N, 3, H, W) of static shape.

    Returns:
        the logits (N, num_classes, ceil(H / 4), ceil(W / 4)).

    Raises:
        NotImplementedError: the network has an operation that nobody taught this builder.

    """
    with torch.no_grad():
        return _Builder(network).run(image)


class _Builder(fx.Interpreter):
    """Runs a network's own forward pass on graph nodes in place of tensors."""

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ov.Output:  # noqa: ARG002
        """Turn one layer into nodes."""
        layer = self.fetch_attr(target)
        (x,) = args
        if isinstance(layer, nn.Conv2d):
            return _convolution(layer, x)
        if isinstance(layer, nn.ReLU6):
            return ops.clamp(x, 0.0, 6.0).output(0)
        if isinstance(layer, nn.ReLU):
            return ops.relu(x).output(0)
        msg = f'{target}: no OpenVINO node for {type(layer).__name__}'
        raise NotImplementedError(msg)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Turn one function into nodes; what is not of the graph runs as it is."""
        first = args[0][0] if isinstance(args[0], (list, tuple)) else args[0]
        if not isinstance(first, ov.Output):
            return super().call_function(target, args, kwargs)
        if target in FUNCTIONS:
            return FUNCTIONS[target](*args, **kwargs)
        if target is getattr and args[1] == 'shape':
            return torch.Size(args[0].shape)
        msg = f'no OpenVINO node for {target}'
        raise NotImplementedError(msg)


def _convolution(layer: nn.Conv2d, x: ov.Output) -> ov.Output:
    weight, stride = layer.weight.detach().numpy(), list(layer.stride)
    if isinstance(layer, SamePadConv2d):
        totals = [
            max((-(-size // s) - 1) * s + kernel - size, 0)
            for size, s, kernel in zip(list(x.shape)[-2:], stride, layer.kernel_size)
        ]
        begin = [total // 2 for total in totals]
        end = [total - total // 2 for total in totals]
    else:
        begin = end = list(layer.padding)
    dilations = list(layer.dilation)
    if layer.groups == 1:
        y = ops.convolution(x, weight, stride, begin, end, dilations)
    else:
        grouped = weight.reshape(layer.groups, -1, *weight.shape[1:])
        y = ops.group_convolution(x, grouped, stride, begin, end, dilations)
    if layer.bias is not None:
        y = ops.add(y, layer.bias.detach().numpy().reshape(1, -1, 1, 1))
    return y.output(0)


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
    pool = ops.max_pool(x, [stride] * 2, [1, 1], [padding] * 2, [padding] * 2, [kernel] * 2)
    return pool.output(0)


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
