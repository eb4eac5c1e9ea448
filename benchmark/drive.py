# SPDX-License-Identifier: Apache-2.0
"""A drive through a rendered street: the label clouds of the running node against truth, point by point.

`python -m benchmark.drive [FRAMES]` writes build/drive.mcap: a camera and a depth camera beside it, their
camera_info, tf, true labels of both; replays it by `replay.launch.py`, which needs launch_ros, and scores
`evaluate --live` on it too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from rosbags.typesys import Stores, get_typestore

from benchmark.table import store
from lw_refinenet_ros.cli.main import main as command
from lw_refinenet_ros.cli.options import Progress, label_set
from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.image.point_cloud import POINT, Pinhole
from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.sources.bag_writer import BagWriter

FRAMES = 30
STEP_NS, START_NS = 100_000_000, 1_700_000_000_000_000_000
CAMERA = Pinhole(360, 480, 400.0, 400.0, 239.3, 169.8)
DEPTH = Pinhole(288, 424, 300.0, 300.0, 211.6, 140.4)
BESIDE = np.array([-0.06, 0.01, -0.02])  # the depth camera in the frame of the camera, turned like it
BAG = Path('build/drive.mcap')
FARTHEST_M = 30.0  # of the depth camera
FAR = 'hidden, parallax above 2 pixels'
FIELDS = ('points/label', 'points/confidence')
REPLAY = (
    'topic:=/image depth:=/depth camera_info:=/camera_info depth_camera_info:=/depth/camera_info '
    'rate:=0.1 rviz:=false'
)
PARAMETERS = f"""
lw_refinenet:
  ros__parameters:
    points_transform: '{' '.join(map(str, BESIDE))} 0 0 0 1'  # which tf says only with `tf2_ros`
"""
SILENCE_S, PATIENCE_S = 15.0, 900.0  # after the last cloud, and for all of them
HEIGHT_M = 1.4  # of the camera above the road
TYPES = get_typestore(Stores.ROS2_HUMBLE)
CLASSES = label_set(None).names
INFO, IMAGE, TF = 'sensor_msgs/msg/CameraInfo', 'sensor_msgs/msg/Image', 'tf2_msgs/msg/TFMessage'


@dataclass(frozen=True)
class Plane:
    """A textured rectangle, or a person's outline on it: corner and edges in metres."""

    name: str
    corner: tuple[float, float, float]
    edges: tuple[tuple[float, float, float], tuple[float, float, float]]
    color: tuple[int, int, int]
    is_person: bool = False


def box(name: str, x: float, z: float, size: tuple[float, float, float], color: tuple[int, int, int]):
    """The faces of a box on the ground that a camera before it sees."""
    width, height, length = size
    top = HEIGHT_M - height
    front = Plane(name, (x, top, z), ((width, 0, 0), (0, height, 0)), color)
    inner = x if x > 0 else x + width
    side = Plane(name, (inner, top, z), ((0, 0, length), (0, height, 0)), tuple(c * 3 // 4 for c in color))
    roof = Plane(name, (x, top, z), ((width, 0, 0), (0, 0, length)), color)
    return front, side, roof


def street(second: float) -> list[Plane]:
    """The planes of the street; people walk."""
    planes = [
        Plane('road', (-4, HEIGHT_M, -5), ((8, 0, 0), (0, 0, 150)), (95, 93, 96)),
        Plane('pavement', (-9, HEIGHT_M - 0.1, -5), ((5, 0, 0), (0, 0, 150)), (150, 140, 135)),
        Plane('pavement', (4, HEIGHT_M - 0.1, -5), ((5, 0, 0), (0, 0, 150)), (150, 140, 135)),
        Plane('pavement', (-4, HEIGHT_M - 0.1, -5), ((0, 0, 150), (0, 0.1, 0)), (110, 105, 100)),
        Plane('pavement', (4, HEIGHT_M - 0.1, -5), ((0, 0, 150), (0, 0.1, 0)), (110, 105, 100)),
        Plane('building', (-9, -12, -5), ((0, 0, 150), (0, 14, 0)), (140, 100, 85)),
        Plane('building', (9, -9, -5), ((0, 0, 150), (0, 11, 0)), (165, 150, 125)),
    ]
    for index in range(5):
        planes += box('car', (-3.6, 2.0)[index % 2], 9 + 8 * index, (1.7, 1.5, 4), (60 + 30 * index, 60, 90))
        planes += box('pole', (4.4, -4.6)[index % 2], 6 + 9 * index, (0.15, 5, 0.15), (120, 120, 115))
        x = (-1.5 + 0.8 * second, 5.0, -5.5, 1.2 - 0.5 * second, 5.6)[index]
        person = ((0.7, 0, 0), (0, 1.75, 0))
        planes.append(Plane('pedestrian', (x, HEIGHT_M - 1.75, 5 + 5 * index), person, (70, 50, 60), True))
    return planes


def cast(planes: list[Plane], origin: np.ndarray, directions: np.ndarray):
    """Follow rays (3, N): length to the nearest plane, its index (-1: the sky), metres along its edges."""
    length = np.full(directions.shape[1], np.inf)
    which, place = np.full(directions.shape[1], -1), np.zeros((2, directions.shape[1]))
    for index, plane in enumerate(planes):
        corner, edges = np.array(plane.corner) - origin, np.array(plane.edges, float)
        normal = np.cross(*edges)
        with np.errstate(divide='ignore', invalid='ignore'):
            t = (normal @ corner) / (normal @ directions)
            along = edges @ (t * directions - corner[:, None])
        sides = np.linalg.norm(edges, axis=1)[:, None]
        right, down = along / sides**2
        hit = (t > 0) & (t < length) & (right >= 0) & (right <= 1) & (down >= 0) & (down <= 1)
        if plane.is_person:
            head = np.hypot((right - 0.5) / 0.18, (down - 0.08) / 0.08) < 1
            hit &= head | ((np.abs(right - 0.5) < np.where(down < 0.55, 0.4, 0.25)) & (down > 0.16))
        length[hit], which[hit], place[:, hit] = t[hit], index, (along / sides)[:, hit]
    return length, which, place


def rays(camera: Pinhole) -> np.ndarray:
    """Return the direction of every pixel, (3, N), z = 1."""
    v, u = np.mgrid[: camera.height, : camera.width].reshape(2, -1)
    return np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(u.size)])


