# SPDX-License-Identifier: Apache-2.0
"""Exact rewrites of a trained network for inference: the same function in fewer operations.

Batch norms go into the convolutions before them; a 1x1 convolution after a 1x1 convolution becomes
one where that is cheaper; the sum of two 1x1 convolutions becomes one over their concatenated inputs.
"""

from __future__ import annotations

import copy
import linecache
import operator
import threading
from typing import Any

import torch
from torch import Tensor, fx, nn

from lw_refinenet_ros.model.inverted_residual import SamePadConv2d
from lw_refinenet_ros.model.network import Network

__all__ = [
    'forget_sources',
    'layer_of',
    'pointwise_of',
    'replace_node',
    'rewrite_for_inference',
    'trace',
    'tracing',
]

# Tracing replaces nn.Module.__call__ for the whole process: no other thread may call a network meanwhile.
tracing = threading.Lock()


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        """Keep layers whose padding depends on the size of their input whole."""
        return isinstance(module, SamePadConv2d) or super().is_leaf_module(module, qualified_name)


def trace(network: nn.Module) -> fx.GraphModule:
    """Return a network's layers in the order it calls them."""
    with tracing:
        return fx.GraphModule(network, _Tracer().trace(network))


def rewrite_for_inference(network: nn.Module) -> fx.GraphModule:
    """Rewrite a network in evaluation mode; the network itself is left as it is.

    Returns:
        a module with the same inputs and outputs, equal up to rounding; but it enlarges nothing to the
        network's `least_size`: whoever resizes images does that at once.
    """
    network = copy.deepcopy(network).eval()
    if isinstance(network, Network):
        network.least_size = (0, 0)
    module = trace(network)
    with torch.no_grad():
        for rewrite in (_drop_identity, _fold_batch_norm, _merge_pair, _merge_sum):
            for node in list(module.graph.nodes):
                rewrite(module, node)
    module.graph.lint()
    module.delete_all_unused_submodules()
    module.recompile()
    forget_sources()
    return module


def forget_sources() -> None:
    """Drop the sources that torch.fx keeps of every graph ever compiled: 60 kB for each model swapped in.

    They are there for tracebacks only; where PyTorch keeps them elsewhere, nothing is done.
    """
    kept = getattr(getattr(fx.graph_module, '_loader', None), 'eval_cache', {})
    for name in list(kept):
        kept.pop(name, None)
        linecache.cache.pop(name, None)


def layer_of(module: fx.GraphModule, node: Any, kind: type[nn.Module]) -> Any:
    """Return the layer that a node calls if it is of a kind, else None."""
    if not isinstance(node, fx.Node) or node.op != 'call_module':
        return None
    layer = module.get_submodule(str(node.target))
    return layer if isinstance(layer, kind) else None


def pointwise_of(module: fx.GraphModule, node: Any) -> nn.Conv2d | None:
    """Return the 1x1 convolution that a node calls, if nothing else uses its result."""
    layer = layer_of(module, node, nn.Conv2d)
    if layer is None or layer.kernel_size != (1, 1) or layer.groups != 1 or len(node.users) != 1:
        return None
    return layer  # type: ignore[no-any-return]


def replace_node(module: fx.GraphModule, node: fx.Node, layer: nn.Module, source: fx.Node) -> None:
    """Replace a node by `layer`, applied to `source`."""
    name = f'{node.name}_rewritten'
    module.add_submodule(name, layer)
    with module.graph.inserting_before(node):
        new = module.graph.call_module(name, (source,))
    node.replace_all_uses_with(new)
    module.graph.erase_node(node)


def _convolution(weight: Tensor, bias: Tensor | None, stride: Any) -> nn.Conv2d:
    outputs, inputs = weight.shape[:2]
    layer = nn.Conv2d(inputs, outputs, 1, stride, bias=bias is not None).to(weight.device, weight.dtype)
    layer.weight.copy_(weight)
    if layer.bias is not None and bias is not None:
        layer.bias.copy_(bias)
    return layer


def _drop_identity(module: fx.GraphModule, node: fx.Node) -> None:
    if layer_of(module, node, nn.Identity) is not None:
        node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
        module.graph.erase_node(node)


def _fold_batch_norm(module: fx.GraphModule, node: fx.Node) -> None:
    norm = layer_of(module, node, nn.BatchNorm2d)
    source = node.args[0] if node.args else None
    layer = layer_of(module, source, nn.Conv2d)
    if norm is None or layer is None or not isinstance(source, fx.Node) or len(source.users) != 1:
        return
    folded = copy.deepcopy(layer)
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = 0 if layer.bias is None else layer.bias
    folded.weight.mul_(scale.view(-1, 1, 1, 1))
    folded.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias)
    replace_node(module, node, folded, source.args[0])  # type: ignore[arg-type]
    module.graph.erase_node(source)


def _merge_pair(module: fx.GraphModule, node: fx.Node) -> None:
    source = node.args[0] if node.args else None
    second, first = layer_of(module, node, nn.Conv2d), pointwise_of(module, source)
    if first is None or second is None or second.kernel_size != (1, 1) or second.groups != 1:
        return
    middle, inputs, outputs = first.out_channels, first.in_channels, second.out_channels
    if second.stride != (1, 1) or inputs * outputs > middle * (inputs + outputs):
        return
    weight = torch.einsum('om,mi->oi', second.weight[..., 0, 0].double(), first.weight[..., 0, 0].double())
    bias = second.bias
    if first.bias is not None:
        through = second.weight[..., 0, 0].double() @ first.bias.double()
        bias = through if bias is None else through + bias
    merged = _convolution(weight[..., None, None].to(first.weight.dtype), bias, first.stride)
    assert isinstance(source, fx.Node)
    replace_node(module, node, merged, source.args[0])  # type: ignore[arg-type]
    module.graph.erase_node(source)


def _merge_sum(module: fx.GraphModule, node: fx.Node) -> None:
    if node.op != 'call_function' or node.target not in (operator.add, torch.add):
        return
    terms = list(node.args)
    layers = [pointwise_of(module, term) for term in terms]
    if len(terms) != 2 or None in layers or len({layer.stride for layer in layers if layer}) != 1:
        return
    one, two = layers
    assert one is not None
    assert two is not None
    biases = [layer.bias for layer in (one, two) if layer.bias is not None]
    bias = sum(biases[1:], biases[0]) if biases else None
    layer = _convolution(torch.cat([one.weight, two.weight], 1), bias, one.stride)
    with module.graph.inserting_before(node):
        inputs = module.graph.call_function(torch.cat, ([term.args[0] for term in terms], 1))  # type: ignore[union-attr]
    replace_node(module, node, layer, inputs)
    for term in dict.fromkeys(terms):
        module.graph.erase_node(term)  # type: ignore[arg-type]
