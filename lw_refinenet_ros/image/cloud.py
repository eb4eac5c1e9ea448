# SPDX-License-Identifier: Apache-2.0
"""Point clouds, from the bytes of a serialized sensor_msgs/PointCloud2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.image.frame import CdrReader

__all__ = ['Cloud', 'copy_xyz', 'parse_cloud']

FLOATS = {7: 'f4', 8: 'f8'}  # by PointField.datatype
XYZ_BYTES = 12  # the least of a point
MAX_FIELDS = 64
BLOCK = 1 << 14  # points


@dataclass(frozen=True, eq=False)
class Cloud:
    """The coordinates of a sensor_msgs/PointCloud2.

    Attributes:
        stamp_ns, frame_id: of its header.
        xyz: float32 or float64 (3, height, width) of either byte order; a view of the message where x, y and
            z are of one type and at equal distances.
    """

    stamp_ns: int
    frame_id: str
    xyz: npt.NDArray[Any]


def parse_cloud(cdr: bytes | memoryview) -> Cloud:
    """View the coordinates of a serialized sensor_msgs/PointCloud2.

    Raises:
        FrameError: 'truncated', 'encapsulation' or 'stamp', as of an image.
        ValueError: it has no points, no x, y and z of 32 or 64 bits, or less data than its steps need.
    """
    reader = CdrReader(cdr)
    stamp_ns, frame_id = reader.header()
    height, width, count = reader.u32('height'), reader.u32('width'), reader.u32('fields')
    if count > MAX_FIELDS:
        raise ValueError(f'the cloud has {count} fields, more than {MAX_FIELDS}: the message is damaged')
    fields = {}
    for _ in range(count):
        name, offset = reader.string('fields'), reader.u32('fields')
        fields[name] = int(reader.take(1, 'fields')[0]), offset
        reader.u32('fields')  # how many of them
    order = '>' if reader.take(1, 'is_bigendian')[0] else '<'
    step, row_step, data = reader.u32('point_step'), reader.u32('row_step'), reader.sequence('data')
    if not 0 < height * width * XYZ_BYTES <= data.size:
        raise ValueError(  # before memory is taken
            f'the cloud is {width}x{height} points in {data.size} bytes of data: '
            'x, y and z of each are needed'
        )
    axes = [fields.get(axis, (0, 0)) for axis in 'xyz']
    if not all(kind in FLOATS for kind, _ in axes):
        raise ValueError(f'the cloud has fields {", ".join(fields)}: x, y and z of 32 or 64 bits are needed')
    row_step = row_step or step * width
    (kind, x), (_, y), (_, z) = axes
    size = max(offset + np.dtype(FLOATS[kind]).itemsize for kind, offset in axes)
    if size + (height - 1) * row_step + (width - 1) * step > data.size:
        raise ValueError(f'the cloud has {data.size} bytes of data, its steps need more: send whole rows')

    def view(kind: int, offset: int, shape: tuple[int, ...], *strides: int) -> npt.NDArray[Any]:
        strides = (*strides, row_step, step)
        return np.ndarray((*shape, height, width), order + FLOATS[kind], data.data, offset, strides)

    if len({kind for kind, _ in axes}) == 1 and z - y == y - x:
        return Cloud(stamp_ns, frame_id, view(kind, x, (3,), y - x))
    return Cloud(stamp_ns, frame_id, np.stack([view(*axis, ()) for axis in axes]))


@np.errstate(invalid='ignore', over='ignore')
def copy_xyz(cloud: Cloud, xyz: npt.NDArray[np.float32]) -> None:
    """Copy the coordinates into float32 (3, height, width).

    Points that are not finite become NaN, and so do those at the origin: in organised clouds of RealSense and
    Orbbec, that is where nothing was measured.
    """
    height, width = xyz.shape[1:]
    rows = max(1, BLOCK // width)
    for top in range(0, height, rows):  # which stay in the cache between the passes
        part = xyz[:, top : top + rows]
        part[...] = cloud.xyz[:, top : top + rows]
        unknown = part[0] + part[1]
        unknown += part[2]
        unknown -= unknown  # 0, or NaN
        if not part[2].all():
            np.copyto(unknown, np.nan, where=(part[0] == 0) & (part[1] == 0) & (part[2] == 0))
        part += unknown
