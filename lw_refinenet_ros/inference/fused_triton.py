# SPDX-License-Identifier: Apache-2.0
"""The passes around a network as Triton kernels, each one read and one write; `fused_torch` defines them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

from lw_refinenet_ros.inference import fused_kernels as kernels

if TYPE_CHECKING:
    from lw_refinenet_ros.image.encodings import Order

__all__ = ['finish_convolution', 'label_pixels', 'max_pool', 'normalise']


def normalise(
    frames: Tensor, size: tuple[int, int], order: Order, mean: Tensor, std: Tensor, dtype: torch.dtype
) -> Tensor:
    """Turn a camera's bytes into what a network takes, as `fused_torch.normalise` does."""
    batch, height, width, _ = frames.shape
    out = torch.empty((batch, *size, 3), dtype=dtype, device=frames.device)
    block = 256
    grid = (batch * size[0], triton.cdiv(size[1], block))
    resize = size != (height, width)
    kernels.normalise[grid](frames, out, mean, std, height, width, *size, order == 'bgr', resize, block)
    return out.permute(0, 3, 1, 2)


def max_pool(x: Tensor, kernel: int, stride: int = 1, padding: int = 0) -> Tensor:
    """Pool (N, C, H, W) without indices; channels last."""
    batch, channels, height, width = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    rows, columns = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
    out = torch.empty((batch, rows, columns, channels), dtype=x.dtype, device=x.device)
    wide = min(triton.next_power_of_2(channels), 256)
    block = max(2048 // wide, 1)
    grid = (batch * rows, triton.cdiv(columns, block), triton.cdiv(channels, wide))
    kernels.max_pool[grid](
        x, out, channels, height, width, rows, columns, kernel, stride, padding, block, wide
    )
    return out.permute(0, 3, 1, 2)


def finish_convolution(x: Tensor, bias: Tensor, other: Tensor | None, low: float, high: float) -> Tensor:
    """Add a bias and maybe another map, and clip the sum, in place; as `fused_torch.finish_convolution`."""
    x = x.contiguous(memory_format=torch.channels_last)
    total, block = x.numel(), 2048
    if other is not None:
        other = other.contiguous(memory_format=torch.channels_last)
    grid = (triton.cdiv(total, block),)
    summand = x if other is None else other
    kernels.finish[grid](x, bias, summand, x.shape[1], total, low, high, other is not None, block)
    return x


def label_pixels(logits: Tensor, labels: Tensor, confidences: Tensor | None, temperature: float) -> None:
    """Write each pixel's class and confidence and nothing else, as `fused_torch.label_pixels` does."""
    batch, classes, rows, columns = logits.shape
    _, height, width = labels.shape
    wide = triton.next_power_of_2(classes)
    block = max(min(2048 // wide, 64), 4)
    grid = (batch * height, triton.cdiv(width, block))
    kernels.label_pixels[grid](
        *(logits, labels, labels if confidences is None else confidences, 1 / temperature),
        *(classes, rows, columns, height, width, *logits.stride()),
        *(confidences is not None, block, wide),
    )
