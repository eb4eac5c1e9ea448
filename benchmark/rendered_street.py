# SPDX-License-Identifier: Apache-2.0
"""A street by day and by night, rendered by ray casting, with its depth and true labels."""

from __future__ import annotations

import cv2
import numpy as np

from lw_refinenet_ros.cli.options import label_set
from lw_refinenet_ros.image.point_cloud import Pinhole

CAMERA = Pinhole(480, 640, 520.0, 520.0, 319.5, 219.5)
HEIGHT_M = 1.5  # of the camera above the road
FARTHEST_M = 40.0  # of the depth
CLASSES = label_set(None).names
SUN = np.array([0.45, -0.8, -0.4])
GREY, BRICK, GREEN, BROWN = (105, 105, 108), (150, 92, 76), (62, 104, 38), (92, 74, 58)
STEEL = (96, 98, 100)


class Scene:
    """Boxes and ellipsoids (centre and half axes in metres, x right, y down, z ahead), colours, classes."""

    def __init__(self) -> None:
        self.shapes: list[tuple[bool, np.ndarray, np.ndarray]] = []
        self.colors: list[tuple[int, int, int]] = []
        self.names: list[str] = []

    def add(self, name, color, x, up, z, width, height, length, *, round_: bool = False) -> None:
        """Add a shape of a class and a size in metres whose lowest point is `up` above the road."""
        half = np.array([width, height, length]) / 2
        self.shapes.append((round_, np.array([x, HEIGHT_M - up - half[1], z]), half))
        self.colors.append(color)
        self.names.append(name)

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
    scene.add('road', GREY, 0, -1, 60, 9, 1, 140)
    for side in (-1, 1):
        scene.add('pavement', (158, 152, 146), side * 7.5, -0.9, 60, 6, 1.02, 140)
        for index in range(9):
            color = tuple(int(c) for c in np.array(BRICK) + random.integers(-22, 45, 3))
            scene.add('building', color, side * 15, 0, 8 + 12 * index, 10, random.uniform(9, 13), 12)
        for index in range(5):
            z = 13 + 8 * index + 3 * (side < 0)
            scene.add('tree', BROWN, side * 6.2, 0, z, 0.35, 3.2, 0.35)
            for _ in range(16):
                x, up, along = random.normal(0, (0.8, 0.6, 0.8))
                size = random.uniform(0.9, 1.5)
                scene.add('tree', GREEN, side * 6.2 + x, 3.6 + up, z + along, *[size] * 3, round_=True)
        for index in range(4):
            scene.add('pole', STEEL, side * 5, 0, 6.5 + 13 * index, 0.16, 5.5, 0.16)
            scene.add('pole', STEEL, side * 4.5, 5.4, 6.5 + 13 * index, 1.2, 0.12, 0.2)
    cars = ((3.3, 9.5, (150, 152, 158)), (3.3, 16, (62, 84, 128)), (3.3, 22.5, (112, 40, 44)))
    cars += ((-3.3, 14, (58, 62, 72)), (-3.3, 22, (150, 150, 152)), (-1.4, 31, (120, 34, 40)))
    for x, z, color in cars:
        z += random.uniform(-1, 1)
        scene.add('car', color, x, 0.28, z, 1.75, 0.62, 4.2)
        scene.add('car', (46, 54, 64), x, 0.45, z + 0.3, 1.6, 1.02, 3.2, round_=True)
        scene.add('car', color, x, 1.36, z + 0.4, 1.25, 0.1, 1.5)
        for wheel in (-1.3, 1.3):
            for side in (-0.8, 0.8):
                scene.add('car', (24, 24, 26), x + side, 0, z + wheel, 0.24, 0.62, 0.62, round_=True)
        scene.add('car', (225, 205, 120), x, 0.55, z - 2.2, 0.5, 0.13, 0.05)
    for x, z, coat in ((-5.3, 9.5, (40, 52, 90)), (5.6, 12.5, (70, 60, 56)), (-6.4, 12, (110, 40, 46))):
        x += random.uniform(-0.7, 0.7)
        for leg in (-0.1, 0.1):
            scene.add('pedestrian', (38, 40, 58), x + leg, 0.12, z + leg, 0.2, 0.85, 0.24, round_=True)
        scene.add('pedestrian', coat, x, 0.8, z, 0.48, 0.75, 0.32, round_=True)
        for arm in (-0.26, 0.26):
            scene.add('pedestrian', coat, x + arm, 0.75, z, 0.14, 0.7, 0.18, round_=True)
        scene.add('pedestrian', (196, 150, 126), x, 1.5, z, 0.22, 0.28, 0.24, round_=True)
    return scene


