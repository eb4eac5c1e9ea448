# SPDX-License-Identifier: Apache-2.0
"""Pixel encodings: the bytes of a frame as an RGB or BGR image."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.image.frame import Frame, FrameError, Pixels
from lw_refinenet_ros.limits import MAX_PIXELS, MAX_SIDE

__all__ = [
    'ENCODINGS',
    'ORDERS',
    'Order',
    'ColorImage',
    'color_image',
    'fault_of_brightness',
    'rgb',
    'to_rgb',
]

Order = Literal['rgb', 'bgr']
ORDERS: tuple[Order, ...] = get_args(Order)


class ColorImage(NamedTuple):
    """An image and the order of its channels."""

    array: Pixels  # (H, W, 3), of any strides, possibly read-only
    order: Order


class Encoding(NamedTuple):
    """How the bytes of one encoding are laid out, and how they become colours."""

    channels: int  # of one element of a row
    order: Order = 'rgb'
    conversion: int | None = None  # OpenCV's, to RGB; None: the pixels are taken as they lie
    depth: int = 8  # bits of a channel
    even: tuple[int, int] = (1, 1)  # what height and width must be multiples of
    planes: tuple[int, int] = (1, 1)  # rows of data per row of pixels, as a fraction
    cv_bridge: str = ''  # what cv_bridge calls it; empty: it does not know it


ALMOST_BLACK = 32  # of 255; of 12 bits saved as 16, values are below 16
ROWS = 3  # of 16 bits that are scaled at a time

_UYVY = Encoding(2, conversion=cv2.COLOR_YUV2RGB_UYVY, even=(1, 2), cv_bridge='yuv422')
_YUYV = Encoding(2, conversion=cv2.COLOR_YUV2RGB_YUY2, even=(1, 2), cv_bridge='yuv422_yuy2')
_GRAY = Encoding(1, conversion=cv2.COLOR_GRAY2RGB, cv_bridge='mono8')

ENCODINGS = {
    'rgb8': Encoding(3),
    'bgr8': Encoding(3, 'bgr'),
    '8UC3': Encoding(3, 'bgr'),
    'rgba8': Encoding(4),
    'bgra8': Encoding(4, 'bgr'),
    '8UC4': Encoding(4, 'bgr'),
    'mono8': _GRAY,
    '8UC1': _GRAY,
    'mono16': _GRAY._replace(depth=16, cv_bridge='mono16'),
    'yuv422': _UYVY,
    'uyvy': _UYVY,
    'yuv422_yuy2': _YUYV,
    'yuyv': _YUYV,
    'nv12': Encoding(1, conversion=cv2.COLOR_YUV2RGB_NV12, even=(2, 2), planes=(3, 2)),
    'nv21': Encoding(1, conversion=cv2.COLOR_YUV2RGB_NV21, even=(2, 2), planes=(3, 2)),
    'nv24': _UYVY._replace(channels=1, even=(1, 1), planes=(3, 1), cv_bridge=''),  # once it is packed so
    # OpenCV names a mosaic by its second row's second and third pixel, ROS by its first four.
    'bayer_rggb8': Encoding(1, conversion=cv2.COLOR_BayerBG2RGB, cv_bridge='bayer_rggb8'),
    'bayer_bggr8': Encoding(1, conversion=cv2.COLOR_BayerRG2RGB, cv_bridge='bayer_bggr8'),
    'bayer_gbrg8': Encoding(1, conversion=cv2.COLOR_BayerGR2RGB, cv_bridge='bayer_gbrg8'),
    'bayer_grbg8': Encoding(1, conversion=cv2.COLOR_BayerGB2RGB, cv_bridge='bayer_grbg8'),
}
ENCODINGS |= {
    f'{name[:-1]}16': ENCODINGS[name]._replace(depth=16, cv_bridge=f'{name[:-1]}16')
    for name in ('rgb8', 'bgr8', 'rgba8', 'bgra8', 'bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8')
}


def color_image(frame: Frame) -> ColorImage:
    """Return a frame as a colour image, whatever its `step`.

    Eight-bit RGB and BGR, with or without alpha, are views of the frame's bytes. Other encodings are
    converted, then 16 bits scaled to 8 by 255 / 65535: by cv_bridge where it is installed and knows them, by
    OpenCV elsewhere.

    Raises:
        FrameError: 'encoding' (unknown), 'size' (none, too large, or odd where it cannot be), 'step'
            (smaller than a row) or 'length' (fewer bytes than the rows need).
    """
    encoding = ENCODINGS.get(frame.encoding)
    if encoding is None:
        raise FrameError(
            f'encoding {frame.encoding[:32]!r} is not supported: use one of {", ".join(ENCODINGS)}',
            'encoding',
        )
    height, width = frame.height, frame.width
    possible = 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS
    if not possible or height % encoding.even[0] or width % encoding.even[1]:
        raise FrameError(
            f'{frame.encoding} of height {height} and width {width}: they must be positive multiples of '
            f'{encoding.even[0]} and {encoding.even[1]}, at most {MAX_SIDE}, and {MAX_PIXELS} pixels in all',
            'size',
        )
    row = width * encoding.channels * encoding.depth // 8
    if frame.step < row:
        raise FrameError(
            f'step {frame.step} is smaller than a row of {frame.encoding}: width {width} needs {row} bytes',
            'step',
        )
    rows = height * encoding.planes[0] // encoding.planes[1]
    if frame.data.size < frame.step * rows:
        raise FrameError(
            f'{frame.data.size} bytes of data are fewer than {rows} rows of step {frame.step}: send all',
            'length',
        )

    raw = _pack_nv24(frame) if frame.encoding == 'nv24' else _view(frame, encoding, rows)
    convert = _cv_bridge() if encoding.cv_bridge else None
    if convert is not None:
        raw = np.ascontiguousarray(raw, raw.dtype.newbyteorder('='))
        colors = convert(raw, encoding.cv_bridge, 'rgb8')
        return ColorImage(cast('Pixels', colors), 'rgb')
    mosaic = encoding.depth == 16 and frame.encoding.startswith('bayer')
    if mosaic:  # interpolated in 16 bits, and scaled then
        raw = raw.astype(np.uint16)
    elif encoding.depth == 16:
        raw = _eight_bits(raw[..., :3])
    if encoding.conversion is not None:
        raw = cv2.cvtColor(raw, encoding.conversion)
    if mosaic:
        raw = _eight_bits(raw)
    if frame.encoding == 'nv24':
        raw = raw[:, ::2]
    return ColorImage(cast('Pixels', raw[..., :3]), encoding.order)


def fault_of_brightness(brightest: int) -> str:
    """Return what is probably amiss where no value of some images is greater, 0 to 255; '' if nothing is."""
    if brightest >= ALMOST_BLACK:
        return ''
    return (
        f'no image has a value above {brightest} of 255: of 16 bits the upper 8 are read, so scale 10- and '
        '12-bit images first'
    )


def _view(frame: Frame, encoding: Encoding, rows: int) -> npt.NDArray[Any]:
    """View a frame's bytes as (rows, W, C) of their own byte order."""
    itemsize = encoding.depth // 8
    dtype = f'{">" if frame.is_bigendian else "<"}u{itemsize}'
    strides = (frame.step, encoding.channels * itemsize, itemsize)
    return np.ndarray((rows, frame.width, encoding.channels), dtype, frame.data, strides=strides)


