# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 as an encoder: EfficientNet-B0 (Tan and Le, ICML 2019) without squeeze-and-excite."""

from __future__ import annotations

from torch import Tensor, nn

from lw_refinenet_ros.model.features import Encoder, FeatureSpec
from lw_refinenet_ros.model.inverted_residual import ConvNormAct, InvertedResidual

__all__ = ['EfficientNetLite0']

EPS = 1e-3
# (expansion, channels, blocks, stride, kernel) of each stage
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class EfficientNetLite0(Encoder):
    """EfficientNet-Lite0 without its classifier, padded as in TensorFlow, where it was trained."""

    features = (
        FeatureSpec(24, 4),
        FeatureSpec(40, 8),
        FeatureSpec(80, 16),
        FeatureSpec(112, 16),
        FeatureSpec(192, 32),
        FeatureSpec(320, 32),
    )
    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 32, 3, 2, same=True, eps=EPS)
        self.stages = nn.ModuleList()
        channels = 32
        for expansion, out_channels, blocks, stride, kernel in STAGES:
            stage = nn.Sequential()
            for block in range(blocks):
                stage.append(
                    InvertedResidual(
                        channels,
                        out_channels,
                        expansion=expansion,
                        kernel=kernel,
                        stride=stride if block == 0 else 1,
                        same=True,
                        eps=EPS,
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