def true_label(planes: list[Plane], which: np.ndarray, camera: Pinhole) -> np.ndarray:
    """Return the class of every pixel, uint8 (H, W)."""
    ids = np.array([CLASSES.index(plane.name) for plane in planes] + [CLASSES.index('sky')], np.uint8)
    return ids[which].reshape(camera.height, camera.width)


def picture(planes: list[Plane], which: np.ndarray, place: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Return uint8 (H, W, 3) RGB: each plane in its colour, roughened; the sky brighter below."""
    colors = np.array([plane.color for plane in planes] + [(0, 0, 0)], float)[which]
    x, y = (np.floor(axis * 40).astype(int) % len(texture) for axis in place)
    shade = (texture[y, x] * 0.35 + 0.82)[:, None]
    image = np.clip(colors * shade, 0, 255).reshape(CAMERA.height, CAMERA.width, 3)
    rows = np.linspace(0, 1, CAMERA.height)[:, None, None] * np.array([60, 40, 10]) + np.array(
        [150, 180, 230]
    )
    sky = (which < 0).reshape(CAMERA.height, CAMERA.width)
    image[sky] = np.broadcast_to(np.clip(rows, 0, 255), image.shape)[sky]
    return cv2.GaussianBlur(image.astype(np.uint8), (3, 3), 0)


def scene(index: int) -> tuple[list[Plane], np.ndarray]:
    """Return the planes and the camera's place at a frame."""
    return street(index * STEP_NS / 1e9), np.array([0.3 * np.sin(index / 9), 0.0, 0.4 * index])


def header(frame_id: str, stamp_ns: int):
    sec, nanosec = divmod(stamp_ns, 10**9)
    stamp = TYPES.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    return TYPES.types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)


def info(camera: Pinhole, frame_id: str, stamp_ns: int) -> bytes:
    """Return a serialized camera_info."""
    types = TYPES.types
    k = np.array([camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1], float)
    p = np.insert(k.reshape(3, 3), 3, 0, 1).reshape(-1)
    roi = types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False)
    message = types[INFO](
        header(frame_id, stamp_ns), camera.height, camera.width, 'plumb_bob', np.zeros(5), k,
        np.eye(3).reshape(-1), p, 0, 0, roi,
    )  # fmt: skip
    return bytes(TYPES.serialize_cdr(message, INFO))


def transform(stamp_ns: int) -> bytes:
    """Return the serialized place of the depth camera in the frame of the camera."""
    types = TYPES.types
    vector = types['geometry_msgs/msg/Vector3'](*map(float, BESIDE))
    turn = types['geometry_msgs/msg/Quaternion'](0.0, 0.0, 0.0, 1.0)
    placed = types['geometry_msgs/msg/Transform'](vector, turn)
    stamped = types['geometry_msgs/msg/TransformStamped'](header('camera', stamp_ns), 'depth', placed)
    return bytes(TYPES.serialize_cdr(types[TF]([stamped]), TF))