def paint(scene: Scene, points: np.ndarray, which: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the colours of points (3, N) on shapes in full light, float (N, 3)."""
    colors = np.array(scene.colors, float)[which]
    names = np.array(scene.names)[which]
    x, y, z = points
    up = HEIGHT_M - y
    rough = noise[(z * 17).astype(int) % len(noise), ((x + 0.7 * y) * 17).astype(int) % len(noise)]
    colors *= (1 + np.where(names == 'tree', 0.9, 0.22) * rough)[:, None]
    line = (np.abs(x) < 0.07) & (z % 6 < 2.5) | (np.abs(np.abs(x) - 4.3) < 0.05)
    colors[(names == 'road') & line] = 225
    colors[(names == 'pavement') & ((z % 0.9 < 0.04) | (x % 0.9 < 0.04))] *= 0.85
    column, floor = z % 2.4, up % 3.0
    wall = (names == 'building') & (up > 0.4)
    frame = wall & (np.abs(column - 1.2) < 0.62) & (np.abs(floor - 1.6) < 0.92)
    pane = frame & (np.abs(column - 1.2) < 0.52) & (np.abs(floor - 1.6) < 0.82)
    colors[frame], colors[pane] = (205, 200, 190), (52, 60, 72)
    return colors


def sunlight(scene: Scene, points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return the light on points (3, N) at noon, (N, 1)."""
    sun = SUN / np.linalg.norm(SUN)
    blocked, _ = scene.cast(points + 2e-3 * normal, np.broadcast_to(sun[:, None], points.shape))
    return (0.5 + 0.12 * -normal[1] + 0.62 * np.maximum(sun @ normal, 0) * np.isinf(blocked))[:, None]


def lamplight(camera: np.ndarray, points: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return the light on points (3, N) by night, of street lamps and of headlights, (N, 3)."""
    light = np.full(points.shape[::-1], 0.06)
    lamps = [(np.array([side * 4.5, -3.8, 6.5 + 13 * i]), 20, 0) for side in (-1, 1) for i in range(4)]
    for place, power, beam in (*lamps, (camera[:, 0] + (0, 0.7, 1), 90, 24)):
        way = place[:, None] - points
        length = np.maximum(np.linalg.norm(way, axis=0), 4)
        facing = np.maximum((normal * way).sum(0) / length, 0) * np.maximum(-way[2] / length, 0) ** beam
        light += np.outer(power * facing / length**2, (1.0, 0.85, 0.6))
    return np.minimum(light, 1.3)


def render(
    scene: Scene, random: np.random.Generator, at: tuple[float, float] = (0, 0), *, night: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a camera at `at` (x, z) sees: uint8 (H, W, 3) RGB, depth, float32 (H, W), NaN beyond sight,
    and the true label, uint8 (H, W).
    """
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width].reshape(2, -1)
    rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(u.size)])
    origin = np.array([[at[0]], [0.0], [at[1]]])
    depth, which = scene.cast(origin, rays)  # z of a ray is 1
    noise = cv2.GaussianBlur(random.normal(0, 1, (512, 512)), (0, 0), 1.1)
    clouds = cv2.resize(cv2.GaussianBlur(random.normal(0, 1, (60, 80)), (0, 0), 6), (640, 480)) * 120
    down = v / CAMERA.height
    air = 0.04 if night else 1  # its brightness
    sky = np.stack([120 + 120 * down, 150 + 110 * down, 190 + 60 * down], 1) + clouds.reshape(-1, 1)
    sky *= air
    seen = which >= 0
    points = origin + rays[:, seen] * depth[seen]
    normal = scene.normal(points, which[seen])
    light = lamplight(origin, points, normal) if night else sunlight(scene, points, normal)
    haze = np.exp(-depth[seen] / 160)[:, None]
    sky[seen] = paint(scene, points, which[seen], noise) * light * haze + 190 * air * (1 - haze)
    image = np.clip(sky.reshape(CAMERA.height, CAMERA.width, 3), 0, 255)
    image = cv2.GaussianBlur(image, (3, 3), 0.7) + random.normal(0, 2, image.shape)
    far = np.where(depth < FARTHEST_M, depth, np.nan).astype(np.float32).reshape(image.shape[:2])
    ids = np.array([CLASSES.index(name) for name in (*scene.names, 'sky')], np.uint8)
    return np.clip(image, 0, 255).astype(np.uint8), far, ids[which].reshape(far.shape)
