# SPDX-License-Identifier: Apache-2.0
"""Small bags of every kind with images and masks, as recorders write them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import cv2
import numpy as np
import yaml
from rosbags import rosbag1, rosbag2
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.typesys import Stores, get_typestore

if TYPE_CHECKING:
    from pathlib import Path

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
START_NS, STEP_NS = 1_700_000_000_000_000_000, 100_000_000
FORMATS = ('mcap', 'db3', 'ros1')
PACKINGS = {'mcap': ('storage', 'file', 'message'), 'db3': ('file', 'message'), 'ros1': ('bz2', 'lz4')}
KINDS = (
    *FORMATS,
    *(f'{form} {packing}' for form in FORMATS for packing in PACKINGS[form]),
    *('mcap split', 'db3 split'),
)


def stamps(count: int) -> list[int]:
    return [START_NS + index * STEP_NS for index in range(count)]


def pictures(street: np.ndarray, count: int) -> list[np.ndarray]:
    return [np.roll(street, 9 * index, axis=1) for index in range(count)]


def assert_every_frame_has_one_fate(metrics: dict, frames: int) -> None:
    """Assert that a live run accounts for each of its frames, however busy the machine.

    The frame that warmed the node up is not among them.
    """
    counts = {name.removeprefix('frames_'): n for name, n in metrics.items() if name.startswith('frames')}
    others = sum(counts['other'].values())
    assert counts['published'] + counts['refused'] == frames, counts
    assert counts['received'] + counts['lost'] == counts['published'], counts
    assert counts['segmented'] + counts['superseded'] + others == counts['received'], counts
    assert counts['frames'] == counts['segmented'] > 0, counts
    assert 0 < metrics['age_ms']['p50'] <= metrics['age_ms']['p99']


def image_of(types, array, stamp_ns, encoding, **header):
    sec, nanosec = divmod(stamp_ns, 10**9)
    stamp = types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    header = types['std_msgs/msg/Header'](stamp=stamp, frame_id='front', **header)
    if encoding in ('png', 'jpg'):
        grey = array.ndim == 2
        data = cv2.imencode(f'.{encoding}', array if grey else array[..., ::-1])[1].reshape(-1)
        form = f'mono8; {encoding} compressed ' if grey else f'rgb8; {encoding} compressed bgr8'
        return types[COMPRESSED](header=header, format=form, data=data)
    height, width = array.shape[:2]
    data = np.ascontiguousarray(array).reshape(-1)
    step = data.size // height
    return types[IMAGE](header, height, width, encoding, 0, step, data)


def record(path: Path, topics: dict[str, tuple[str, list]], kind: str = 'mcap') -> Path:
    """Write topics of (encoding, [(stamp_ns, array)]), each logged when it is stamped, or at the log time of
    (stamp_ns, array, log_ns), in the order they are logged.

    `kind` is one of KINDS: a format, and how it is compressed, or that it has two files.
    """
    messages = sorted(
        (log_ns, topic, encoding, array, stamp_ns)
        for topic, (encoding, frames) in topics.items()
        for stamp_ns, array, log_ns in _keyed(frames)
    )
    form, _, packing = kind.partition(' ')
    if packing == 'split':
        return _record_split(path, messages, form)
    if form == 'ros1':
        store, path = get_typestore(Stores.ROS1_NOETIC), path.with_suffix('.bag')
        bag, header = rosbag1.Writer(path), {'seq': 0}
        if packing:
            bag.set_compression(rosbag1.Writer.CompressionFormat[packing.upper()])
    else:
        store, header = get_typestore(Stores.ROS2_HUMBLE), {}
        plugin = StoragePlugin.MCAP if form == 'mcap' else StoragePlugin.SQLITE3
        bag = rosbag2.Writer(path, version=8, storage_plugin=plugin)
        if packing:
            bag.set_compression(CompressionMode[packing.upper()], CompressionFormat.ZSTD)
    with bag:
        connections = {}
        for log_ns, topic, encoding, array, stamp_ns in messages:
            kindname = COMPRESSED if encoding in ('png', 'jpg') else IMAGE
            if topic not in connections:
                connections[topic] = bag.add_connection(topic, kindname, typestore=store)
            message = image_of(store.types, array.array, stamp_ns, encoding, **header)
            write = store.serialize_ros1 if form == 'ros1' else store.serialize_cdr
            bag.write(connections[topic], log_ns, write(message, kindname))
    return path


class _Unordered:
    """An array that a tuple may be sorted with."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __lt__(self, other: object) -> bool:
        return False


def _keyed(frames: list) -> list:
    return [(stamp_ns, _Unordered(array), *(rest or [stamp_ns])) for stamp_ns, array, *rest in frames]


def _record_split(path: Path, messages: list, form: str) -> Path:
    """One bag of two files."""
    middle = len(messages) // 2
    path.mkdir()
    infos = []
    for index, part in enumerate((messages[:middle], messages[middle:])):
        topics: dict[str, tuple[str, list]] = {}
        for log_ns, topic, encoding, array, stamp_ns in part:
            topics.setdefault(topic, (encoding, []))[1].append((stamp_ns, array.array, log_ns))
        half = record(path.with_name(f'{path.name}_{index}'), topics, form)
        shutil.move(half / f'{half.name}.{form}', path)
        infos.append(yaml.safe_load((half / 'metadata.yaml').read_text())['rosbag2_bagfile_information'])
    whole = infos[0]
    whole['message_count'] += infos[1]['message_count']
    whole['relative_file_paths'] += infos[1]['relative_file_paths']
    whole['files'] += infos[1]['files']
    whole['duration']['nanoseconds'] = messages[-1][0] - messages[0][0] + 1
    theirs = {t['topic_metadata']['name']: t['message_count'] for t in infos[1]['topics_with_message_count']}
    for topic in whole['topics_with_message_count']:
        topic['message_count'] += theirs[topic['topic_metadata']['name']]
    (path / 'metadata.yaml').write_text(yaml.safe_dump({'rosbag2_bagfile_information': whole}))
    return path
