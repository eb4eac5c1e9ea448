# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels that `triton_launch` launches.

Triton reads their source: only what is constant has a type. What has none is a pointer, or a number that
may change from launch to launch. Maps are channels last.

Triton compiles a kernel anew for numbers that are 1 or multiples of 16, and sees no other multiples.
Kernels that every layer calls are kept from that. They get channels as a multiple of a constant unit, 8 where
it divides them: eight values in half precision are then one load.
"""
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

import triton
import triton.language as tl

__all__ = [
    'add_upsampled',
    'depthwise',
    'finish',
    'label_pixels',
    'max_pool',
    'max_pool_5x5',
    'normalise',
    'normalise_resized',
    'paint',
    'pointwise',
]

SIZES = ('pixels', 'height', 'width', 'rows', 'columns', 'channels')


@triton.jit
def _neighbours(position, outputs, inputs):
    """Return the two inputs that an output lies between (half-pixel centres), and the second's weight."""
    place = (position.to(tl.float32) + 0.5) * ((inputs * 1.0) / (outputs * 1.0)) - 0.5
    place = tl.maximum(tl.minimum(place, inputs - 1.0), 0.0)
    low = place.to(tl.int32)
    return low, tl.minimum(low + 1, inputs - 1), place - low.to(tl.float32)


@triton.jit
def _bytes_at(addresses, image):
    """Return the pointer to an image's first byte; it may lie at any byte, as in a message."""
    return tl.load(addresses + image).to(tl.pointer_type(tl.uint8))


@triton.jit
def _add_maps(value, first, second, third, fourth, start, index, inside, others: tl.constexpr):
    """Add up to four maps, read at an index from a start, to a value."""
    if others > 0:
        value += tl.load(first + start + index, inside, other=0).to(tl.float32)
    if others > 1:
        value += tl.load(second + start + index, inside, other=0).to(tl.float32)
    if others > 2:
        value += tl.load(third + start + index, inside, other=0).to(tl.float32)
    if others > 3:
        value += tl.load(fourth + start + index, inside, other=0).to(tl.float32)
    return value


@triton.jit
def normalise(
    addresses,
    out,
    mean,
    std,
    total,
    bgr: tl.constexpr,
    block: tl.constexpr,
):
    """One program for a run of an image's bytes: consecutive threads read consecutive bytes, each once."""
    start = tl.program_id(0) * block
    byte = start + tl.arange(0, block)
    inside = byte < total
    channel = byte % 3
    source = byte + 2 - 2 * channel if bgr else byte
    frame = _bytes_at(addresses, tl.program_id(1))
    value = tl.load(frame + source, inside, other=0).to(tl.float32)
    value = (value - tl.load(mean + channel)) / tl.load(std + channel)
    out += tl.program_id(1).to(tl.int64) * total
    tl.store(out + byte, value.to(out.dtype.element_ty), inside)


