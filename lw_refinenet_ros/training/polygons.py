# SPDX-License-Identifier: Apache-2.0
"""Masks as polygons that labelling tools edit, and polygons as masks; through shapely and pycocotools.

A pixel is the square between its corners, as COCO and labelme have it: the pixel at the top left spans
(0, 0) to (1, 1). Unsimplified outlines run along the corners, and painting them restores the mask.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely import Polygon

__all__ = ['Mask', 'Region', 'encode', 'find_regions', 'inside', 'require_polygon_libraries', 'without_holes']

Mask = NDArray[np.uint8]


class Region(NamedTuple):
    """Neighbouring pixels of one class."""

    class_id: int
    polygon: Polygon  # with holes where other regions lie within


def require_polygon_libraries() -> None:
    """Refuse before the work what would fail after it.

    Raises:
        ValueError: shapely or pycocotools is not installed.

    """
    missing = [name for name in ('shapely', 'pycocotools') if importlib.util.find_spec(name) is None]
    if missing:
        msg = f"polygons need {' and '.join(missing)}: pip install 'shapely>=2.1' pycocotools"
        raise ValueError(msg)


def find_regions(label: Mask, tolerance: float) -> list[Region]:
    """Cut a mask into regions, the largest first; together they cover it without gap or overlap.

    Args:
        label: uint8 (H, W) class ids; 255 makes regions too.
        tolerance: neighbouring outlines are simplified alike, by leaving out corners (Visvalingam and
            Whyatt, 1993) whose triangle with their neighbours is at most `tolerance` squared in area;
            in pixels, 0 keeps all.

    """
    import shapely

    padded = np.pad(label.astype(np.int16), 1, constant_values=-1)
    y, x = np.nonzero(padded[1:-1, :-1] != padded[1:-1, 1:])
    upright = np.stack([x, y, x, y + 1], 1)
    y, x = np.nonzero(padded[:-1, 1:-1] != padded[1:, 1:-1])
    level = np.stack([x, y, x + 1, y], 1)
    borders = shapely.linestrings(np.concatenate([upright, level]).reshape(-1, 2, 2).astype(float))
    faces = shapely.get_parts(shapely.polygonize(borders))
    x, y = shapely.get_coordinates(shapely.point_on_surface(faces)).astype(int).T
    simplified = shapely.coverage_simplify(faces, tolerance)
    # Of the area with the holes filled in, so that what lies in a hole comes after
    order = np.argsort(-shapely.area(shapely.polygons(shapely.get_exterior_ring(simplified))), kind='stable')
    return [Region(int(label[y[i], x[i]]), simplified[i]) for i in order]


def without_holes(polygon: Polygon) -> list[Polygon]:
    """Cut a polygon from top to bottom through each of its holes: formats without holes take the pieces."""
    from shapely import LineString
    from shapely.ops import split

    if not polygon.interiors:
        return [polygon]
    x = polygon.interiors[0].centroid.x
    _, top, _, bottom = polygon.bounds
    pieces = split(polygon, LineString([(x, top - 1), (x, bottom + 1)]))
    return [part for piece in pieces.geoms for part in without_holes(piece)]


def inside(rings: Sequence[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the pixels in any of the polygons, float64 (N, 2) of x and y: bool of `size`, (height, width).

    Points may be anywhere: time and memory depend on the image's size only.
    """
    from pycocotools import mask

    clipped = [_clip(ring, size) for ring in rings]
    codes = [ring.ravel().tolist() for ring in clipped if len(ring) >= 3]
    if not codes:
        return np.zeros(size, bool)
    marked: NDArray[np.bool_] = mask.decode(encode(codes, size)).astype(bool)
    return marked


def _clip(ring: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Clip a polygon to the image and a margin of its own size (Sutherland and Hodgman, 1974)."""
    for axis, length in enumerate(reversed(size)):
        for sign, limit in ((1, 2 * length), (-1, length)):
            beyond = sign * ring[:, axis] - limit
            if not (beyond > 0).any():
                continue
            points = []
            for index, end in enumerate(ring):
                start, before, after = ring[index - 1], beyond[index - 1], beyond[index]
                if (before > 0) != (after > 0):
                    points.append(start + (end - start) * (before / (before - after)))
                if after <= 0:
                    points.append(end)
            ring = np.array(points).reshape(-1, 2)
    return ring


def encode(rings: Sequence[Sequence[float]], size: tuple[int, int]) -> dict[str, Any]:
    """Encode the pixels in any of the polygons [x, y, x, y, ...] as COCO's run-length code."""
    from pycocotools import mask

    code: dict[str, Any] = mask.merge(mask.frPyObjects([list(ring) for ring in rings], *size))
    return code
