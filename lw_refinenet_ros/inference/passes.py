# SPDX-License-Identifier: Apache-2.0
"""The passes before and after a network in PyTorch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lw_refinenet_ros.image.encodings import Order

__all__ = ['classify', 'normalise', 'resize']


def normalise(
    frames: Tensor, size: tuple[int, int], order: Order, mean: Tensor, std: Tensor, dtype: torch.dtype
) -> Tensor:
    """Turn a camera's bytes into what a network takes.

    Args:
        frames: uint8 (N, H, W, 3).
        size: (height, width) of the result; frames are resized bilinearly (half-pixel centres) and rounded to
            bytes.
        order: of the frames' channels; the result's are RGB.
        mean: float32 (3,) in units of bytes, RGB.
        std: as `mean`.
        dtype: of the result.

    Returns:
        (N, 3, h, w), channels last.
    """
    x = frames.permute(0, 3, 1, 2).float()
    if order == 'bgr':
        x = x.flip(1)
    if size != tuple(x.shape[2:]):
        x = (resize(x, size) + 0.5).floor_()
    x = (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    return x.to(dtype, memory_format=torch.channels_last)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (N, C, H, W) bilinearly to (height, width), with half-pixel centres."""
    return functional.interpolate(x, size=size, mode='bilinear', align_corners=False)


def classify(logits: Tensor, temperature: float | None) -> tuple[Tensor, Tensor | None]:
    """Return the class and the confidence of each pixel.

    Args:
        logits: float32 (N, C, H, W).
        temperature: of the softmax; None if the confidence is not wanted.

    Returns:
        uint8 (N, H, W) each: the argmax, and round(255 max softmax(logits / temperature)) or None.
    """
    label = logits.argmax(1).to(torch.uint8)
    if temperature is None:
        return label, None
    highest = logits.amax(1, keepdim=True)
    total = ((logits - highest) / temperature).exp().sum(1)
    return label, (255 / total).round().to(torch.uint8)