def render(path: Path, frames: int) -> None:
    """Write the bag: images of 10 Hz, depth of 5."""
    noise = np.random.default_rng(1).random((64, 64)).astype(np.float32)
    texture = cv2.GaussianBlur(cv2.resize(noise, (512, 512)), (0, 0), 1.5)
    seen, progress = rays(CAMERA), Progress('rendered', frames)
    with BagWriter(path, compress=True) as bag:
        bag.write_raw('/tf_static', TF, transform(START_NS), START_NS)
        for index in range(frames):
            (planes, place), stamp_ns = scene(index), START_NS + index * STEP_NS
            _, which, along = cast(planes, place, seen)
            images = [('image', picture(planes, which, along, texture), 'rgb8')]
            images += [('labels', true_label(planes, which, CAMERA), 'mono8')]
            for topic, array, encoding in images:
                frame = Frame.from_array(array, stamp_ns=stamp_ns, frame_id='camera', encoding=encoding)
                bag.write_image(f'/{topic}', frame)
            bag.write_raw('/camera_info', INFO, info(CAMERA, 'camera', stamp_ns), stamp_ns)
            if index % 2 == 0:
                length, which, _ = cast(planes, place + BESIDE, rays(DEPTH))
                depth = np.where(length < FARTHEST_M, length * 1000, 0).round().astype('<u2')
                rows = depth.view(np.uint8)
                size = (DEPTH.height, DEPTH.width)
                bag.write_image('/depth', Frame(stamp_ns, 'depth', *size, '16UC1', DEPTH.width * 2, rows))
                label = true_label(planes, which, DEPTH)
                frame = Frame.from_array(label, stamp_ns=stamp_ns, frame_id='depth', encoding='mono8')
                bag.write_image('/depth/labels', frame)
                bag.write_raw('/depth/camera_info', INFO, info(DEPTH, 'depth', stamp_ns), stamp_ns)
            progress.show(index + 1)


class Counts:
    """Points of all clouds, by what they should be and what they are."""

    def __init__(self) -> None:
        self.counted: dict[str, int] = {}
        self.clouds, self.worst_m = 0, 0.0

    def add(self, name: str, which: np.ndarray) -> None:
        self.counted[name] = self.counted.get(name, 0) + int(np.count_nonzero(which))

    def share(self, part: str, whole: str) -> float:
        return self.counted[part] / max(self.counted[whole], 1)

    def update(self, index: int, cloud, label: np.ndarray) -> None:
        """Compare a label cloud with the geometry of its frame, and with the node's label of the image."""
        planes, place = scene(index)
        points = np.frombuffer(cloud.data, POINT).reshape(-1)
        length, which, _ = cast(planes, place + BESIDE, rays(DEPTH))
        seen = rays(DEPTH) * length + BESIDE[:, None]  # in the frame of the camera, exact
        known = np.isfinite(points['z'])
        with np.errstate(invalid='ignore'):
            u = CAMERA.fx * seen[0] / seen[2] + CAMERA.cx
            v = CAMERA.fy * seen[1] / seen[2] + CAMERA.cy
            inside = known & (u > -0.5) & (u < CAMERA.width - 0.5) & (v > -0.5) & (v < CAMERA.height - 0.5)
        nearest = np.full(len(points), np.inf)
        nearest[inside], _, _ = cast(planes, place, seen[:, inside])  # 1 is the point itself
        visible = inside & (nearest > 0.99)
        columns, rows = (np.rint(np.where(inside, axis, 0)).astype(int) for axis in (u, v))
        expected, found = label[rows, columns], points['label']
        error = np.abs([points[axis] - exact for axis, exact in zip('xyz', seen - BESIDE[:, None])])
        self.clouds += 1
        self.worst_m = max(self.worst_m, float(error[:, known].max()))
        self.add('points', known)
        self.add('visible', visible)
        self.add('visible, with the label of their pixel', visible & (found == expected))
        self.add('visible, unlabelled', visible & (found == UNLABELLED))
        with np.errstate(divide='ignore', invalid='ignore'):
            moved = CAMERA.fx * np.hypot(*BESIDE[:2]) / seen[2] * (1 / nearest - 1)
        for name, hidden in (('hidden', inside & ~visible), (FAR, inside & ~visible & (moved > 2))):
            self.add(name, hidden)
            self.add(f'{name}, unlabelled', hidden & (found == UNLABELLED))
        self.add('beside the image', known & ~inside)
        self.add('beside the image, unlabelled', known & ~inside & (found == UNLABELLED))
        true = true_label(planes, which, DEPTH).reshape(-1)
        self.add('visible, with their true class', visible & (found == true))

    def update_fields(self, cloud, fields: dict[str, np.ndarray]) -> None:
        """Compare the images of label and confidence at the cloud's size with the fields of its points."""
        points = np.frombuffer(cloud.data, POINT).reshape(cloud.height, cloud.width)
        for topic, image in fields.items():
            self.add(f'`~/{topic}`', np.ones(points.shape))
            self.add(f'`~/{topic}`, as the point', image == points[topic.removeprefix('points/')])


