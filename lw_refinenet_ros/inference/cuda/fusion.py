# SPDX-License-Identifier: Apache-2.0
"""Pooling without indices; bias, sums and activation in one pass, or in the convolution itself."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from lw_refinenet_ros.inference.cuda.kernels import Kernels
from lw_refinenet_ros.model.inverted_residual import SamePadConv2d
from lw_refinenet_ros.model.rewrite import layer_of

__all__ = ['fuse', 'replace_kernels']

LOW, HIGH = -torch.inf, torch.inf
MOST_MAPS = 4  # that one pass adds to another: the stages of a chained residual pooling


def fuse(network: fx.GraphModule, kernels: Kernels) -> fx.GraphModule:
    """Replace pooling by one without indices; bias, add and clip maps in one pass.

    Where a 1x1 or depthwise convolution or an upsampling comes before it, it is part of that pass.

    Args:
        network: from `rewrite_for_inference`; it is changed.
        kernels: what it will call.

    Returns:
        the same network; its results are equal up to rounding.
    """
    for node in network.graph.nodes:
        if node.op == 'call_function' and node.target is functional.max_pool2d:
            node.target = kernels.max_pool
            node.kwargs = {name: node.kwargs[name] for name in ('stride', 'padding')}
    for biased in (True, False):  # a sum is added to the convolution whose bias has to be added anyway
        for node in network.graph.nodes:
            if (_bias(network, node) is not None) == biased:
                _fuse_passes(network, node, kernels)
    for fuse_pass in (_fuse_upsampling, _fuse_convolution):
        for node in list(network.graph.nodes):
            fuse_pass(network, node, kernels)
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.graph.lint()
    network.recompile()
    return network


def replace_kernels(network: fx.GraphModule, old: Kernels, new: Kernels) -> None:
    """Replace the kernels that a fused network calls."""
    names = ('max_pool', 'finish', 'pointwise', 'depthwise', 'add_upsampled')
    others = {getattr(old, name): getattr(new, name) for name in names}
    for node in network.graph.nodes:
        if node.op == 'call_function':
            node.target = others.get(node.target, node.target)
    network.recompile()


def _fuse_passes(network: fx.GraphModule, node: fx.Node, kernels: Kernels) -> None:
    """Turn a convolution's bias, the sums that follow a node and an activation into one pass.

    Terms are added in the order in which the network adds them, but for biases, which come first. What has a
    bias is overwritten: nothing else may use it.
    """
    bias = _bias(network, node)
    follower = _only_user(node) if bias is not None else next(iter(filter(_is_sum, node.users)), None)
    followers: list[fx.Node] = []
    others: list[fx.Node] = []
    while len(others) < MOST_MAPS and (other := _other_term(follower, [node, *followers][-1])) is not None:
        assert follower is not None
        others.append(other)
        followers.append(follower)
        follower = _only_user(follower)
    limits = _limits(network, follower)
    if follower is not None and limits is not None:
        followers.append(follower)
    if (bias is not None) + len(followers) < 2:
        return
    with network.graph.inserting_before(followers[-1]):
        term = None
        if bias is not None:
            name = f'{node.name}_bias'
            biases = _take_biases(network, [node, *filter(_only_user, others)])
            network.register_buffer(name, torch.stack(biases).sum(0))
            term = network.graph.get_attr(name)
        arguments = (node, term, tuple(others), *(limits or (LOW, HIGH)))
        finished = network.graph.call_function(kernels.finish, arguments)
    followers[-1].replace_all_uses_with(finished)
    for follower in reversed(followers):
        network.graph.erase_node(follower)


def _fuse_upsampling(network: fx.GraphModule, node: fx.Node, kernels: Kernels) -> None:
    """Have the pass that adds an upsampled map upsample it."""
    if node.target is not kernels.finish:
        return
    arguments: Any = node.args
    x, bias, others, low, high = arguments
    terms = [x, *others]
    upsampled = [term for term in terms if _is_upsampling(term) and list(term.users) == [node]]
    if len(upsampled) != 1:
        return
    total, *rest = (term for term in terms if term is not upsampled[0])
    with network.graph.inserting_before(node):
        if bias is not None or rest:
            total = network.graph.call_function(kernels.finish, (total, bias, tuple(rest), LOW, HIGH))
        arguments = (upsampled[0].args[0], total, low, high)
        added = network.graph.call_function(kernels.add_upsampled, arguments)
    node.replace_all_uses_with(added)
    network.graph.erase_node(node)


def _is_upsampling(node: fx.Node) -> bool:
    options = {'mode': 'bilinear', 'align_corners': True, 'scale_factor': None, 'antialias': False}
    return node.target is functional.interpolate and options.items() <= node.kwargs.items()


def _fuse_convolution(network: fx.GraphModule, node: fx.Node, kernels: Kernels) -> None:
    """Turn a 1x1 or depthwise convolution and the pass that follows it into one kernel."""
    layer = layer_of(network, node, nn.Conv2d)
    if layer is None or not (_is_pointwise(layer) or _is_depthwise(layer)):
        return
    last, bias, others, limits = _pass_after(network, node, kernels, MOST_MAPS if _is_pointwise(layer) else 0)
    with network.graph.inserting_before(last):
        if layer.bias is not None:
            bias = network.graph.get_attr(f'{node.target}.bias')
        if _is_pointwise(layer):
            weight = network.graph.get_attr(f'{node.target}.weight')
            fused = network.graph.call_function(
                kernels.pointwise, (node.args[0], weight, bias, others, *limits)
            )
        else:
            name = f'{node.name}_taps'
            network.register_buffer(name, layer.weight.detach()[:, 0].permute(1, 2, 0).contiguous())
            padding = None if isinstance(layer, SamePadConv2d) else layer.padding[0]
            taps = network.graph.get_attr(name)
            fused = network.graph.call_function(
                kernels.depthwise, (node.args[0], taps, bias, layer.stride[0], padding, *limits)
            )
    last.replace_all_uses_with(fused)
    for replaced in dict.fromkeys((last, node)):
        network.graph.erase_node(replaced)


def _is_pointwise(layer: nn.Conv2d) -> bool:
    plain = not isinstance(layer, SamePadConv2d) and layer.padding == (0, 0)
    return plain and layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1


def _is_depthwise(layer: nn.Conv2d) -> bool:
    square = all(len(set(pair)) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding))
    alone = 1 < layer.groups == layer.in_channels == layer.out_channels
    return square and alone and layer.dilation == (1, 1) and layer.padding_mode == 'zeros'


def _pass_after(
    network: fx.GraphModule, node: fx.Node, kernels: Kernels, most: int
) -> tuple[fx.Node, Any, tuple[Any, ...], tuple[float, float]]:
    """Return the pass after a convolution that can be its own: the node that ends it, bias, maps and limits.

    Without such a pass the convolution ends it itself. At most so many maps are added.
    """
    user = next(iter(node.users)) if len(node.users) == 1 else None
    if user is not None and user.target is kernels.finish:
        arguments: Any = user.args
        x, bias, others, low, high = arguments
        terms = [x, *others]
        rest = tuple(term for term in terms if term is not node)
        if len(others) <= most and len(rest) == len(others) and (x is node or bias is None):
            return user, bias, rest, (low, high)
    limits = _limits(network, user)
    if user is not None and limits is not None:
        return user, None, (), limits
    return node, None, (), (LOW, HIGH)


def _bias(network: fx.GraphModule, node: fx.Node) -> Tensor | None:
    """Return the bias that a node adds to what it convolves, if it does."""
    layer = network.get_submodule(str(node.target)) if node.op == 'call_module' else None
    return layer.bias if isinstance(layer, nn.Conv2d) else None


def _take_biases(network: fx.GraphModule, nodes: list[fx.Node]) -> list[Tensor]:
    """Take from convolutions the biases that they add, so that one pass adds them all."""
    biases = []
    for node in nodes:
        bias = _bias(network, node)
        if bias is not None:
            network.get_submodule(str(node.target)).register_parameter('bias', None)
            biases.append(bias.detach())
    return biases


def _is_sum(node: fx.Node) -> bool:
    return node.target in (operator.add, torch.add)


def _other_term(total: fx.Node | None, term: fx.Node) -> fx.Node | None:
    """Return what a node adds to a map, if it is a sum of that map and another."""
    if total is None or not _is_sum(total) or total.args.count(term) != 1:
        return None
    (other,) = (argument for argument in total.args if argument is not term)
    return other if isinstance(other, fx.Node) else None


def _only_user(node: fx.Node) -> fx.Node | None:
    """Return what uses a node's result, if it is one and uses it once."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].args.count(node) == 1 else None


def _limits(network: fx.GraphModule, node: fx.Node | None) -> tuple[float, float] | None:
    """Return the limits that an activation clips to, None for other nodes."""
    layer: Any = None
    if node is not None and node.op == 'call_module':
        layer = network.get_submodule(str(node.target))
    if isinstance(layer, nn.ReLU6):
        return 0.0, 6.0
    if isinstance(layer, nn.ReLU) or (node is not None and node.target in (torch.relu, functional.relu)):
        return 0.0, HIGH
    return None
