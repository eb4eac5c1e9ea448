# SPDX-License-Identifier: Apache-2.0
"""MobileNet-v2 as an encoder (Sandler et al., CVPR 2018)."""

from __future__ import annotations

from lw_refinenet_ros.model.encoder import FeatureSpec
from lw_refinenet_ros.model.inverted_residual import InvertedResidualEncoder, Stage

__all__ = ['MobileNetV2']

# (expansion, channels, blocks, stride, kernel) of each stage, Table 2 of the paper
STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 32, 3, 2, 3),
    Stage(6, 64, 4, 2, 3),
    Stage(6, 96, 3, 1, 3),
    Stage(6, 160, 3, 2, 3),
    Stage(6, 320, 1, 1, 3),
)


class MobileNetV2(InvertedResidualEncoder):
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
        super().__init__(STAGES, expand_always=True)