def _eight_bits(words: npt.NDArray[Any]) -> Pixels:
    """Scale 16 bits to 8 by 255 / 65535, some rows at a time: in between there is no image of 16 bits."""
    out = np.empty(words.shape, np.uint8)
    for first in range(0, len(words), ROWS):
        rows = slice(first, first + ROWS)
        cv2.convertScaleAbs(words[rows].astype(np.uint16), out[rows], 255 / 65535)
    return out


def _pack_nv24(frame: Frame) -> Pixels:
    """Pack NV24 as UYVY of twice the width, each pixel's colour with its brightness twice: (H, 2 W, 2).

    The colours' rows are twice as long as the brightness', and so is their step.
    """
    height, width, step = frame.height, frame.width, frame.step
    packed = np.empty((height, width, 2, 2), np.uint8)
    packed[..., 0] = np.ndarray((height, width, 2), np.uint8, frame.data, step * height, (2 * step, 2, 1))
    packed[..., 1] = np.ndarray((height, width, 1), np.uint8, frame.data, strides=(step, 1, 1))
    return packed.reshape(height, 2 * width, 2)


@functools.cache
def _cv_bridge() -> Callable[[npt.NDArray[Any], str, str], object] | None:
    """Return cv_bridge's conversion of arrays, None where it is not installed or does not work.

    Not `CvBridge.imgmsg_to_cv2`: it takes a step that is no multiple of a pixel's bytes for another width.
    """
    package = importlib.util.find_spec('cv_bridge')
    if package is None:
        return None
    places = map(Path, package.submodule_search_locations or ())
    binaries = [file.read_bytes() for place in places for file in place.glob('boost/cv_bridge_boost*.so')]
    try:
        # What was built for NumPy 1 does not know numpy._core; under NumPy 2 its first call ends the process.
        if int(np.__version__.split('.')[0]) >= 2 and not all(b'numpy._core' in code for code in binaries):
            raise ImportError(f'it was built for NumPy 1, this is {np.__version__}')
        from cv_bridge.boost.cv_bridge_boost import cvtColor2
    except Exception as error:
        msg = f'cv_bridge does not load ({error}), OpenCV converts: install it for this Python and NumPy'
        warnings.warn(msg, stacklevel=2)
        return None
    return cast('Callable[[npt.NDArray[Any], str, str], object]', cvtColor2)


def to_rgb(image: ColorImage) -> Pixels:
    """Convert an image to uint8 (H, W, 3) RGB, C-contiguous; one that is so already is not copied."""
    array, swap = image.array, image.order == 'bgr'
    if array.strides[1:] == (4, 1) and array.strides[0] >= 4 * array.shape[1]:
        # Three channels of four: OpenCV drops the fourth 20 times faster than NumPy copies. The last row is
        # left to NumPy, as its last pixel may have no fourth byte.
        out = np.empty(array.shape, np.uint8)
        whole = np.lib.stride_tricks.as_strided(array, (*array.shape[:2], 4), array.strides, writeable=False)
        if len(array) > 1:
            cv2.cvtColor(whole[:-1], cv2.COLOR_BGRA2RGB if swap else cv2.COLOR_RGBA2RGB, dst=out[:-1])
        out[-1] = array[-1, :, ::-1] if swap else array[-1]
        return out
    if swap:
        return cast('Pixels', cv2.cvtColor(array, cv2.COLOR_BGR2RGB))
    return np.ascontiguousarray(array)


def rgb(frame: Frame) -> Pixels:
    """Convert a frame to uint8 (H, W, 3) RGB, C-contiguous.

    Tight rgb8 is a view of the frame's bytes. Raises `FrameError` as `color_image` does.
    """
    return to_rgb(color_image(frame))
