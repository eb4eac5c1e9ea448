# SPDX-License-Identifier: Apache-2.0
"""The contract between an encoder and a decoder: which feature maps there are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

__all__ = ['Encoder', 'FeatureSpec']


@dataclass(frozen=True)
class FeatureSpec:
    """One feature map of an encoder.

    An encoder lists its maps finest first; several maps may share a stride, and a
    decoder sums those before it goes on to the next finer stride.
    """

    channels: int
    stride: int


class Encoder(nn.Module):
    """Maps a normalised float image (N, 3, H, W) to the maps of `features`, finest first.

    Attributes:
        features: its maps.
        mean, std: of the images it was trained on, per RGB channel, for values in [0, 1].
    """

    features: tuple[FeatureSpec, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
