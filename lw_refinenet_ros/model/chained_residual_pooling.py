# SPDX-License-Identifier: Apache-2.0
"""Chained residual pooling of RefineNet (Lin et al., CVPR 2017) and of Light-Weight RefineNet."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ['ChainedResidualPooling']


class ChainedResidualPooling(nn.Module):
    """Each stage pools what the stage before it gave by 5x5, convolves it and adds it to the sum.

    It provides the light-weight decoder's context: four stages see 17 x 17 cells.
    """

    def __init__(self, channels: int, stages: int = 4, kernel: int = 1) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False) for _ in range(stages)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, C, H, W)."""
        pooled = total = x
        for conv in self.convs:
            if self.training and x.is_cuda:  # rows, then columns: 10 values to compare, not 25
                pooled = functional.max_pool2d(pooled, (5, 1), stride=1, padding=(2, 0))
                pooled = conv(functional.max_pool2d(pooled, (1, 5), stride=1, padding=(0, 2)))
            else:
                pooled = conv(functional.max_pool2d(pooled, 5, stride=1, padding=2))
            total = total + pooled
        return total
