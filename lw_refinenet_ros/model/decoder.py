# SPDX-License-Identifier: Apache-2.0
"""The light-weight RefineNet decoder (Nekrasov, Shen and Reid, BMVC 2018)."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from lw_refinenet_ros.model.chained_residual_pooling import ChainedResidualPooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lw_refinenet_ros.model.features import FeatureSpec

__all__ = ['LightWeightDecoder']


class Fusion(nn.Module):
    """One stride: the encoder's maps reduced by 1x1, summed with the coarser result, then pooled."""

    def __init__(self, channels: Sequence[int], width: int, crp_stages: int, *, coarsest: bool) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in channels)
        self.adapt = None if coarsest else nn.Conv2d(width, width, 1, bias=False)
        self.pooling = ChainedResidualPooling(width, crp_stages)

    def forward(self, maps: Sequence[Tensor], coarser: Tensor | None) -> Tensor:
        x = self.reduce[0](maps[0])
        for reduce, feature in zip(self.reduce[1:], maps[1:]):
            x = x + reduce(feature)
        if self.adapt is not None and coarser is not None:
            x = x + functional.interpolate(
                self.adapt(coarser), size=x.shape[-2:], mode='bilinear', align_corners=True
            )
        y: Tensor = self.pooling(torch.relu(x))
        return y


class LightWeightDecoder(nn.Module):
    """Refines an encoder's maps from the coarsest stride to the finest and classifies there.

    Args:
        features: the encoder's maps, finest first.
        num_classes: channels of the logits.
        width: channels of every decoder layer; 256 as published.
        crp_stages: pooling stages per stride; 4 as published.

    """

    def __init__(
        self, features: Sequence[FeatureSpec], num_classes: int, width: int = 256, crp_stages: int = 4
    ) -> None:
        super().__init__()
        groups = [[f.channels for f in group] for _, group in groupby(features, key=lambda f: f.stride)]
        self.counts = [len(group) for group in groups]
        self.fusions = nn.ModuleList(
            Fusion(group, width, crp_stages, coarsest=i == len(groups) - 1) for i, group in enumerate(groups)
        )
        self.classifier = nn.Conv2d(width, num_classes, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Turn the encoder's maps, finest first, into logits (N, num_classes, H, W) at the finest stride."""
        coarser: Tensor | None = None
        end = len(maps)
        for fusion, count in zip(reversed(self.fusions), reversed(self.counts)):
            coarser = fusion(maps[end - count : end], coarser)
            end -= count
        logits: Tensor = self.classifier(coarser)
        return logits
