# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels that `fused_triton` launches.

Triton reads their source: only what is constant has a type. What has none is a pointer, or a number that
may change from launch to launch. Maps are channels last.
"""
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import triton
import triton.language as tl

__all__ = ['finish', 'label_pixels', 'max_pool', 'normalise']


@triton.jit
def _neighbours(position, outputs, inputs):
    """Give the two inputs that an output lies between (half-pixel centres), and the weight of the second."""
    place = (position.to(tl.float32) + 0.5) * ((inputs * 1.0) / (outputs * 1.0)) - 0.5
    place = tl.maximum(tl.minimum(place, inputs - 1.0), 0.0)
    low = place.to(tl.int32)
    return low, tl.minimum(low + 1, inputs - 1), place - low.to(tl.float32)


@triton.jit
def normalise(
    frames,
    out,
    mean,
    std,
    height,
    width,
    rows,
    columns,
    bgr: tl.constexpr,
    resize: tl.constexpr,
    block: tl.constexpr,
):
    """One program for a part of a row; consecutive threads take consecutive pixels."""
    image, y = tl.program_id(0) // rows, tl.program_id(0) % rows
    x = tl.program_id(1) * block + tl.arange(0, block)
    inside = x < columns
    frames += image.to(tl.int64) * height * width * 3
    out += tl.program_id(0).to(tl.int64) * columns * 3
    for channel in tl.static_range(3):
        byte = frames + (2 - channel if bgr else channel)
        if resize:
            above, below, down = _neighbours(y, rows, height)
            left, right, across = _neighbours(x, columns, width)
            above, below = byte + above.to(tl.int64) * width * 3, byte + below.to(tl.int64) * width * 3
            a = tl.load(above + left * 3, inside, other=0).to(tl.float32)
            b = tl.load(above + right * 3, inside, other=0).to(tl.float32)
            c = tl.load(below + left * 3, inside, other=0).to(tl.float32)
            d = tl.load(below + right * 3, inside, other=0).to(tl.float32)
            top, bottom = a + across * (b - a), c + across * (d - c)
            value = tl.floor(top + down * (bottom - top) + 0.5)
        else:
            value = tl.load(byte + (y.to(tl.int64) * width + x) * 3, inside, other=0).to(tl.float32)
        value = (value - tl.load(mean + channel)) / tl.load(std + channel)
        tl.store(out + x * 3 + channel, value.to(out.dtype.element_ty), inside)


@triton.jit
def max_pool(
    x,
    out,
    channels,
    height,
    width,
    rows,
    columns,
    kernel: tl.constexpr,
    stride: tl.constexpr,
    padding: tl.constexpr,
    block: tl.constexpr,
    wide: tl.constexpr,
):
    """One program for some columns and channels of a row; what neighbours share comes from the cache."""
    image, y = tl.program_id(0) // rows, tl.program_id(0) % rows
    column = (tl.program_id(1) * block + tl.arange(0, block))[:, None]
    channel = (tl.program_id(2) * wide + tl.arange(0, wide))[None, :]
    x += image.to(tl.int64) * height * width * channels
    best = tl.full((block, wide), float('-inf'), x.dtype.element_ty)
    for i in tl.static_range(kernel):
        row = y * stride - padding + i
        for j in tl.static_range(kernel):
            place = column * stride - padding + j
            inside = (row >= 0) & (row < height) & (place >= 0) & (place < width) & (channel < channels)
            source = x + (row.to(tl.int64) * width + place) * channels + channel
            best = tl.maximum(best, tl.load(source, inside, other=float('-inf')))
    target = out + (tl.program_id(0).to(tl.int64) * columns + column) * channels + channel
    tl.store(target, best, (column < columns) & (channel < channels))


@triton.jit
def finish(
    x,
    bias,
    other,
    channels,
    total,
    low,
    high,
    add: tl.constexpr,
    block: tl.constexpr,
):
    """One program for a run of values, channels last."""
    start = tl.program_id(0).to(tl.int64) * block
    index = start + tl.arange(0, block)
    channel = ((start % channels).to(tl.int32) + tl.arange(0, block)) % channels
    inside = index < total
    value = tl.load(x + index, inside, other=0).to(tl.float32)
    value += tl.load(bias + channel, inside, other=0).to(tl.float32)
    if add:
        value += tl.load(other + index, inside, other=0).to(tl.float32)
    value = tl.minimum(tl.maximum(value, low), high)
    tl.store(x + index, value.to(x.dtype.element_ty), inside)


@triton.jit
def label_pixels(
    logits,
    labels,
    confidences,
    sharpness,
    classes,
    rows,
    columns,
    height,
    width,
    image_stride,
    class_stride,
    row_stride,
    column_stride,
    confident: tl.constexpr,
    block: tl.constexpr,
    wide: tl.constexpr,
):
    """One program for some pixels of a row; all classes of a pixel are side by side."""
    image, y = tl.program_id(0) // height, tl.program_id(0) % height
    x = tl.program_id(1) * block + tl.arange(0, block)
    index = tl.arange(0, wide)[None, :]
    above, below, down = _neighbours(y, height, rows)
    left, right, across = _neighbours(x, width, columns)
    left, right, across = left[:, None] * column_stride, right[:, None] * column_stride, across[:, None]
    logits += image.to(tl.int64) * image_stride + index * class_stride
    known = (index < classes) & (x < width)[:, None]
    a = tl.load(logits + above * row_stride + left, known, other=float('-inf')).to(tl.float32)
    b = tl.load(logits + above * row_stride + right, known, other=float('-inf')).to(tl.float32)
    c = tl.load(logits + below * row_stride + left, known, other=float('-inf')).to(tl.float32)
    d = tl.load(logits + below * row_stride + right, known, other=float('-inf')).to(tl.float32)
    # A weight of 0 times -inf is no number: what is not known is set afterwards.
    top, bottom = a * (1 - across) + b * across, c * (1 - across) + d * across
    value = tl.where(known, top * (1 - down) + bottom * down, float('-inf'))
    target = tl.program_id(0).to(tl.int64) * width + x
    tl.store(labels + target, tl.argmax(value, 1).to(tl.uint8), x < width)
    if confident:
        highest = tl.max(value, 1)
        total = tl.sum(tl.exp((value - highest[:, None]) * sharpness), 1)
        tl.store(confidences + target, (255 / total + 0.5).to(tl.uint8), x < width)
