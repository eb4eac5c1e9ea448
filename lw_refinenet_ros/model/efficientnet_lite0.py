# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 as an encoder: EfficientNet-B0 (Tan and Le, ICML 2019) without squeeze-and-excite."""

from __future__ import annotations

from lw_refinenet_ros.model.features import FeatureSpec
from lw_refinenet_ros.model.inverted_residual import InvertedResidualEncoder, Stage

__all__ = ['EfficientNetLite0']

EPS = 1e-3
# (expansion, channels, blocks, stride, kernel) of each stage
STAGES = tuple(
    Stage(*row)
    for row in (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )
)


class EfficientNetLite0(InvertedResidualEncoder):
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
        super().__init__(STAGES, same=True, eps=EPS)
