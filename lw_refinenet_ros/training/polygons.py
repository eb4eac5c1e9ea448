# SPDX-License-Identifier: Apache-2.0
"""Convert masks to polygons for labelling tools and back, with shapely and pycocotools.

A pixel is the square between its corners, as in COCO and labelme: the top left pixel spans
(0, 0) to (1, 1). Unsimplified outlines run along the corners, and painting them restores the mask.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from shapely import Polygon

__all__ = ['Mask', 'Region', 'encode', 'find_regions', 'inside', 'require_polygon_libraries', 'without_holes']

Mask = NDArray[np.uint8]


class Region(NamedTuple):
    """A connected region of one class."""

    class_id: int
    polygon: Polygon  # with holes for the regions inside


def require_polygon_libraries() -> None:
    """Check, before the work begins, that the polygon libraries are installed.

    Raises:
        ValueError: shapely or pycocotools is not installed.
    """
    missing = [name for name in ('shapely', 'pycocotools') if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"polygons need {' and '.join(missing)}: pip install 'shapely>=2.1' pycocotools")


def find_regions(label: Mask, tolerance: float) -> list[Region]:
    """Split a mask into regions, largest first, which together cover it without gaps or overlaps.

    Args:
        label: uint8 (H, W) class ids; 255 forms regions as well.
        tolerance: shared outlines are simplified consistently by removing corners (Visvalingam and
            Whyatt, 1993) whose triangle with their neighbours is at most `tolerance` squared in area;
            in pixels; 0 keeps all.
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
    # By the area with holes filled, so that regions in a hole come later
    order = np.argsort(-shapely.area(shapely.polygons(shapely.get_exterior_ring(simplified))), kind='stable')
    return [Region(int(label[y[i], x[i]]), simplified[i]) for i in order]


def without_holes(polygon: Polygon) -> list[Polygon]:
    """Cut a polygon vertically through each hole, for formats without holes."""
    from shapely import LineString
    from shapely.ops import split

    if not polygon.interiors:
        return [polygon]
    x = polygon.interiors[0].centroid.x
    _, top, _, bottom = polygon.bounds
    pieces = split(polygon, LineString([(x, top - 1), (x, bottom + 1)]))
    return [part for piece in pieces.geoms for part in without_holes(piece)]


def inside(rings: Sequence[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels inside any of the polygons, float64 (N, 2) of x and y, as bool (height, width).

    Points may lie outside the image; time and memory depend on the image's size only.
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
    """Encode the pixels inside any of the polygons [x, y, x, y, ...] as COCO run lengths."""
    from pycocotools import mask

    code: dict[str, Any] = mask.merge(mask.frPyObjects([list(ring) for ring in rings], *size))
    return code
