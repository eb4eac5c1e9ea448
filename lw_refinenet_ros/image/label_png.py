# SPDX-License-Identifier: Apache-2.0
"""Label images as PNG files whose values are class ids."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from lw_refinenet_ros.files import open_regular, read_regular, write_bytes
from lw_refinenet_ros.image.frame import Pixels
from lw_refinenet_ros.image.header import read_header
from lw_refinenet_ros.labels import UNLABELLED, LabelSet
from lw_refinenet_ros.limits import MAX_PIXELS
from lw_refinenet_ros.one_line import counted

__all__ = [
    'content_of',
    'fault_of_predictions',
    'foreign_color',
    'prediction_of',
    'read_label_png',
    'write_label_png',
]

MAX_BYTES = 2 * MAX_PIXELS  # a byte for each pixel without compression, and as much again for comments
GREYSCALE, PALETTE, GREY_ALPHA = 0, 3, 4  # colour types of a PNG
COLORS = 2  # bit of the types that have them
CONTENTS = {GREYSCALE: 'ids', PALETTE: 'palette', 2: 'colors', 6: 'colors'}  # 6 has transparency, too
UNUSED_COLOR = (0, 0, 0)  # of ids without a class in a palette
UNLABELLED_COLOR = (255, 255, 255)  # this one stands out in a painting program
HEADER_END = 33  # of the signature and IHDR
# The text of a prediction: what another program saves has another size or sum, even with the text
PREDICTION = 'Source\0lw_refinenet_ros prediction, {size:010} bytes, sum {sum}, of {of}'
PREDICTED = re.compile(  # earlier ones had no sum
    rb'(?s)....tEXtSource\0lw_refinenet_ros prediction, ([0-9]{10}) bytes'
    rb'(?:, sum ([0-9a-f]{16}))?, of (.{0,99})'
)
# Of a PNG: zlib's checksum of all pixels and the last chunk's own, before the end chunk
SUM = slice(-20, -12)
LONGEST_NAME = 80  # characters of what predicted it


def read_label_png(path: Path | str, *, foreign: bool = False) -> Pixels:
    """Read class ids from a greyscale or palette PNG of up to 8 bits.

    Args:
        path: of the file.
        foreign: whether grey of 16 bits, where no id exceeds 255, or with alpha is read, too.

    Returns:
        uint8 (H, W): palette indices, or grey values as they are stored.

    Raises:
        ValueError: the file is damaged, animated, has colours or 16 bits, or is larger than an image may be.
        OSError: it cannot be read.
    """
    content = read_regular(path, MAX_BYTES)
    try:
        return _decode(content, foreign)
    except (ValueError, OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        fault = error if isinstance(error, ValueError) else 'damaged or truncated PNG'
        raise ValueError(f'{path}: {fault}') from error


def _decode(content: bytes, foreign: bool) -> Pixels:
    header = read_header(content)
    if header.kind != 'png' or content[12:16] != b'IHDR':
        raise ValueError('not a PNG file: label images are 8-bit greyscale or palette PNGs')
    depth, color_type = content[24:26]
    convertible = (color_type, depth) in ((GREYSCALE, 16), (GREY_ALPHA, 8))
    if (color_type not in (GREYSCALE, PALETTE) or depth > 8) and not (foreign and convertible):
        of_colors = bool(color_type & COLORS)
        what = 'colours' if of_colors else 'it' if convertible else ''
        raise ValueError(
            f'PNG of colour type {color_type}, {depth} bits: save class ids'
            f'{", not RGB colours," * of_colors} as 8-bit greyscale or palette without alpha'
            f'{f"; lw_refinenet label --from-masks converts {what}" * bool(what)}'
        )
    Image.open(io.BytesIO(content), formats=('PNG',)).verify()  # checksums; then it is of no use
    image = Image.open(io.BytesIO(content), formats=('PNG',))
    if image.size != (header.width, header.height) or getattr(image, 'is_animated', False):
        raise ValueError('PNG of several images: save one')
    if color_type == GREY_ALPHA:
        return np.asarray(image, np.uint8)[..., 0].copy()
    if depth == 16:
        deep = np.asarray(image)
        if (largest := int(deep.max())) > UNLABELLED:
            raise ValueError(f'PNG of 16 bits with ids up to {largest}: renumber them from 0 to {UNLABELLED}')
        return deep.astype(np.uint8)
    stretch = 255 // ((1 << depth) - 1) if image.mode == 'L' else 1  # grey of 2 and 4 bits is scaled to 255
    return np.asarray(image, np.uint8) // np.uint8(stretch)


def content_of(path: Path | str) -> str:
    """Return what a PNG holds: 'ids' (grey), 'palette' (ids with colours), 'colors'; '' of any other file.

    Raises:
        ValueError: it is not a regular file.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        head = file.read(26)
    return CONTENTS.get(head[25], '') if head[:4] == b'\x89PNG' and len(head) == 26 else ''


