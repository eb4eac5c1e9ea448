# SPDX-License-Identifier: Apache-2.0
"""An exact rewrite for CPUs, whose kernels compute outputs by 16: the 3x3 classifier by its rows."""

from __future__ import annotations

import operator
from typing import Any, Literal

import torch
from torch import fx, nn

from lw_refinenet_ros.model.rewrite import (
    forget_sources,
    layer_of,
    pointwise_of,
    replace_node,
    rewrite_for_inference,
)

__all__ = ['cheapest_split', 'rewrite_for_cpu', 'split_classifier']

LANES = 16  # outputs that a CPU's kernels compute at once, needed or not

Split = Literal['none', 'rows', 'rows with pooling']


def rewrite_for_cpu(network: nn.Module) -> fx.GraphModule:
    """Rewrite a network as `rewrite_for_inference` does, and its classifier for kernels that pad outputs."""
    module = rewrite_for_inference(network)
    split_classifier(module)
    forget_sources()
    return module


def cheapest_split(inputs: int, outputs: int, *, pooled: bool) -> Split:
    """Return how a 3x3 classifier takes the fewest multiply-adds for each pixel.

    To a kernel that computes outputs by 16, the 21 outputs of 3x3 taps are 32, but the 3x21 outputs of 1x3
    taps are 64: a third less.

    Args:
        inputs: channels of the classifier's input.
        outputs: classes.
        pooled: whether the input is a sum that ends in a 1x1 convolution of as many channels, which is
            linear like the classifier.

    Returns:
        'none'; 'rows', computed apart and summed; or 'rows with pooling', which compute that convolution too.
    """
    pooling = inputs * _in_lanes(inputs) if pooled else 0
    rows, summing = 3 * inputs * _in_lanes(3 * outputs), 3 * 3 * outputs * _in_lanes(outputs)
    costs: dict[Split, int] = {
        'none': 9 * inputs * _in_lanes(outputs) + pooling,
        'rows': rows + summing + pooling,
    }
    if pooled:
        costs['rows with pooling'] = 2 * rows + summing
    return min(costs, key=costs.__getitem__)


def _in_lanes(outputs: int) -> int:
    return -(-outputs // LANES) * LANES


@torch.no_grad()
def split_classifier(module: fx.GraphModule) -> None:
    """Split the 3x3 classifier as `cheapest_split` says.

    Args:
        module: as `rewrite_for_inference` returns it; it is changed, but for rounding not its function.
    """
    (output,) = (node for node in module.graph.nodes if node.op == 'output')
    node = output.args[0]
    layer = layer_of(module, node, nn.Conv2d)
    if layer is None or layer.kernel_size != (3, 3) or layer.padding != (1, 1) or layer.groups != 1:
        return
    source = node.args[0]
    last, others = _last_pooling(module, source)
    split = cheapest_split(layer.in_channels, layer.out_channels, pooled=last is not None)
    if split == 'none':
        return
    weight = torch.cat([layer.weight[:, :, row : row + 1] for row in range(3)])
    taps = [(source, weight)]
    if split == 'rows with pooling':
        pointwise = layer_of(module, last, nn.Conv2d)
        through = torch.einsum('omhw,mi->oihw', weight.double(), pointwise.weight[..., 0, 0].double())
        taps = [(others, weight), (last.args[0], through.to(weight.dtype))]
    terms = []
    for index, (features, kernel) in enumerate(taps):
        rows = nn.Conv2d(kernel.shape[1], kernel.shape[0], (1, 3), padding=(0, 1), bias=False)
        rows.weight = nn.Parameter(kernel)
        name = f'{node.name}_rows_{index}'
        module.add_submodule(name, rows)
        with module.graph.inserting_before(node):
            terms.append(module.graph.call_module(name, (features,)))
    with module.graph.inserting_before(node):
        total = module.graph.call_function(torch.add, tuple(terms)) if len(terms) > 1 else terms[0]
    replace_node(module, node, _sum_of_rows(layer), total)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()


def _sum_of_rows(classifier: nn.Conv2d) -> nn.Conv2d:
    """Return the convolution that adds the three rows of each class, and the classifier's bias."""
    classes = classifier.out_channels
    layer = nn.Conv2d(3 * classes, classes, (3, 1), padding=(1, 0), bias=classifier.bias is not None)
    layer.to(classifier.weight.device, classifier.weight.dtype)
    layer.weight.copy_(torch.eye(3 * classes).view(3, classes, 3 * classes).permute(1, 2, 0)[..., None])
    if classifier.bias is not None:
        layer.bias = nn.Parameter(classifier.bias.clone())
    return layer


def _last_pooling(module: fx.GraphModule, total: Any) -> tuple[Any, Any]:
    """Return the 1x1 convolution that a sum ends in, and the rest of the sum; else None twice."""
    if len(total.users) == 1 and total.op == 'call_function' and total.target in (operator.add, torch.add):
        for last, others in (total.args, total.args[::-1]):
            layer = pointwise_of(module, last)
            if layer is not None and layer.stride == (1, 1) and layer.bias is None:
                return last, others
    return None, None
