# SPDX-License-Identifier: Apache-2.0
"""The passes around a network as Triton kernels, each one read and one write; see `torch_kernels`."""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from torch.nn import functional

from lw_refinenet_ros.image.encodings import Order
from lw_refinenet_ros.inference.cuda import torch_kernels
from lw_refinenet_ros.inference.cuda import triton_kernels as kernels
from lw_refinenet_ros.inference.cuda.pinned_memory import Frames
from lw_refinenet_ros.model.inverted_residual import same_pads

__all__ = [
    'add_upsampled',
    'depthwise',
    'finish',
    'label_pixels',
    'max_pool',
    'normalise',
    'paint',
    'pointwise',
]

STRIP = 4  # rows that a program pools: more share more, fewer leave small maps more programs
MOST_INTENSITY = (
    128  # multiply-adds per value read or written, below which a 1x1 convolution waits for memory
)
FEW_MULTIPLY_ADDS = 2**27  # that take as long as starting a kernel


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


def pointwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, others: tuple[Tensor, ...], low: float, high: float
) -> Tensor:
    """Convolve by 1x1, add and clip, as `torch_kernels.pointwise`; half precision is rounded once.

    cuDNN multiplies faster, but leaves the sums to another pass. It convolves where arithmetic takes the time
    (see `_is_memory_bound`), in float32, and where Triton does not use the tensor cores.
    """
    batch, inputs, rows, columns = x.shape
    pixels, outputs = batch * rows * columns, weight.shape[0]
    half = x.dtype != torch.float32 and _uses_tensor_cores(x.device)
    if not half or not _is_memory_bound(pixels, inputs, outputs):
        if bias is None and not others:
            return torch_kernels.pointwise(x, weight, None, (), low, high)
        return finish(functional.conv2d(x, weight), bias, others, low, high)
    x, *maps = (m.contiguous(memory_format=torch.channels_last) for m in (x, *others))
    out = torch.empty((batch, rows, columns, outputs), dtype=x.dtype, device=x.device)
    input_unit, output_unit = _unit(inputs), _unit(outputs)
    block, wide, deep = _tile(pixels, inputs, outputs)
    unused = [x] * (4 - len(maps))
    kernels.pointwise[(triton.cdiv(pixels, block) * triton.cdiv(outputs, wide),)](
        *(x, weight.contiguous(), out, x if bias is None else bias, *maps, *unused),
        *(pixels, inputs // input_unit, outputs // output_unit, low, high),
        *(input_unit, output_unit, bias is not None, len(maps), block, wide, deep),
        num_warps=4,
        num_stages=4,
    )
    return out.permute(0, 3, 1, 2)


def _uses_tensor_cores(device: torch.device) -> bool:
    """Whether Triton multiplies in half precision on tensor cores: not on those before capability 8.0."""
    return device.type != 'cuda' or torch.cuda.get_device_capability(device)[0] >= 8


def _is_memory_bound(pixels: int, inputs: int, outputs: int) -> bool:
    """Whether a 1x1 convolution takes about as long as reading and writing its maps, or as any kernel.

    On an H200, 256 to 256 channels take 7.5 us in cuDNN and 11.5 us in Triton at 120x160, 5.9 and 3.9 us at
    30x40; a pass of sums takes cuDNN 2 to 7 us more.
    """
    intense = inputs * outputs >= MOST_INTENSITY * (inputs + outputs)
    return not intense or pixels * inputs * outputs <= FEW_MULTIPLY_ADDS


def _tile(pixels: int, inputs: int, outputs: int) -> tuple[int, int, int]:
    """Return the pixels, outputs and inputs that a program multiplies at once.

    Few outputs or few programs get a narrow and deep tile, large maps a high one: within 0.5 us of the
    fastest of eight for every layer of MobileNet-v2 on an H200.
    """
    programs = triton.cdiv(pixels, 64) * triton.cdiv(outputs, 64)
    if inputs >= 64 and (outputs <= 32 or programs < 64):
        return 64, 32, 64
    return 128 if pixels >= 2**15 else 64, 64, 32


def _unit(channels: int) -> int:
    return 1 if channels % 8 else 8


def depthwise(
    x: Tensor, taps: Tensor, bias: Tensor | None, stride: int, padding: int | None, low: float, high: float
) -> Tensor:
    """Convolve each channel on its own, add a bias and clip, as `torch_kernels.depthwise`; rounds once."""
    batch, channels, height, width = x.shape
    kernel = taps.shape[0]
    x = x.contiguous(memory_format=torch.channels_last)
    if padding is None:
        top, left = (same_pads(n, kernel, stride)[0] for n in (height, width))
        rows, columns = (triton.cdiv(n, stride) for n in (height, width))
    else:
        top = left = padding
        rows, columns = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
    out = torch.empty((batch, rows, columns, channels), dtype=x.dtype, device=x.device)
    pixels, unit = batch * rows * columns, _unit(channels)
    block, wide = (16, 64) if pixels <= 1200 else (32, 32)
    kernels.depthwise[(triton.cdiv(pixels, block), triton.cdiv(channels, wide))](
        *(x, taps, out, x if bias is None else bias, pixels, height, width, rows, columns),
        *(channels // unit, top, left, low, high, unit, kernel, stride, bias is not None, block, wide),
    )
    return out.permute(0, 3, 1, 2)


def add_upsampled(coarse: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """Add an upsampled map and clip the sum, as `torch_kernels.add_upsampled` does; rounds once."""
    batch, channels, rows, columns = x.shape
    height, width = coarse.shape[2:]
    coarse, x = (m.contiguous(memory_format=torch.channels_last) for m in (coarse, x))
    out = torch.empty((batch, rows, columns, channels), dtype=x.dtype, device=x.device)
    pixels, unit = batch * rows * columns, _unit(channels)
    wide = min(triton.next_power_of_2(channels), 256)
    block = 2048 // wide
    kernels.add_upsampled[(triton.cdiv(pixels, block), triton.cdiv(channels, wide))](
        *(coarse, x, out, pixels, height, width, rows, columns, channels // unit),
        *((height - 1) / max(rows - 1, 1), (width - 1) / max(columns - 1, 1), low, high),
        *(unit, block, wide),
    )
    return out.permute(0, 3, 1, 2)


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