@triton.jit
def normalise_resized(
    addresses,
    out,
    mean,
    std,
    height,
    width,
    rows,
    columns,
    bgr: tl.constexpr,
    block: tl.constexpr,
):
    """One program for a part of a row; consecutive threads take consecutive pixels."""
    image, y = tl.program_id(0) // rows, tl.program_id(0) % rows
    x = tl.program_id(1) * block + tl.arange(0, block)
    inside = x < columns
    frame = _bytes_at(addresses, image)
    out += tl.program_id(0).to(tl.int64) * columns * 3
    upper, lower, down = _neighbours(y, rows, height)
    left, right, across = _neighbours(x, columns, width)
    above, below = frame + upper.to(tl.int64) * width * 3, frame + lower.to(tl.int64) * width * 3
    for channel in tl.static_range(3):
        byte = 2 - channel if bgr else channel
        a = tl.load(above + left * 3 + byte, inside, other=0).to(tl.float32)
        b = tl.load(above + right * 3 + byte, inside, other=0).to(tl.float32)
        c = tl.load(below + left * 3 + byte, inside, other=0).to(tl.float32)
        d = tl.load(below + right * 3 + byte, inside, other=0).to(tl.float32)
        top, bottom = a + across * (b - a), c + across * (d - c)
        value = tl.floor(top + down * (bottom - top) + 0.5)
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
def max_pool_5x5(
    x,
    out,
    channels,
    height,
    width,
    strip: tl.constexpr,
    block: tl.constexpr,
    wide: tl.constexpr,
):
    """One program for some columns and channels of a strip of rows, stride 1; the size stays.

    The maximum over five columns is made once for each row and passed down the strip; so are the maxima over
    two and over four rows, and a row of the result is the maximum of the last four and the next.
    """
    strips = (height + strip - 1) // strip
    image, first = tl.program_id(0) // strips, tl.program_id(0) % strips * strip
    column = (tl.program_id(1) * block + tl.arange(0, block))[:, None]
    channel = (tl.program_id(2) * wide + tl.arange(0, wide))[None, :]
    known = (column < width) & (channel < channels)
    x += image.to(tl.int64) * height * width * channels
    out += image.to(tl.int64) * height * width * channels
    one = tl.full((block, wide), float('-inf'), x.dtype.element_ty)
    two, two_before, four = one, one, one
    for step in tl.static_range(strip + 4):
        row = first + step - 2
        line = x + row.to(tl.int64) * width * channels
        best = tl.full((block, wide), float('-inf'), x.dtype.element_ty)
        for shift in tl.static_range(-2, 3):
            place = column + shift
            inside = (row >= 0) & (row < height) & (place >= 0) & (place < width) & (channel < channels)
            best = tl.maximum(best, tl.load(line + place * channels + channel, inside, other=float('-inf')))
        if step >= 4:
            target = out + (row - 2).to(tl.int64) * width * channels + column * channels + channel
            tl.store(target, tl.maximum(four, best), known & (row - 2 < height))
        pair = tl.maximum(one, best)
        four = tl.maximum(two_before, pair)
        one, two_before, two = best, two, pair


@triton.jit
def finish(
    x,
    out,
    bias,
    first,
    second,
    third,
    fourth,
    total,
    low,
    high,
    channels: tl.constexpr,
    biased: tl.constexpr,
    others: tl.constexpr,
    block: tl.constexpr,
):
    """One program for a run of values, channels last."""
    start = tl.program_id(0).to(tl.int64) * block
    index = tl.arange(0, block)
    inside = index < total - start
    value = tl.load(x + start + index, inside, other=0).to(tl.float32)
    if biased:
        channel = ((start % channels).to(tl.int32) + index) % channels
        if channels % 8 == 0:  # so eight biases are one load
            channel = tl.max_contiguous(tl.multiple_of(channel, 8), 8)
        value += tl.load(bias + channel).to(tl.float32)
    value = _add_maps(value, first, second, third, fourth, start, index, inside, others)
    value = tl.minimum(tl.maximum(value, low), high)
    tl.store(out + start + index, value.to(out.dtype.element_ty), inside)


