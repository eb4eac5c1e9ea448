# SPDX-License-Identifier: Apache-2.0
"""ResNet-50, 101 and 152 as encoders (He et al., CVPR 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lw_refinenet_ros.model.encoder import Encoder, FeatureSpec

__all__ = ['ResNet50', 'ResNet101', 'ResNet152']

EXPANSION = 4  # a block's output over its 3x3 convolution


class ConvNorm(nn.Sequential):
    """Convolution without bias, and batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels),
        )


class Bottleneck(nn.Module):
    """Reduce by 1x1, filter by 3x3 (which takes the stride), expand by 1x1; add the input."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * EXPANSION
        self.reduce = ConvNorm(in_channels, channels)
        self.filter = ConvNorm(channels, channels, 3, stride)
        self.expand = ConvNorm(channels, out_channels)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else ConvNorm(in_channels, out_channels, 1, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        y = torch.relu(self.filter(torch.relu(self.reduce(x))))
        return torch.relu(self.expand(y) + self.shortcut(x))


class ResNet50(Encoder):
    """A ResNet of bottlenecks without its classifier; the deeper ones differ in `depths` alone."""

    depths = (3, 4, 6, 3)  # blocks of each stage
    features = (FeatureSpec(256, 4), FeatureSpec(512, 8), FeatureSpec(1024, 16), FeatureSpec(2048, 32))
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 64, 7, 2)
        self.stages = nn.ModuleList()
        in_channels = 64
        for depth, feature in zip(self.depths, self.features):
            stage = nn.Sequential()
            for block in range(depth):
                stride = 2 if block == 0 and feature.stride > 4 else 1
                stage.append(Bottleneck(in_channels, feature.channels // EXPANSION, stride))
                in_channels = feature.channels
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the four maps of `features` for a normalised float image (N, 3, H, W)."""
        x = functional.max_pool2d(torch.relu(self.stem(x)), 3, stride=2, padding=1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class ResNet101(ResNet50):
    """The same with 23 blocks at stride 16."""

    depths = (3, 4, 23, 3)


class ResNet152(ResNet50):
    """The same with 8 blocks at stride 8 and 36 at stride 16."""

    depths = (3, 8, 36, 3)
