# SPDX-License-Identifier: Apache-2.0
"""Classes and their colours; label images in colour, over an image, and as PNG files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.bounded_yaml import read_yaml
from lw_refinenet_ros.files import write_atomically
from lw_refinenet_ros.image.encodings import Order, Pixels, to_rgb
from lw_refinenet_ros.one_line import one_line

__all__ = ['UNLABELLED', 'LabelSet', 'find_classes', 'read_label_png', 'write_label_png']

UNLABELLED = 255  # the id of a pixel without a class
LONGEST_NAME = 100  # characters

_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'


@dataclass(frozen=True)
class LabelSet:
    """The classes of a network: the id of a class is its index.

    Args:
        name: of the set.
        names: 1 to 255 different class names.
        colors: of each class, (red, green, blue), 0 to 255.

    Raises:
        ValueError: one of these is not so.

    """

    name: str
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        names: tuple[Any, ...] = (self.name, *self.names)  # as files say them
        for name in names:
            if not isinstance(name, str):
                kind = type(name).__name__
                msg = f'the name of a label set or class is of type {kind}: write text, in quotes if need be'
                raise ValueError(msg)
            if not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
                msg = (
                    f'the name {one_line(repr(name))} of a label set or class must be '
                    f'1 to {LONGEST_NAME} printable characters'
                )
                raise ValueError(msg)
        if not 1 <= len(self.names) <= UNLABELLED:
            msg = f'label set {self.name!r} has {len(self.names)} classes: it needs 1 to {UNLABELLED}'
            raise ValueError(msg)
        if len(self.colors) != len(self.names):
            msg = f'label set {self.name!r} has {len(self.names)} names but {len(self.colors)} colours'
            raise ValueError(msg)
        if repeated := sorted({name for name in self.names if self.names.count(name) > 1}):
            msg = f'label set {self.name!r} names {", ".join(map(repr, repeated))} more than once'
            raise ValueError(msg)
        for name, color in zip(self.names, self.colors):
            if len(color) != 3 or not all(type(value) is int and 0 <= value <= 255 for value in color):
                msg = f'the colour of class {name!r} must be three integers from 0 to 255: red, green, blue'
                raise ValueError(msg)

    @classmethod
    def from_yaml(cls, path: Path | str) -> LabelSet:
        """Read a YAML file in the format of `from_dict`.

        Raises:
            ValueError: it is not YAML that `read_yaml` takes, or not such a mapping; the message names it.
            OSError: it cannot be read.

        """
        mapping = read_yaml(path)
        try:
            return cls.from_dict(mapping)
        except ValueError as error:
            msg = f'{path}: {error}'
            raise ValueError(msg) from error

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> LabelSet:
        """Build from `{name, ignore: 255, classes: [{name, color: [r, g, b]}, ...]}`.

        Raises:
            ValueError: something is missing or of another type.

        """
        classes = mapping.get('classes') if isinstance(mapping, Mapping) else None
        if not isinstance(classes, list) or len(classes) > UNLABELLED:
            msg = f'expected name, ignore and classes, a list of 1 to {UNLABELLED} of {{name, color}}'
            raise ValueError(msg)
        ignore = mapping.get('ignore', UNLABELLED)
        if ignore != UNLABELLED:
            msg = f'the ignored id must be {UNLABELLED}'
            raise ValueError(msg)
        for index, entry in enumerate(classes):
            if not (isinstance(entry, Mapping) and isinstance(entry.get('color'), list | tuple)):
                msg = f'class {index} must be {{name, color: [red, green, blue]}}'
                raise ValueError(msg)
        return cls(
            mapping.get('name', ''),
            tuple(entry.get('name', '') for entry in classes),
            tuple(tuple(entry['color']) for entry in classes),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give what `from_dict` takes, of plain lists, strings and integers."""
        classes = [{'name': name, 'color': list(color)} for name, color in zip(self.names, self.colors)]
        return {'name': self.name, 'ignore': UNLABELLED, 'classes': classes}

    @cached_property
    def palette(self) -> npt.NDArray[np.uint8]:
        """The colour of every id, uint8 (256, 3) RGB; ids without a class are black."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self.colors)] = self.colors
        palette.setflags(write=False)
        return palette

    def color(
        self, label: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Paint every pixel in the colour of its class.

        Args:
            label: uint8 (H, W) class ids.
            out: uint8 (H, W, 3), C-contiguous, to write the result into.

        Returns:
            uint8 (H, W, 3) RGB; `out` if it was given.

        Raises:
            ValueError: an array is of another shape or type.

        """
        _check('label', label, label.shape[:2])
        out = _result(out, label)
        cv2.applyColorMap(label, self.palette.reshape(256, 1, 3), dst=out)  # twice as fast as np.take
        return out

    def overlay(
        self,
        image: npt.NDArray[np.uint8],
        label: npt.NDArray[np.uint8],
        alpha: float = 0.5,
        classes: Collection[str] | None = None,
        order: Order = 'rgb',
        out: npt.NDArray[np.uint8] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Blend the classes' colours into an image: (1 - alpha) * image + alpha * color.

        Args:
            image: uint8 (H, W, 3), of any strides.
            label: uint8 (H, W) class ids; where an id has no class, the image stays.
            alpha: 0 (the image) to 1 (the colours).
            classes: names of the classes to paint, others leave the image as it is; None paints all.
            order: of the image's channels.
            out: uint8 (H, W, 3), C-contiguous, to write the result into; not the image's own memory.

        Returns:
            uint8 (H, W, 3) RGB; `out` if it was given.

        Raises:
            ValueError: alpha, a class name, or an array's shape or type is not as above.

        """
        if not 0 <= alpha <= 1:
            msg = f'alpha {alpha} must be from 0 to 1'
            raise ValueError(msg)
        _check('label', label, label.shape[:2])
        _check('image', image, (*label.shape, 3))
        left_out = self._left_out(classes)
        if order == 'bgr' or image.strides[1:] != (3, 1):
            image = to_rgb(Pixels(image, order))
        out = self.color(label, out)
        cv2.addWeighted(image, 1 - alpha, out, alpha, 0, dst=out)
        if left_out[: int(label.max(initial=0)) + 1].any():  # else no pixel has an id that is left out
            cv2.copyTo(image, cv2.LUT(label, left_out), out)
        return out

    def _left_out(self, classes: Collection[str] | None) -> npt.NDArray[np.uint8]:
        """Mark the ids that an overlay does not paint: uint8 (256,), 255 or 0."""
        marks = np.full(256, 255, np.uint8)
        if classes is None:
            marks[: len(self.names)] = 0
            return marks
        painted = set(classes)
        if unknown := sorted(painted.difference(self.names)):
            msg = f'no class {", ".join(map(repr, unknown))}: {self.name} has {", ".join(self.names)}'
            raise ValueError(msg)
        marks[[index for index, name in enumerate(self.names) if name in painted]] = 0
        return marks


def find_classes(folder: Path) -> Path | None:
    """Return the `classes.yaml` in a folder of images or masks, or in the one above it; None without one."""
    candidates = (folder / 'classes.yaml', folder.parent / 'classes.yaml')
    return next((path for path in candidates if path.is_file()), None)


def _check(what: str, array: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    """Refuse an array that is not uint8 of this shape."""
    if array.dtype != np.uint8 or array.shape != shape:
        msg = f'{what} is {array.dtype} {array.shape}: it must be uint8 {shape}'
        raise ValueError(msg)


def _result(out: npt.NDArray[np.uint8] | None, label: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Give the array to write colours into; OpenCV would leave one that does not fit untouched."""
    if out is None:
        return np.empty((*label.shape, 3), np.uint8)
    _check('out', out, (*label.shape, 3))
    if not (out.flags.c_contiguous and out.flags.writeable):
        msg = 'out must be writeable and C-contiguous'
        raise ValueError(msg)
    return out


def read_label_png(path: Path | str) -> npt.NDArray[np.uint8]:
    """Read class ids from a greyscale or palette PNG of up to 8 bits.

    OpenCV turns palette indices into colours and stretches 1, 2 and 4 bits to 8. So the file's pixels are
    decoded under a header that says greyscale, and unstretched.

    Returns:
        uint8 (H, W): palette indices, or grey values as they are stored.

    Raises:
        ValueError: the file is damaged, or has colours or 16 bits.
        OSError: it cannot be read.

    """
    content = Path(path).read_bytes()
    try:
        header, pixel_chunks = _png_chunks(content)
        depth, color_type = header[8:10]
        if color_type not in (0, 3) or depth > 8:
            msg = (
                f'PNG of colour type {color_type}, {depth} bits: save class ids, not RGB colours, as 8-bit '
                'greyscale or palette'
            )
            raise ValueError(msg)
        greyscale = _png_chunk(b'IHDR', header[:9] + b'\0' + header[10:])
        png = _PNG_SIGNATURE + greyscale + pixel_chunks + _png_chunk(b'IEND', b'')
        image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    except ValueError as error:
        msg = f'{path}: {error}'
        raise ValueError(msg) from error
    except cv2.error:
        image = None
    if image is None:
        msg = f'{path}: cannot decode the PNG'
        raise ValueError(msg)
    return cast('npt.NDArray[np.uint8]', image // (255 // ((1 << depth) - 1)))


def _png_chunks(content: bytes) -> tuple[bytes, bytes]:
    """Give the body of a PNG's header, and its chunks of pixels as they are; all else is left out."""
    if not content.startswith(_PNG_SIGNATURE):
        msg = 'not a PNG file: label images are 8-bit greyscale or palette PNGs'
        raise ValueError(msg)
    header, pixel_chunks = b'', []
    offset = len(_PNG_SIGNATURE)
    while (kind := content[offset + 4 : offset + 8]) != b'IEND':
        if len(kind) < 4:
            msg = f'truncated PNG: it ends after {len(content)} bytes'
            raise ValueError(msg)
        end = offset + 12 + int.from_bytes(content[offset : offset + 4], 'big')
        if kind in (b'IHDR', b'IDAT'):
            chunk = content[offset:end]
            if chunk != _png_chunk(kind, chunk[8:-4]):
                msg = f'damaged or truncated PNG at byte {offset}'
                raise ValueError(msg)
            if kind == b'IHDR':
                header = chunk[8:-4]
            else:
                pixel_chunks.append(chunk)
        offset = end
    if len(header) != 13:
        msg = 'PNG without a header'
        raise ValueError(msg)
    return header, b''.join(pixel_chunks)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    """Frame a chunk: length, kind, body, checksum."""
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


def write_label_png(path: Path | str, label: npt.NDArray[np.uint8]) -> None:
    """Write class ids, uint8 (H, W), as an 8-bit greyscale PNG; the file appears whole or not at all.

    Raises:
        ValueError: the label is of another shape or type, or empty.
        OSError: the file cannot be written.

    """
    _check('label', label, label.shape[:2])
    if not label.size:
        msg = f'label of shape {label.shape} has no pixels'
        raise ValueError(msg)
    png = cv2.imencode('.png', label)[1].tobytes()
    write_atomically(path, lambda file: file.write_bytes(png))
