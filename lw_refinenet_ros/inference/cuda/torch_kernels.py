# SPDX-License-Identifier: Apache-2.0
"""The passes around a network in plain PyTorch, for devices without Triton: the same results, more kernels.

A CUDA graph can record all of them: nothing here waits for the device, or moves memory to it or from it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lw_refinenet_ros.image.encodings import Order
from lw_refinenet_ros.inference import passes
from lw_refinenet_ros.inference.cuda.pinned_memory import Frames
from lw_refinenet_ros.model.inverted_residual import same_pads

__all__ = ['add_upsampled', 'depthwise', 'finish', 'label_pixels', 'max_pool', 'normalise', 'pointwise']

ROWS = 32  # of the labels, that are upsampled together


def normalise(
    frames: Frames, size: tuple[int, int], order: Order, mean: Tensor, std: Tensor, dtype: torch.dtype
) -> Tensor:
    """Turn a camera's bytes into what a network takes, as `passes.normalise` does."""
    return passes.normalise(frames.pixels, size, order, mean, std, dtype)


def max_pool(x: Tensor, kernel: int, stride: int = 1, padding: int = 0) -> Tensor:
    """Pool (N, C, H, W), channels last, without the int64 indices that PyTorch's own pooling writes."""
    padded = functional.pad(x, (padding,) * 4, value=-torch.inf)
    windows = padded.permute(0, 2, 3, 1).unfold(1, kernel, stride).unfold(2, kernel, stride)
    return windows.amax((-2, -1)).permute(0, 3, 1, 2)


def finish(x: Tensor, bias: Tensor | None, others: tuple[Tensor, ...], low: float, high: float) -> Tensor:
    """Add a bias (C,) and then other maps, one after the other, to a map (N, C, H, W), and clip the sum.

    With a bias, `x` is a convolution's result: the sum overwrites it; without one, there are others. Each sum
    is rounded here; Triton's kernel adds in float32 and rounds once.
    """
    if bias is not None:
        x.add_(bias.view(-1, 1, 1))
    else:
        x, others = x + others[0], others[1:]
    for other in others:
        x.add_(other)
    return _clip(x, low, high)


def pointwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, others: tuple[Tensor, ...], low: float, high: float
) -> Tensor:
    """Convolve (N, C, H, W) by a weight (C', C, 1, 1), then add and clip as `finish` does."""
    y = functional.conv2d(x, weight)
    return _clip(y, low, high) if bias is None and not others else finish(y, bias, others, low, high)


def depthwise(
    x: Tensor, taps: Tensor, bias: Tensor | None, stride: int, padding: int | None, low: float, high: float
) -> Tensor:
    """Convolve each channel on its own, add a bias (C,) and clip the sum.

    Args:
        x: (N, C, H, W).
        taps: (k, k, C), the weights of each pixel of the kernel.
        bias: added to the result, or None.
        stride: of rows and columns.
        padding: zeros on each side; None pads as TensorFlow's "same", see `SamePadConv2d`.
        low: the result is at least that.
        high: the result is at most that.
    """
    kernel, _, channels = taps.shape
    if padding is None:
        (top, bottom), (left, right) = (same_pads(n, kernel, stride) for n in x.shape[2:])
        x, padding = functional.pad(x, [left, right, top, bottom]), 0
    weight = taps.permute(2, 0, 1)[:, None]
    y = functional.conv2d(x, weight, None, stride, padding, groups=channels)
    return _clip(y, low, high) if bias is None else finish(y, bias, (), low, high)


def add_upsampled(coarse: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """Upsample a map bilinearly to the size of another, corners on corners, add that and clip the sum."""
    y = functional.interpolate(coarse, size=x.shape[2:], mode='bilinear', align_corners=True)
    return finish(x, None, (y,), low, high)


def _clip(x: Tensor, low: float, high: float) -> Tensor:
    return x if (low, high) == (-torch.inf, torch.inf) else x.clamp_(low, high)


def label_pixels(logits: Tensor, labels: Tensor, confidences: Tensor | None, temperature: float) -> None:
    """Upsample logits bilinearly (half-pixel centres) and keep each pixel's class, a few rows at a time.

    Args:
        logits: (N, C, h, w) of any floating type; interpolated in float32.
        labels: uint8 (N, H, W); the argmax is written there.
        confidences: the same for round(255 max softmax(logits / temperature)), or None.
        temperature: of the softmax.
    """
    height, width = labels.shape[1:]
    maps = logits.float()
    above, below, down = _neighbours(height, maps.shape[2], maps.device)
    left, right, across = _neighbours(width, maps.shape[3], maps.device)
    for start in range(0, height, ROWS):
        part = slice(start, start + ROWS)
        rows = maps[:, :, above[part]].lerp(maps[:, :, below[part]], down[part, None])
        pixels = rows[..., left].lerp(rows[..., right], across)
        label, confidence = passes.classify(pixels, None if confidences is None else temperature)
        labels[:, part] = label
        if confidences is not None and confidence is not None:
            confidences[:, part] = confidence


def _neighbours(outputs: int, inputs: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two inputs that each output lies between, and the weight of the second."""
    place = (torch.arange(outputs, device=device) + 0.5) * (inputs / outputs) - 0.5
    place = place.clamp(0, inputs - 1)
    low = place.long()
    return low, (low + 1).clamp(max=inputs - 1), place - low
