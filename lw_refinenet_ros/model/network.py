# SPDX-License-Identifier: Apache-2.0
"""Light-Weight RefineNet networks by name."""

from __future__ import annotations

from torch import Tensor, nn

from lw_refinenet_ros.model.decoder import LightWeightDecoder
from lw_refinenet_ros.model.efficientnet_lite0 import EfficientNetLite0
from lw_refinenet_ros.model.mobilenet_v2 import MobileNetV2

__all__ = ['ARCHITECTURES', 'STRIDE', 'Network', 'build_model']

STRIDE = 4  # of the logits, in every architecture

ENCODERS: dict[str, type[MobileNetV2 | EfficientNetLite0]] = {
    'mobilenet_v2': MobileNetV2,
    'efficientnet_lite0': EfficientNetLite0,
}
ARCHITECTURES = tuple(f'lw_refinenet_{name}' for name in ENCODERS)


class Network(nn.Module):
    """An encoder and a decoder: normalised float image (N, 3, H, W) in, logits at stride 4 out."""

    def __init__(self, encoder: MobileNetV2 | EfficientNetLite0, decoder: LightWeightDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: Tensor) -> Tensor:
        """Give logits (N, num_classes, ceil(H / 4), ceil(W / 4))."""
        logits: Tensor = self.decoder(self.encoder(image))
        return logits


def build_model(architecture: str, num_classes: int, *, width: int = 256) -> Network:
    """Build an untrained network.

    Args:
        architecture: one of `ARCHITECTURES`.
        num_classes: channels of the logits.
        width: channels of the decoder; 256 as published.

    Raises:
        ValueError: the architecture is unknown, or a number is not positive.

    """
    if architecture not in ARCHITECTURES:
        msg = f'unknown architecture {architecture!r}: choose one of {", ".join(ARCHITECTURES)}'
        raise ValueError(msg)
    if num_classes < 1 or width < 1:
        msg = f'num_classes={num_classes} and width={width} must both be at least 1'
        raise ValueError(msg)
    encoder = ENCODERS[architecture.removeprefix('lw_refinenet_')]()
    return Network(encoder, LightWeightDecoder(encoder.features, num_classes, width))