def play(path: Path) -> tuple[Counts, str]:
    """Replay the bag by the launch file, and compare each cloud of the node with its truth, once."""
    from test.support.launching import install, launch_program
    from test.support.long_run import node_under_test, pixels_of, stamp_of

    counts, progress, done = Counts(), Progress('clouds compared'), set()
    topics, last_s = ('label', 'points', *FIELDS), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ['AMENT_PREFIX_PATH'] = install(Path(folder) / 'prefix')
        parameters = Path(folder) / 'node.yaml'
        parameters.write_text(PARAMETERS)
        given = (f'bag:={path.resolve()}', *REPLAY.split(), f'params_file:={parameters}')
        with node_under_test(program=launch_program('replay.launch.py', *given)) as node:
            node.listen(*topics)
            node.client.destroy_publisher(node.images)  # the player is the only camera

            def ended() -> bool:
                nonlocal last_s
                there = [{stamp_of(m): m for m in node.received[topic]} for topic in topics]
                for stamp_ns in set.intersection(*map(set, there)) - done:
                    label, cloud, *fields = (messages[stamp_ns] for messages in there)
                    counts.update((stamp_ns - START_NS) // STEP_NS, cloud, pixels_of(label))
                    counts.update_fields(cloud, dict(zip(FIELDS, map(pixels_of, fields))))
                    done.add(stamp_ns)
                    progress.show(len(done))
                    last_s = time.monotonic()
                return bool(done) and time.monotonic() - last_s > SILENCE_S

            node.spin_until(ended, 'end of the clouds', PATIENCE_S)
            engine = node.status[1]['engine']
            status, _, _ = node.stop(signal.SIGINT)
            if status or not any('[player-2]: process has finished cleanly' in line for line in node.said):
                sys.exit(f'the launch ended with {status}: {list(node.said)}')
            return counts, engine


def main(arguments: list[str] | None = None) -> None:
    """Render, play, compare, and store the table."""
    if not find_spec('launch_ros'):
        sys.exit('drive: launch_ros is not installed: it comes with ROS only')
    frames = int(arguments[0]) if arguments else FRAMES
    BAG.parent.mkdir(exist_ok=True)
    render(BAG, frames)
    counts, engine = play(BAG)
    scores = BAG.with_suffix('.json')
    live = f'evaluate --bag {BAG} --topic /image --labels /labels --live --rate 0.3 --json {scores}'
    if command(live.split()):
        sys.exit('evaluate --live failed')
    image = json.loads(scores.read_text())
    rows = [
        {'points': name, 'number': counts.counted[name], 'share': counts.share(name, of)}
        for name, of in {
            'points': 'points',
            'visible': 'points',
            'visible, with the label of their pixel': 'visible',
            'visible, unlabelled': 'visible',
            'visible, with their true class': 'visible',
            'hidden': 'points',
            'hidden, unlabelled': 'hidden',
            FAR: 'points',
            f'{FAR}, unlabelled': FAR,
            'beside the image': 'points',
            'beside the image, unlabelled': 'beside the image',
            **{f'`~/{topic}`, as the point': f'`~/{topic}`' for topic in FIELDS},
        }.items()
    ]
    apart = np.linalg.norm(BESIDE) * 100
    cameras = (
        f'{frames} images of {CAMERA.width}x{CAMERA.height} at 10 Hz; {(frames + 1) // 2} depth images of '
        f'{DEPTH.width}x{DEPTH.height} in millimetres from a camera {apart:.1f} cm beside. '
        '`replay.launch.py` starts the node and the player, at a tenth of the speed, with both camera_info; '
        f'both ended with status 0. The node answered {counts.clouds} depth images with label, cloud and '
        'both images of its fields.'
    )
    truth = (
        'What is visible follows from the rendered geometry; "their pixel" is that of `~/label` at the exact '
        f'place. x, y and z are at most {counts.worst_m * 1e3:.1f} mm from the truth.'
    )
    network = (
        f'The shipped weights, trained on photographs, on {engine}: their pixel accuracy on the rendered '
        f'images is {image["pixel_accuracy"]:.3f}, their mIoU {image["miou"]:.3f}, by `evaluate --live` on '
        f'{image["frames"]} of {image["frames_published"]} frames. Where the depth camera is came from the '
        'parameter points_transform: no wheel of tf2_ros exists.'
    )
    packages = ('openvino', 'numpy')
    store(
        'drive', 'Label clouds of a rendered drive, point by point', rows, [cameras, truth, network], packages
    )


if __name__ == '__main__':
    main(sys.argv[1:])
