# SPDX-License-Identifier: Apache-2.0
"""The passes around a network as Triton kernels, each one read and one write; see `torch_kernels`."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from lw_refinenet_ros.image.encodings import Order
from lw_refinenet_ros.inference.cuda import triton_kernels as kernels
from lw_refinenet_ros.inference.cuda.pinned_memory import Frames

__all__ = ['finish', 'label_pixels', 'max_pool', 'normalise', 'paint']

STRIP = 4  # rows that a program pools: more share more, fewer leave small maps more programs


def normalise(
    frames: Frames, size: tuple[int, int], order: Order, mean: Tensor, std: Tensor, dtype: torch.dtype
) -> Tensor:
    """Turn a camera's bytes into what a network takes, as `torch_kernels.normalise` does."""
    batch, height, width, _ = frames.pixels.shape
    out = torch.empty((batch, *size, 3), dtype=dtype, device=mean.device)
    bgr = order == 'bgr'
    if size == (height, width):
        total, block = 3 * height * width, 1024
        grid = (triton.cdiv(total, block), batch)
        kernels.normalise[grid](frames.addresses, out, mean, std, total, bgr, block)
    else:
        block = 256
        grid = (batch * size[0], triton.cdiv(size[1], block))
        kernels.normalise_resized[grid](frames.addresses, out, mean, std, height, width, *size, bgr, block)
    return out.permute(0, 3, 1, 2)


def max_pool(x: Tensor, kernel: int, stride: int = 1, padding: int = 0) -> Tensor:
    """Pool (N, C, H, W) without indices; channels last."""
    batch, channels, height, width = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    rows, columns = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
    out = torch.empty((batch, rows, columns, channels), dtype=x.dtype, device=x.device)
    wide = min(triton.next_power_of_2(channels), 256)
    block = max(1024 // wide, 1)
    blocks = triton.cdiv(columns, block), triton.cdiv(channels, wide)
    if (kernel, stride, padding) == (5, 1, 2):
        grid = (batch * triton.cdiv(rows, STRIP), *blocks)
        kernels.max_pool_5x5[grid](x, out, channels, height, width, STRIP, block, wide)
    else:
        kernels.max_pool[(batch * rows, *blocks)](
            x, out, channels, height, width, rows, columns, kernel, stride, padding, block, wide
        )
    return out.permute(0, 3, 1, 2)


def finish(x: Tensor, bias: Tensor | None, others: tuple[Tensor, ...], low: float, high: float) -> Tensor:
    """Add a bias and other maps and clip the sum, as `torch_kernels.finish`; rounds once."""
    x, *maps = (m.contiguous(memory_format=torch.channels_last) for m in (x, *others))
    out = torch.empty_like(x) if bias is None else x
    total, block = x.numel(), 2048
    unused = [x] * (4 - len(maps))
    kernels.finish[(triton.cdiv(total, block),)](
        *(x, out, x if bias is None else bias, *maps, *unused, total, low, high),
        *(1 if bias is None else x.shape[1], bias is not None, len(maps), block),
    )
    return out


def label_pixels(logits: Tensor, labels: Tensor, confidences: Tensor | None, temperature: float) -> None:
    """Write each pixel's class and confidence and nothing else, as `torch_kernels.label_pixels` does."""
    batch, classes, rows, columns = logits.shape
    _, height, width = labels.shape
    block = 128
    grid = (batch * height, triton.cdiv(width, block))
    kernels.label_pixels[grid](
        *(logits, labels, labels if confidences is None else confidences, 1 / temperature),
        *(rows, columns, height, width, *logits.stride()),
        *(classes, confidences is not None, block),
    )


def paint(address: Tensor, label: Tensor, table: Tensor, order: Order, out: Tensor) -> None:
    """Paint an overlay or the colours alone, byte by byte as the CPU does.

    Args:
        address: int64 (1,), of the first byte of a frame (H, W, 3).
        label: uint8 (H, W).
        table: uint8 (256, 256, 3), from `blend_table`: the result for an id, a byte and an RGB channel.
        order: of the frame's channels.
        out: uint8 (H, W, 3); the RGB result is written there.
    """
    total, block = out.numel(), 1024
    kernels.paint[(triton.cdiv(total, block),)](address, label, table, out, total, order == 'bgr', block)
