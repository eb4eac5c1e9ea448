# SPDX-License-Identifier: Apache-2.0
"""The residual convolution unit of RefineNet (Lin et al., CVPR 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ['ResidualConvUnit']


class ResidualConvUnit(nn.Module):
    """ReLU and convolution, twice, added to the input: a residual block without batch norm."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.second = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, C, H, W)."""
        y: Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + y
