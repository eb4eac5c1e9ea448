# SPDX-License-Identifier: Apache-2.0
"""Which kernels run the passes around a network on a CUDA device, and where a network calls them itself."""

from __future__ import annotations

import importlib.util
import operator
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from lw_refinenet_ros.inference import fused_torch

if TYPE_CHECKING:
    from lw_refinenet_ros.image.encodings import Order

__all__ = ['Kernels', 'choose_kernels', 'fuse', 'replace_kernels']

LOW, HIGH = -torch.inf, torch.inf


class Kernels(Protocol):
    """What `fused_torch` defines and documents; each module that has these functions will do."""

    def normalise(
        self,
        frames: Tensor,
        size: tuple[int, int],
        order: Order,
        mean: Tensor,
        std: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        """Turn a camera's bytes into what a network takes."""

    def max_pool(self, x: Tensor, kernel: int, stride: int = 1, padding: int = 0) -> Tensor:
        """Pool without indices."""

    def finish_convolution(
        self, x: Tensor, bias: Tensor, other: Tensor | None, low: float, high: float
    ) -> Tensor:
        """Add a bias and maybe another map to a map, and clip the sum."""

    def label_pixels(
        self, logits: Tensor, labels: Tensor, confidences: Tensor | None, temperature: float
    ) -> None:
        """Upsample logits and keep each pixel's class and confidence."""


def choose_kernels(device: torch.device) -> tuple[Kernels, str]:
    """Take Triton's kernels where they run and PyTorch's elsewhere; also says which, and why."""
    if importlib.util.find_spec('triton') is None:
        return fused_torch, 'PyTorch kernels: triton is not installed'
    try:
        from lw_refinenet_ros.inference import fused_triton

        label = torch.empty((1, 2, 2), dtype=torch.uint8, device=device)
        fused_triton.label_pixels(torch.zeros((1, 2, 2, 2), device=device), label, None, 1.0)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # no C compiler, no Python headers, a GPU that Triton does not know
        reason = next(iter(str(error).splitlines()), '')
        return fused_torch, f'PyTorch kernels: Triton does not run here, {type(error).__name__}: {reason}'
    return fused_triton, 'Triton kernels'


def fuse(network: fx.GraphModule, kernels: Kernels) -> fx.GraphModule:
    """Let a network pool without indices, and add, clip and bias a convolution's result in one pass.

    Args:
        network: as `rewrite_for_inference` gives it; it is changed.
        kernels: what it will call.

    Returns:
        the same network; its results are equal up to rounding.

    """
    for node in list(network.graph.nodes):
        if node.op == 'call_function' and node.target is functional.max_pool2d:
            node.target = kernels.max_pool
            node.kwargs = {name: node.kwargs[name] for name in ('stride', 'padding')}
        elif node.op == 'call_module':
            _fuse_convolution(network, node, kernels)
    network.graph.lint()
    network.recompile()
    return network


def replace_kernels(network: fx.GraphModule, old: Kernels, new: Kernels) -> None:
    """Let a fused network call other kernels from now on."""
    others = {getattr(old, name): getattr(new, name) for name in ('max_pool', 'finish_convolution')}
    for node in network.graph.nodes:
        if node.op == 'call_function':
            node.target = others.get(node.target, node.target)
    network.recompile()


def _fuse_convolution(network: fx.GraphModule, node: fx.Node, kernels: Kernels) -> None:
    """Turn convolution, bias, sum and activation into a bare convolution and one pass."""
    layer = network.get_submodule(str(node.target))
    if not isinstance(layer, nn.Conv2d) or layer.bias is None:
        return
    followers: list[fx.Node] = []
    other = None
    follower = _only_user(node)
    if follower is not None and follower.target in (operator.add, torch.add):
        first, second = follower.args
        other = second if first is node else first
        followers.append(follower)
        follower = _only_user(follower)
    limits = _limits(network, follower)
    if follower is not None and limits is not None:
        followers.append(follower)
    if not followers:
        return
    name = f'{node.name}_bias'
    network.register_buffer(name, layer.bias.detach().clone())
    layer.bias = None
    low, high = limits or (LOW, HIGH)
    with network.graph.inserting_before(followers[-1]):
        bias = network.graph.get_attr(name)
        finished = network.graph.call_function(kernels.finish_convolution, (node, bias, other, low, high))
    followers[-1].replace_all_uses_with(finished)
    for follower in reversed(followers):
        network.graph.erase_node(follower)


def _only_user(node: fx.Node) -> fx.Node | None:
    """Give what uses a node's result, if it is one and uses it once."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].args.count(node) == 1 else None


def _limits(network: fx.GraphModule, node: fx.Node | None) -> tuple[float, float] | None:
    """Give what an activation clips to, or None if a node is none that clips."""
    layer: Any = None
    if node is not None and node.op == 'call_module':
        layer = network.get_submodule(str(node.target))
    if isinstance(layer, nn.ReLU6):
        return 0.0, 6.0
    if isinstance(layer, nn.ReLU) or (node is not None and node.target in (torch.relu, functional.relu)):
        return 0.0, HIGH
    return None
