# SPDX-License-Identifier: Apache-2.0
"""The empirical receptive field: which pixels a unit in the middle of a map really answers to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, autograd

from lw_refinenet_ros.model.network import Network

__all__ = ['STAGES', 'influences', 'side_of_influence']

STAGES = ('encoder', 'sum', 'pooling')  # of a stride: the encoder's map, the input of the pooling, its output


def influences(network: Network, image: Tensor) -> dict[tuple[str, int], Tensor]:
    """Measure how much every pixel moves the unit in the middle of each stage.

    Zhou et al. (ICLR 2015) cover one patch of the image after the other and note by how much the unit
    changes. The gradient is the limit of that for small changes, for all pixels in one backward pass.

    Args:
        network: in evaluation mode.
        image: normalised float (1, 3, H, W).

    Returns:
        for each of `STAGES` and stride, the absolute gradient of the length of the unit's vector of channels,
        summed over the colours: float (H, W) that sums to 1; zero where nothing moves it.
    """
    units: dict[tuple[str, int], Tensor] = {}

    def keep(stage: str, stride: int, x: Tensor) -> None:
        units[stage, stride] = x[0, :, x.shape[2] // 2, x.shape[3] // 2].norm()

    def keep_maps(_: object, __: object, maps: Sequence[Tensor]) -> None:
        for feature, x in zip(network.encoder.features, maps):
            keep('encoder', feature.stride, x)  # the deepest map of a stride comes last

    def keep_pooling(stride: int, _: object, inputs: tuple[Tensor], output: Tensor) -> None:
        keep('sum', stride, inputs[0])
        keep('pooling', stride, output)

    hooks = [network.encoder.register_forward_hook(keep_maps)]
    for index, stride in enumerate(network.decoder.strides):
        pooling = network.decoder.get_submodule(f'fusions.{index}.pooling')
        hooks.append(pooling.register_forward_hook(partial(keep_pooling, stride)))
    image = image.detach().requires_grad_()
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    fields = {}
    for place, unit in units.items():
        (gradient,) = autograd.grad(unit, image, retain_graph=True)
        field = gradient[0].abs().sum(0)
        fields[place] = field / field.sum().clamp(min=1e-30)
    return fields


def side_of_influence(influence: Tensor, share: float = 0.9) -> int:
    """Return the side of the smallest centred square that holds a share of the influence."""
    height, width = influence.shape
    for half in range(max(height, width)):
        rows = slice(max(height // 2 - half, 0), height // 2 + half + 1)
        columns = slice(max(width // 2 - half, 0), width // 2 + half + 1)
        if float(influence[rows, columns].sum()) >= share * float(influence.sum()):
            return 2 * half + 1
    return max(height, width)
