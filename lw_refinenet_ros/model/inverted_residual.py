# SPDX-License-Identifier: Apache-2.0
"""Inverted residuals with linear bottlenecks (Sandler et al., CVPR 2018), and encoders made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lw_refinenet_ros.model.encoder import Encoder

__all__ = [
    'ConvNormAct',
    'InvertedResidual',
    'InvertedResidualEncoder',
    'SamePadConv2d',
    'Stage',
    'same_pads',
]


class SamePadConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "same": the odd pixel goes right and below.

    Networks that were trained in TensorFlow see another alignment of every strided
    layer than with PyTorch's symmetric padding.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        (top, left), (bottom, right) = self.pads(x.shape[-2:])
        padded = functional.pad(x, [left, right, top, bottom])
        y: Tensor = self._conv_forward(padded, self.weight, self.bias)
        return y

    def pads(self, size: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the pixels added above and left, and those below and right, of an input (height, width)."""
        pads = [
            same_pads(int(n), kernel, step) for n, kernel, step in zip(size, self.kernel_size, self.stride)
        ]
        return [before for before, _ in pads], [after for _, after in pads]


def same_pads(pixels: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the pixels that TensorFlow's "same" adds before and behind a row of them."""
    total = max((-(-pixels // stride) - 1) * stride + kernel - pixels, 0)
    return total // 2, total - total // 2


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm and, unless it is linear, ReLU6."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        linear: bool = False,
        same: bool = False,
        eps: float = 1e-5,
    ) -> None:
        # Stride 1 pads alike on both sides either way; exporters know the plain layer.
        layer = SamePadConv2d if same and stride > 1 else nn.Conv2d
        padding = 0 if layer is SamePadConv2d else kernel // 2
        super().__init__(
            layer(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels, eps=eps),
            *([] if linear else [nn.ReLU6(inplace=True)]),
        )


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter by depthwise k x k, project by a linear 1x1; add the input where shapes agree."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        expansion: int,
        kernel: int = 3,
        stride: int = 1,
        same: bool = False,
        eps: float = 1e-5,
        expand_always: bool = False,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expands = expansion > 1 or expand_always
        self.expand = ConvNormAct(in_channels, hidden, eps=eps) if expands else nn.Identity()
        self.depthwise = ConvNormAct(hidden, hidden, kernel, stride, groups=hidden, same=same, eps=eps)
        self.project = ConvNormAct(hidden, out_channels, linear=True, eps=eps)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return torch.add(x, y) if self.residual else y


class Stage(NamedTuple):
    """Blocks of one width, the first of which may stride."""

    expansion: int
    channels: int
    blocks: int
    stride: int
    kernel: int


class InvertedResidualEncoder(Encoder):
    """A strided 3x3 stem and stages of inverted residuals; returns the maps of all stages but the first.

    Args:
        stages: from the image on.
        same: whether strided layers are padded as in TensorFlow.
        eps: of the batch norms.
        expand_always: whether a block that expands by 1 has a layer for it.
    """

    def __init__(
        self, stages: Sequence[Stage], *, same: bool = False, eps: float = 1e-5, expand_always: bool = False
    ) -> None:
        super().__init__()
        channels = 32
        self.stem = ConvNormAct(3, channels, 3, 2, same=same, eps=eps)
        self.stages = nn.ModuleList()
        for stage in stages:
            blocks = nn.Sequential()
            for block in range(stage.blocks):
                blocks.append(
                    InvertedResidual(
                        channels,
                        stage.channels,
                        expansion=stage.expansion,
                        kernel=stage.kernel,
                        stride=stage.stride if block == 0 else 1,
                        same=same,
                        eps=eps,
                        expand_always=expand_always,
                    )
                )
                channels = stage.channels
            self.stages.append(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of `features` for a normalised float image (N, 3, H, W)."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1:]
