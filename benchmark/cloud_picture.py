# SPDX-License-Identifier: Apache-2.0
"""A picture of a labelled cloud: a rendered street with its depth, segmented, seen from above the camera.

`python -m benchmark.cloud_picture FILE` labels the points by the functions behind the node's `~/points`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.image.point_cloud import Pinhole, project
from lw_refinenet_ros.labels import LabelSet

CAMERA = Pinhole(480, 640, 520.0, 520.0, 319.5, 219.5)
EYE = Pinhole(520, 1280, 800.0, 800.0, 690.0, 190.0)  # that sees the cloud
EYE_AT, EYE_PITCH, EYE_YAW = (-1.6, -2.6, 0.6), 0.2, 0.06  # metres and radians, from the camera
HEIGHT_M = 1.5  # of the camera above the road
FARTHEST_M = 40.0
SUN = np.array([0.45, -0.8, -0.4])
GREY, BRICK, GREEN, BROWN = (105, 105, 108), (150, 92, 76), (62, 104, 38), (92, 74, 58)


class Scene:
    """Boxes and ellipsoids (centre and half axes in metres, x right, y down, z ahead), and their colours."""

    def __init__(self) -> None:
        self.shapes: list[tuple[bool, np.ndarray, np.ndarray]] = []
        self.colors: list[tuple[int, int, int]] = []
        self.looks: list[str] = []

    def add(self, color, x, up, z, width, height, length, *, round_: bool = False, look: str = '') -> None:
        """Add a shape of a size in metres whose lowest point is `up` above the road."""
        half = np.array([width, height, length]) / 2
        self.shapes.append((round_, np.array([x, HEIGHT_M - up - half[1], z]), half))
        self.colors.append(color)
        self.looks.append(look)

    def cast(self, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the distance of the nearest shape, in lengths of each ray (3, N), and its index or -1."""
        nearest, which = np.full(rays.shape[1], np.inf), np.full(rays.shape[1], -1)
        for index, (is_round, centre, half) in enumerate(self.shapes):
            start, ray = (origin - centre[:, None]) / half[:, None], rays / half[:, None]
            if is_round:
                a, b, c = (ray**2).sum(0), (start * ray).sum(0), (start**2).sum(0) - 1
                root = b * b - a * c
                t = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
            else:
                with np.errstate(divide='ignore', invalid='ignore'):
                    near, far = np.sort([(-1 - start) / ray, (1 - start) / ray], axis=0)
                t = np.where(near.max(0) < far.min(0), near.max(0), np.inf)
            hit = (t > 1e-3) & (t < nearest)
            nearest[hit], which[hit] = t[hit], index
        return nearest, which

    def normal(self, points: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return the normals of points (3, N) on shapes."""
        normals = np.zeros_like(points)
        for index, (is_round, centre, half) in enumerate(self.shapes):
            on = which == index
            inside = (points[:, on] - centre[:, None]) / half[:, None]
            side = np.abs(inside) == np.abs(inside).max(0)
            normals[:, on] = inside / half[:, None] if is_round else np.where(side, np.sign(inside), 0)
        return normals / np.maximum(np.linalg.norm(normals, axis=0), 1e-9)


def street(random: np.random.Generator) -> Scene:
    """Return a street with houses, cars, trees, lamps and people."""
    scene = Scene()
    scene.add(GREY, 0, -1, 60, 9, 1, 140, look='road')
    for side in (-1, 1):
        scene.add((158, 152, 146), side * 7.5, -0.9, 60, 6, 1.02, 140, look='slabs')
        for index in range(9):
            color = tuple(int(c) for c in np.array(BRICK) + random.integers(-22, 45, 3))
            scene.add(color, side * 15, 0, 8 + 12 * index, 10, random.uniform(9, 13), 12, look='house')
        for index in range(5):
            z = 13 + 8 * index + 3 * (side < 0)
            scene.add(BROWN, side * 6.2, 0, z, 0.35, 3.2, 0.35)
            for _ in range(16):
                x, up, along = random.normal(0, (0.8, 0.6, 0.8))
                size = random.uniform(0.9, 1.5)
                scene.add(GREEN, side * 6.2 + x, 3.6 + up, z + along, *[size] * 3, round_=True, look='leaves')
        for index in range(4):
            scene.add((96, 98, 100), side * 5, 0, 6.5 + 13 * index, 0.16, 5.5, 0.16)
            scene.add((96, 98, 100), side * 4.5, 5.4, 6.5 + 13 * index, 1.2, 0.12, 0.2)
    cars = ((3.3, 9.5, (150, 152, 158)), (3.3, 16, (62, 84, 128)), (3.3, 22.5, (112, 40, 44)))
    cars += ((-3.3, 14, (58, 62, 72)), (-3.3, 22, (150, 150, 152)), (-1.4, 31, (120, 34, 40)))
    for x, z, color in cars:
        scene.add(color, x, 0.28, z, 1.75, 0.62, 4.2)
        scene.add((46, 54, 64), x, 0.45, z + 0.3, 1.6, 1.02, 3.2, round_=True)
        scene.add(color, x, 1.36, z + 0.4, 1.25, 0.1, 1.5)
        for wheel in (-1.3, 1.3):
            for side in (-0.8, 0.8):
                scene.add((24, 24, 26), x + side, 0, z + wheel, 0.24, 0.62, 0.62, round_=True)
        scene.add((225, 205, 120), x, 0.55, z - 2.2, 0.5, 0.13, 0.05)
    for x, z, coat in ((-5.3, 9.5, (40, 52, 90)), (5.6, 12.5, (70, 60, 56)), (-6.4, 12, (110, 40, 46))):
        for leg in (-0.1, 0.1):
            scene.add((38, 40, 58), x + leg, 0.12, z + leg, 0.2, 0.85, 0.24, round_=True)
        scene.add(coat, x, 0.8, z, 0.48, 0.75, 0.32, round_=True)
        for arm in (-0.26, 0.26):
            scene.add(coat, x + arm, 0.75, z, 0.14, 0.7, 0.18, round_=True)
        scene.add((196, 150, 126), x, 1.5, z, 0.22, 0.28, 0.24, round_=True)
    return scene


def paint(scene: Scene, points: np.ndarray, which: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the colours of points (3, N) on shapes in full light, float (N, 3)."""
    colors = np.array(scene.colors, float)[which]
    looks = np.array(scene.looks)[which]
    x, y, z = points
    up = HEIGHT_M - y
    rough = noise[(z * 17).astype(int) % len(noise), ((x + 0.7 * y) * 17).astype(int) % len(noise)]
    colors *= (1 + np.where(looks == 'leaves', 0.9, 0.22) * rough)[:, None]
    line = (np.abs(x) < 0.07) & (z % 6 < 2.5) | (np.abs(np.abs(x) - 4.3) < 0.05)
    colors[(looks == 'road') & line] = 225
    colors[(looks == 'slabs') & ((z % 0.9 < 0.04) | (x % 0.9 < 0.04))] *= 0.85
    column, floor = z % 2.4, up % 3.0
    wall = (looks == 'house') & (up > 0.4)
    frame = wall & (np.abs(column - 1.2) < 0.62) & (np.abs(floor - 1.6) < 0.92)
    pane = frame & (np.abs(column - 1.2) < 0.52) & (np.abs(floor - 1.6) < 0.82)
    colors[frame], colors[pane] = (205, 200, 190), (52, 60, 72)
    return colors


def render(scene: Scene, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return what the camera sees, uint8 (H, W, 3) RGB, and the depth, float32 (H, W), NaN beyond sight."""
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].reshape(2, -1)
    rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(u.size)])
    depth, which = scene.cast(np.zeros((3, 1)), rays)  # z of a ray is 1
    noise = cv2.GaussianBlur(random.normal(0, 1, (512, 512)), (0, 0), 1.1)
    clouds = cv2.resize(cv2.GaussianBlur(random.normal(0, 1, (60, 80)), (0, 0), 6), (640, 480)) * 120
    down = v / CAMERA.height
    sky = np.stack([120 + 120 * down, 150 + 110 * down, 190 + 60 * down], 1) + clouds.reshape(-1, 1)
    seen = which >= 0
    points = rays[:, seen] * depth[seen]
    normal, sun = scene.normal(points, which[seen]), SUN / np.linalg.norm(SUN)
    blocked, _ = scene.cast(points + 2e-3 * normal, np.broadcast_to(sun[:, None], points.shape))
    light = 0.5 + 0.12 * -normal[1] + 0.62 * np.maximum(sun @ normal, 0) * np.isinf(blocked)
    haze = np.exp(-depth[seen] / 160)[:, None]
    sky[seen] = paint(scene, points, which[seen], noise) * light[:, None] * haze + 190 * (1 - haze)
    image = np.clip(sky.reshape(CAMERA.height, CAMERA.width, 3), 0, 255)
    image = cv2.GaussianBlur(image, (3, 3), 0.7) + random.normal(0, 2, image.shape)
    far = np.where(depth < FARTHEST_M, depth, np.nan).astype(np.float32).reshape(image.shape[:2])
    return np.clip(image, 0, 255).astype(np.uint8), far


def look(xyz: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Draw points (3, N) of colours (N, 3) as `EYE` sees them, uint8 (H, W, 3) on white."""
    (sp, cp), (sy, cy) = ((np.sin(a), np.cos(a)) for a in (EYE_PITCH, EYE_YAW))
    turn = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    x, y, z = turn @ (xyz - np.array(EYE_AT)[:, None])
    # The sides of a point are three times those of the pixel that it was.
    half = 1.5 * EYE.fx / CAMERA.fx * xyz[2] / np.maximum(z, 0.1)
    picture = np.full((EYE.height * EYE.width, 3), 24, np.uint8)
    nearest = np.full(EYE.height * EYE.width, np.inf)
    for paints in (False, True):  # when the nearest point of every pixel is known
        for down, right in np.ndindex(9, 9):
            u = np.rint(EYE.fx * x / z + EYE.cx).astype(int) + right - 4
            v = np.rint(EYE.fy * y / z + EYE.cy).astype(int) + down - 4
            drawn = (z > 0.5) & (max(abs(down - 4), abs(right - 4)) <= half)
            drawn &= (u >= 0) & (u < EYE.width) & (v >= 0) & (v < EYE.height)
            at = v[drawn] * EYE.width + u[drawn]
            if paints:
                front = z[drawn] <= nearest[at]
                picture[at[front]] = colors[drawn][front]
            else:
                np.minimum.at(nearest, at, z[drawn])
    return picture.reshape(EYE.height, EYE.width, 3)


def legend(labels: LabelSet, present: np.ndarray) -> np.ndarray:
    """Return the names of classes beside their colours, uint8 (40, W, 3)."""
    strip, x = np.full((40, EYE.width, 3), 255, np.uint8), 8
    for index in present:
        cv2.rectangle(strip, (x, 10), (x + 20, 30), labels.colors[index], cv2.FILLED)
        name = labels.names[index]
        cv2.putText(strip, name, (x + 28, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (40,) * 3, 1, cv2.LINE_AA)
        x += 52 + cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)[0][0]
    return strip


def draw(path: Path) -> None:
    """Render, segment, project; write the cloud beside the image that it was labelled from."""
    random = np.random.default_rng(4)
    image, depth = render(street(random), random)
    result = Segmenter.load('camvid', precision='fp32').segment(image)
    xyz = np.empty((3, *depth.shape), np.float32)
    project(depth, CAMERA, xyz)
    known = np.isfinite(depth)
    picture = look(xyz[:, known], result.overlay(0.65)[known])
    small = cv2.resize(image, None, fx=0.42, fy=0.42, interpolation=cv2.INTER_AREA)
    picture[-small.shape[0] :, : small.shape[1]] = small
    ids, counts = np.unique(result.label[known], return_counts=True)
    strip = legend(result.labels, ids[counts > 300])
    cv2.imwrite(str(path), np.vstack([picture, strip])[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


if __name__ == '__main__':
    draw(Path(sys.argv[1]))
