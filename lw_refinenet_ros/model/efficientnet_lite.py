# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite as encoders: EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excite."""

from __future__ import annotations

import math

from lw_refinenet_ros.model.encoder import FeatureSpec
from lw_refinenet_ros.model.inverted_residual import InvertedResidualEncoder, Stage

__all__ = ['EfficientNetLite0', 'EfficientNetLite1', 'EfficientNetLite2']

EPS = 1e-3
# (expansion, channels, blocks, stride, kernel) of each stage of Lite0
STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)


def _scaled(width: float, depth: float) -> tuple[Stage, ...]:
    """Scale channels, to multiples of 8, and blocks; Lite keeps the blocks of the first and last stage."""
    last = len(STAGES) - 1
    return tuple(
        stage._replace(
            channels=int(width * stage.channels + 4) // 8 * 8,
            blocks=stage.blocks if index in (0, last) else math.ceil(depth * stage.blocks),
        )
        for index, stage in enumerate(STAGES)
    )


def _features(stages: tuple[Stage, ...]) -> tuple[FeatureSpec, ...]:
    return tuple(FeatureSpec(s.channels, stride) for s, stride in zip(stages[1:], (4, 8, 16, 16, 32, 32)))


class EfficientNetLite0(InvertedResidualEncoder):
    """EfficientNet-Lite0 without its classifier, padded as in TensorFlow, where it was trained."""

    stages_of: tuple[Stage, ...] = STAGES
    features = _features(STAGES)
    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3

    def __init__(self) -> None:
        super().__init__(self.stages_of, same=True, eps=EPS)


class EfficientNetLite1(EfficientNetLite0):
    """EfficientNet-Lite1: 1.1 times as deep."""

    stages_of = _scaled(1.0, 1.1)


class EfficientNetLite2(EfficientNetLite0):
    """EfficientNet-Lite2: 1.1 times as wide and 1.2 times as deep."""

    stages_of = _scaled(1.1, 1.2)
    features = _features(stages_of)