def prediction_of(path: Path | str) -> str | None:
    """Return which weights' classes a network predicted in a file that nobody has saved since, else None.

    Reads no more than the first and last bytes, and takes what cannot be read for no prediction.
    """
    try:
        with open_regular(path) as file:
            head, size = file.read(HEADER_END + 256), os.fstat(file.fileno()).st_size
            file.seek(max(0, size + SUM.start))
            sum_now = file.read()[SUM].hex().encode()
    except (OSError, ValueError):
        return None
    found = PREDICTED.match(head, HEADER_END)
    if found is None or int(found[1]) != size or found[2] not in (None, sum_now):
        return None
    (length,) = struct.unpack_from('>I', head, HEADER_END)
    return head[found.start(3) : HEADER_END + 8 + length].decode('latin-1')


def fault_of_predictions(masks: Collection[Path]) -> str:
    """Return how many of the masks are predictions, see `prediction_of`; '' if none is."""
    count = sum(prediction_of(mask) is not None for mask in masks)
    if not count:
        return ''
    of = f'{count} of {counted(len(masks), "mask")}'
    are = 'is a prediction' if count == 1 else 'are predictions'
    return f'{of} {are} of a network itself, not corrected by hand: figures from them mean nothing'


def foreign_color(path: Path | str, label: Pixels, labels: LabelSet) -> str | None:
    """Return what is wrong if a palette PNG shows an id in the colour of another class; else None.

    What reduces colours (pngquant, "indexed" in a paint program) gives them new ids, in an order of its own.

    Args:
        path: of the file.
        label: what `read_label_png` read from it.
        labels: the classes of the ids.

    Raises:
        OSError: the file cannot be read.
    """
    with Image.open(path, formats=('PNG',)) as image:
        palette = image.palette.getdata()[1] if image.palette else b''
    shown = list(zip(palette[::3], palette[1::3], palette[2::3]))
    for index, (name, own, color) in enumerate(zip(labels.names, labels.colors, shown)):
        foreign = color in labels.colors and color not in (own, UNUSED_COLOR)
        if foreign and (label == index).any():
            other = labels.names[labels.colors.index(color)]
            return (
                f'id {index} ({name!r}) has the colour of {other!r} in the palette: ids count, not colours; '
                'convert it with lw_refinenet label --from-masks, or correct classes.yaml'
            )
    return None


def write_label_png(
    path: Path | str, label: Pixels, labels: LabelSet | None = None, *, predicted: str | None = None
) -> None:
    """Write class ids as an 8-bit PNG; the file appears whole or not at all.

    Args:
        path: of the file.
        label: uint8 (H, W) class ids.
        labels: of a palette PNG, which shows the classes in their colours and is edited by index; None
            writes a greyscale PNG.
        predicted: name of the classes, if a network predicted them: the file tells `prediction_of`.

    Raises:
        ValueError: the label is of another shape or type, or empty.
        OSError: the file cannot be written.
    """
    if label.dtype != np.uint8 or label.ndim != 2:
        raise ValueError(f'label is {label.dtype} {label.shape}: it must be uint8 (H, W)')
    if not label.size:
        raise ValueError(f'label of shape {label.shape} has no pixels')
    image = Image.fromarray(label)
    if labels is not None:
        palette = labels.palette.copy()
        palette[UNLABELLED] = UNLABELLED_COLOR
        image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, 'png', compress_type=zlib.Z_RLE)  # of runs: as fast as OpenCV, and half the size
    content = buffer.getvalue()
    if predicted is not None:
        content = _marked(content, predicted[:LONGEST_NAME])
    write_bytes(path, content)


def _marked(content: bytes, of: str) -> bytes:
    """Return a PNG with the text of a prediction behind its header."""
    about = {'sum': content[SUM].hex(), 'of': of}
    without_size = PREDICTION.format(size=0, **about).encode('latin-1', 'replace')
    size = len(content) + 12 + len(without_size)
    chunk = b'tEXt' + PREDICTION.format(size=size, **about).encode('latin-1', 'replace')
    chunk = struct.pack('>I', len(chunk) - 4) + chunk + struct.pack('>I', zlib.crc32(chunk))
    return content[:HEADER_END] + chunk + content[HEADER_END:]
