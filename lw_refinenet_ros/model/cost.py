# SPDX-License-Identifier: Apache-2.0
"""What a network costs: multiply-adds and the sizes of its maps, counted without computing anything."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lw_refinenet_ros.model.network import Network

__all__ = ['Cost', 'measure_cost']


@dataclass(frozen=True)
class Cost:
    """What one image costs."""

    # Of every convolution, by its name in the network; nothing else multiplies much
    multiply_adds: dict[str, int]
    # (channels, height, width) of the encoder's maps, of each stride's result and of the logits
    maps: dict[str, tuple[int, ...]]

    def total(self, part: str = '') -> int:
        """Sum the multiply-adds of the convolutions whose names start with `part`."""
        return sum(count for name, count in self.multiply_adds.items() if name.startswith(part))


def measure_cost(network: nn.Module, size: tuple[int, int]) -> Cost:
    """Count what one image of (height, width) costs a network in evaluation mode.

    A `Network` that was rewritten for inference has no parts any more, and so no `maps`.
    """
    cost = Cost({}, {})

    def count(name: str, layer: nn.Conv2d, _: object, output: Tensor) -> None:
        rows, columns = layer.kernel_size
        cost.multiply_adds[name] = output.numel() * layer.in_channels // layer.groups * rows * columns

    def note(names: list[str], _: object, __: object, output: Tensor | list[Tensor]) -> None:
        maps = [output] if isinstance(output, Tensor) else output
        cost.maps.update((name, tuple(m.shape[1:])) for name, m in zip(names, maps))

    places = _places(network) if isinstance(network, Network) else {}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(partial(count, name)))
        if name in places:
            hooks.append(module.register_forward_hook(partial(note, places[name])))
    try:
        shapes = {name: torch.empty_like(t, device='meta') for name, t in network.state_dict().items()}
        functional_call(network, shapes, torch.empty(1, 3, *size, device='meta'))
    finally:
        for hook in hooks:
            hook.remove()
    return cost


def _places(network: Network) -> dict[str, list[str]]:
    """Name the maps that parts of a network give."""
    places = {'encoder': [f'encoder {i}: stride {f.stride}' for i, f in enumerate(network.encoder.features)]}
    for index, stride in enumerate(network.decoder.strides):
        places[f'decoder.fusions.{index}'] = [f'decoder: stride {stride}']
    return places | {'decoder.classifier': ['logits']}
