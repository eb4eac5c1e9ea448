# SPDX-License-Identifier: Apache-2.0
"""The decoder of RefineNet (Lin et al., 2017) and of Light-Weight RefineNet (Nekrasov et al., BMVC 2018).

It is one decoder: the light-weight one has 1x1 convolutions where the original has 3x3, and no residual
convolution units.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from torch import Tensor, nn
from torch.nn import functional

from lw_refinenet_ros.model.chained_residual_pooling import ChainedResidualPooling
from lw_refinenet_ros.model.encoder import FeatureSpec
from lw_refinenet_ros.model.residual_conv_unit import ResidualConvUnit

__all__ = ['Decoder']


class Fusion(nn.Module):
    """One stride: the encoder's maps reduced and refined, summed with the coarser result, then pooled.

    Args:
        channels: of the encoder's maps at this stride.
        width: channels here.
        coarser_width: channels of the coarser result; None at the coarsest stride.
        wide, kernel, rcus, crp_stages, clipped: as the decoder's.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int,
        coarser_width: int | None,
        *,
        wide: bool,
        kernel: int,
        rcus: tuple[int, int],
        crp_stages: int,
        clipped: bool,
    ) -> None:
        super().__init__()

        def conv(in_channels: int) -> nn.Conv2d:
            return nn.Conv2d(in_channels, width, kernel, padding=kernel // 2, bias=False)

        def refinement(units: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualConvUnit(width, kernel) for _ in range(units)))

        self.reduce = nn.ModuleList(conv(c) for c in channels)
        self.refine = refinement(rcus[0])
        self.adapt_own = conv(width) if wide and coarser_width else nn.Identity()
        self.adapt = conv(coarser_width) if coarser_width else None
        self.activation = nn.ReLU6() if clipped else nn.ReLU()
        self.pooling = ChainedResidualPooling(width, crp_stages, kernel)
        self.output = refinement(rcus[1])

    def forward(self, maps: Sequence[Tensor], coarser: Tensor | None) -> Tensor:
        x = self.reduce[0](maps[0])
        for reduce, feature in zip(self.reduce[1:], maps[1:]):
            x = x + reduce(feature)
        x = self.adapt_own(self.refine(x))
        if self.adapt is not None and coarser is not None:
            y = self.adapt(coarser)
            y = functional.interpolate(y, size=x.shape[-2:], mode='bilinear', align_corners=True)
            x = x + (y.to(x.dtype) if self.training else y)  # autocast on CUDA interpolates in float32
        refined: Tensor = self.output(self.pooling(self.activation(x)))
        return refined


class Decoder(nn.Module):
    """Refines an encoder's maps from the coarsest stride to the finest and classifies there.

    Args:
        features: the encoder's maps, finest first.
        num_classes: channels of the logits.
        width: channels of every decoder layer; 256 as published.
        kernel: of its convolutions; 3 in the original, 1 in the light-weight decoder.
        rcus: residual convolution units before the sum and after the pooling of each stride; (2, 3) in
            the original, (0, 0) in the light-weight decoder.
        crp_stages: pooling stages per stride; 4 as published.
        levels: strides used, from the coarsest; 4 as published. The finest of them is the logits' stride.
        wide: as published with ResNets: the coarsest stride is twice as wide, and both summands of
            a sum are convolved. Else the coarser one is.
        clipped: as published with MobileNet-v2: the sums are clipped at 6.

    Attributes:
        strides: of `fusions`, finest first; that of the logits is the first.
    """

    def __init__(
        self,
        features: Sequence[FeatureSpec],
        num_classes: int,
        width: int = 256,
        *,
        kernel: int = 1,
        rcus: tuple[int, int] = (0, 0),
        crp_stages: int = 4,
        levels: int = 4,
        wide: bool = False,
        clipped: bool = False,
    ) -> None:
        super().__init__()
        groups = [list(group) for _, group in groupby(features, key=lambda f: f.stride)][-levels:]
        self.strides = [group[0].stride for group in groups]
        self.counts = [len(group) for group in groups]
        widths = [width] * (len(groups) - 1) + [2 * width if wide else width]
        self.fusions = nn.ModuleList(
            Fusion(
                [f.channels for f in group],
                own,
                coarser,
                wide=wide,
                kernel=kernel,
                rcus=rcus,
                crp_stages=crp_stages,
                clipped=clipped,
            )
            for group, own, coarser in zip(groups, widths, [*widths[1:], None])
        )
        self.classifier = nn.Conv2d(widths[0], num_classes, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Turn the encoder's maps, finest first, into logits (N, num_classes, H, W) at the finest stride."""
        coarser: Tensor | None = None
        end = len(maps)
        for fusion, count in zip(reversed(self.fusions), reversed(self.counts)):
            coarser = fusion(maps[end - count : end], coarser)
            end -= count
        logits: Tensor = self.classifier(coarser)
        return logits