@triton.jit(do_not_specialize=('pixels', 'inputs', 'outputs'))
def pointwise(
    x,
    weight,
    out,
    bias,
    first,
    second,
    third,
    fourth,
    pixels,
    inputs,
    outputs,
    low,
    high,
    input_unit: tl.constexpr,
    output_unit: tl.constexpr,
    biased: tl.constexpr,
    others: tl.constexpr,
    block: tl.constexpr,
    wide: tl.constexpr,
    deep: tl.constexpr,
):
    """One program for some pixels and some of their output channels; neighbours read the same pixels."""
    inputs, outputs = inputs * input_unit, outputs * output_unit
    blocks = (outputs + wide - 1) // wide
    start = tl.program_id(0) // blocks * block
    pixel = tl.arange(0, block)
    channel = tl.program_id(0) % blocks * wide + tl.arange(0, wide)
    index = tl.arange(0, deep)
    known = start + pixel < pixels
    source = x + start.to(tl.int64) * inputs + pixel[:, None] * inputs + index[None, :]
    factors = weight + channel[None, :] * inputs + index[:, None]
    value = tl.zeros((block, wide), tl.float32)
    for done in range(0, inputs, deep):
        a = tl.load(source, known[:, None] & (index[None, :] + done < inputs), other=0.0)
        b = tl.load(factors, (index[:, None] + done < inputs) & (channel[None, :] < outputs), other=0.0)
        value = tl.dot(a, b, value)
        source += deep
        factors += deep
    inside = known[:, None] & (channel[None, :] < outputs)
    place = start.to(tl.int64) * outputs
    within = pixel[:, None] * outputs + channel[None, :]
    if biased:
        value += tl.load(bias + channel, channel < outputs, other=0.0).to(tl.float32)[None, :]
    value = _add_maps(value, first, second, third, fourth, place, within, inside, others)
    value = tl.minimum(tl.maximum(value, low), high)
    tl.store(out + place + within, value.to(out.dtype.element_ty), inside)


@triton.jit(do_not_specialize=(*SIZES, 'top', 'left'))
def depthwise(
    x,
    taps,
    out,
    bias,
    pixels,
    height,
    width,
    rows,
    columns,
    channels,
    top,
    left,
    low,
    high,
    unit: tl.constexpr,
    kernel: tl.constexpr,
    stride: tl.constexpr,
    biased: tl.constexpr,
    block: tl.constexpr,
    wide: tl.constexpr,
):
    """One program for some pixels, of all images in order, and channels; neighbours share by the cache."""
    channels = channels * unit
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    channel = tl.program_id(1) * wide + tl.arange(0, wide)
    image, rest = pixel // (rows * columns), pixel % (rows * columns)
    y, z = rest // columns * stride - top, rest % columns * stride - left
    known = channel < channels
    source = x + ((image * height + y) * width + z).to(tl.int64) * channels
    value = tl.zeros((block, wide), tl.float32)
    for i in tl.static_range(kernel):
        for j in tl.static_range(kernel):
            row, column = y + i, z + j
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (pixel < pixels)
            tap = source + (i * width + j) * channels
            a = tl.load(tap[:, None] + channel[None, :], inside[:, None] & known[None, :], other=0.0)
            b = tl.load(taps + (i * kernel + j) * channels + channel, known, other=0.0)
            value += a.to(tl.float32) * b.to(tl.float32)[None, :]
    if biased:
        value += tl.load(bias + channel, known, other=0.0).to(tl.float32)[None, :]
    value = tl.minimum(tl.maximum(value, low), high)
    target = (out + pixel.to(tl.int64) * channels)[:, None] + channel[None, :]
    tl.store(target, value.to(out.dtype.element_ty), (pixel < pixels)[:, None] & known[None, :])


