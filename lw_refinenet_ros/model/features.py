# SPDX-License-Identifier: Apache-2.0
"""The contract between an encoder and a decoder: which feature maps there are."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ['FeatureSpec']


@dataclass(frozen=True)
class FeatureSpec:
    """One feature map of an encoder.

    An encoder lists its maps finest first; several maps may share a stride, and a
    decoder sums those before it goes on to the next finer stride.
    """

    channels: int
    stride: int
