# SPDX-License-Identifier: Apache-2.0
"""MobileNet-v2 as an encoder (Sandler et al., CVPR 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from lw_refinenet_ros.model.features import Encoder, FeatureSpec
from lw_refinenet_ros.model.inverted_residual import ConvNormAct, InvertedResidual

__all__ = ['MobileNetV2']

# (expansion, channels, blocks, stride) of each stage, Table 2 of the paper
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNetV2(Encoder):
    """MobileNet-v2 1.0 without its classifier, as Light-Weight RefineNet uses it.

    The published network expands in the first block too (by 1), where the paper's has no such layer.
    """

    features = (
        FeatureSpec(24, 4),
        FeatureSpec(32, 8),
        FeatureSpec(64, 16),
        FeatureSpec(96, 16),
        FeatureSpec(160, 32),
        FeatureSpec(320, 32),
    )
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 32, 3, 2)
        self.stages = nn.ModuleList()
        channels = 32
        for expansion, out_channels, blocks, stride in STAGES:
            stage = nn.Sequential()
            for block in range(blocks):
                stage.append(
                    InvertedResidual(
                        channels,
                        out_channels,
                        expansion=expansion,
                        stride=stride if block == 0 else 1,
                        expand_always=True,
                    )
                )
                channels = out_channels
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give the six maps of `features` for a normalised float image (N, 3, H, W)."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1:]