@triton.jit(do_not_specialize=SIZES)
def add_upsampled(
    coarse,
    x,
    out,
    pixels,
    height,
    width,
    rows,
    columns,
    channels,
    row_scale,
    column_scale,
    low,
    high,
    unit: tl.constexpr,
    block: tl.constexpr,
    wide: tl.constexpr,
):
    """One program for some pixels, of all images in order, and channels; corners lie on corners."""
    channels = channels * unit
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    channel = (tl.program_id(1) * wide + tl.arange(0, wide))[None, :]
    image, rest = pixel // (rows * columns), pixel % (rows * columns)
    y = (rest // columns).to(tl.float32) * row_scale
    z = (rest % columns).to(tl.float32) * column_scale
    upper, left = tl.minimum(y.to(tl.int32), height - 1), tl.minimum(z.to(tl.int32), width - 1)
    lower, right = tl.minimum(upper + 1, height - 1), tl.minimum(left + 1, width - 1)
    down, across = (y - upper.to(tl.float32))[:, None], (z - left.to(tl.float32))[:, None]
    above, below = (image * height + upper) * width, (image * height + lower) * width
    inside = (pixel < pixels)[:, None] & (channel < channels)
    a = tl.load((coarse + (above + left).to(tl.int64) * channels)[:, None] + channel, inside, other=0.0)
    b = tl.load((coarse + (above + right).to(tl.int64) * channels)[:, None] + channel, inside, other=0.0)
    c = tl.load((coarse + (below + left).to(tl.int64) * channels)[:, None] + channel, inside, other=0.0)
    d = tl.load((coarse + (below + right).to(tl.int64) * channels)[:, None] + channel, inside, other=0.0)
    upper_line = a.to(tl.float32) * (1 - across) + b.to(tl.float32) * across
    lower_line = c.to(tl.float32) * (1 - across) + d.to(tl.float32) * across
    place = pixel.to(tl.int64) * channels
    value = upper_line * (1 - down) + lower_line * down
    value += tl.load((x + place)[:, None] + channel, inside, other=0.0).to(tl.float32)
    value = tl.minimum(tl.maximum(value, low), high)
    tl.store((out + place)[:, None] + channel, value.to(out.dtype.element_ty), inside)


@triton.jit
def label_pixels(
    logits,
    labels,
    confidences,
    sharpness,
    rows,
    columns,
    height,
    width,
    image_stride,
    class_stride,
    row_stride,
    column_stride,
    classes: tl.constexpr,
    confident: tl.constexpr,
    block: tl.constexpr,
):
    """One program for some pixels of a row, one thread a pixel; it sees class after class."""
    image, y = tl.program_id(0) // height, tl.program_id(0) % height
    x = tl.program_id(1) * block + tl.arange(0, block)
    upper, lower, down = _neighbours(y, height, rows)
    left, right, across = _neighbours(x, width, columns)
    logits += image.to(tl.int64) * image_stride
    above, below = logits + upper.to(tl.int64) * row_stride, logits + lower.to(tl.int64) * row_stride
    left, right = left * column_stride, right * column_stride
    highest = tl.full((block,), float('-inf'), tl.float32)
    label = tl.zeros((block,), tl.int32)
    total = tl.zeros((block,), tl.float32)  # of exp(value - highest)
    for index in range(classes):
        a, b = tl.load(above + left).to(tl.float32), tl.load(above + right).to(tl.float32)
        c, d = tl.load(below + left).to(tl.float32), tl.load(below + right).to(tl.float32)
        top, bottom = a + across * (b - a), c + across * (d - c)
        value = top + down * (bottom - top)
        higher = value > highest
        if confident:  # what is lower than the other of the two is what is scaled
            scale = tl.exp(-tl.abs(value - highest) * sharpness)
            total = tl.where(higher, total * scale + 1, total + scale)
        label = tl.where(higher, index, label)
        highest = tl.maximum(highest, value)
        above += class_stride
        below += class_stride
    target = tl.program_id(0).to(tl.int64) * width + x
    tl.store(labels + target, label.to(tl.uint8), x < width)
    if confident:
        tl.store(confidences + target, (255 / total + 0.5).to(tl.uint8), x < width)


@triton.jit
def paint(
    addresses,
    labels,
    table,
    painted,
    total,
    bgr: tl.constexpr,
    block: tl.constexpr,
):
    """One program for a run of bytes; the table stays in the cache."""
    byte = tl.program_id(0) * block + tl.arange(0, block)
    inside = byte < total
    channel = byte % 3
    source = byte + 2 - 2 * channel if bgr else byte
    value = tl.load(_bytes_at(addresses, 0) + source, inside, other=0).to(tl.int32)
    label = tl.load(labels + byte // 3, inside, other=0).to(tl.int32)
    color = tl.load(table + (label * 256 + value) * 3 + channel)
    tl.store(painted + byte, color, inside)
