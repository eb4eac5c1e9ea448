# SPDX-License-Identifier: Apache-2.0
"""Bags written byte by byte, as other tools write them and rosbags would not."""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from contextlib import closing
from typing import TYPE_CHECKING

from test.support.recordings import IMAGE, START_NS, STEP_NS

if TYPE_CHECKING:
    from pathlib import Path

TOPIC = '/camera/image_raw'
FRAMES = 4
NEVER = {'sec': 9223372036, 'nsec': 854775807}
QOS = {
    'history': 3,
    'depth': 0,
    'reliability': 1,
    'durability': 2,
    'deadline': NEVER,
    'lifespan': NEVER,
    'liveliness': 1,
    'liveliness_lease_duration': NEVER,
    'avoid_ros_namespace_conventions': False,
}
QOS_TEXT = json.dumps([QOS])  # which is YAML
LOG = [START_NS + index * STEP_NS for index in range(FRAMES)]

TABLES = """
CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT,
  offered_qos_profiles TEXT);
CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB);
"""
OLD_TABLES = TABLES.replace(',\n  offered_qos_profiles TEXT', '')


def image_cdr(index: int, height: int = 6, width: int = 8) -> bytes:
    """A sensor_msgs/Image whose pixels all are `index`, stamped as it is logged."""
    body = struct.pack('<II', *divmod(LOG[0] + index * STEP_NS, 10**9))

    def put(form: str, *values: object) -> None:
        nonlocal body
        body += bytes(-len(body) % 4) + struct.pack(form, *values)

    put('<I6s', 6, b'front\0')
    put('<II', height, width)
    put('<I5sB', 5, b'rgb8\0', 0)
    put('<II', 3 * width, 3 * width * height)
    return b'\0\1\0\0' + body + bytes([index]) * (3 * width * height)


IMAGES = [(LOG[index], image_cdr(index)) for index in range(FRAMES)]


def write_db3(
    path: Path, topics=((TOPIC, IMAGE, 'cdr', QOS_TEXT),), messages=None, tables: str = TABLES
) -> Path:
    """Write topics, and messages of (topic number, log time, data); by default the images to the first."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(tables)
        for number, row in enumerate(topics, 1):
            row = row[: 3 + (tables != OLD_TABLES)]
            database.execute(f'INSERT INTO topics VALUES({number}, {", ".join("?" * len(row))})', row)
        rows = [(1, *image) for image in IMAGES] if messages is None else messages
        database.executemany('INSERT INTO messages(topic_id, timestamp, data) VALUES(?, ?, ?)', rows)
        database.commit()
    return path


def text(value: str) -> bytes:
    return struct.pack('<I', len(value.encode())) + value.encode()


def record(kind: int, body: bytes) -> bytes:
    return struct.pack('<BQ', kind, len(body)) + body


def schema(number: int, name: str, encoding: str = 'ros2msg', definition: str = 'x') -> bytes:
    return record(3, struct.pack('<H', number) + text(name) + text(encoding) + text(definition))


def channel(
    number: int, schema_number: int, topic: str, serialization: str = 'cdr', qos: str = QOS_TEXT
) -> bytes:
    offered = text('offered_qos_profiles') + text(qos) if qos is not None else b''
    head = struct.pack('<HH', number, schema_number) + text(topic) + text(serialization)
    return record(4, head + struct.pack('<I', len(offered)) + offered)


def message(number: int, log_ns: int, data: bytes) -> bytes:
    return record(5, struct.pack('<HIQQ', number, 0, log_ns, log_ns) + data)


def chunk(content: bytes, first_ns: int, last_ns: int, compression='', packed=None, size=None) -> bytes:
    packed = content if packed is None else packed
    size = len(content) if size is None else size
    crc = 0 if compression else zlib.crc32(content)
    head = struct.pack('<QQQI', first_ns, last_ns, size, crc) + text(compression)
    return record(6, head + struct.pack('<Q', len(packed)) + packed)


def write_mcap(
    path: Path, definitions: bytes, chunks, profile: str = 'ros2', index: bool = True, repeated=None
) -> Path:
    """Write chunks of [(channel, log time, data)], each with the definitions, and an index.

    The index repeats the definitions, unless others are given.
    """
    content = b'\x89MCAP0\r\n' + record(1, text(profile) + text('other'))
    counts: dict[int, int] = {}
    times, entries = [], b''
    for messages in chunks:
        logged = [log_ns for _, log_ns, _ in messages]
        body = definitions + b''.join(message(*each) for each in messages)
        whole = chunk(body, min(logged), max(logged))
        entry = struct.pack('<QQQQIQ', min(logged), max(logged), len(content), len(whole), 0, 0)
        entries += record(8, entry + text('') + struct.pack('<QQ', len(body), len(body)))
        content += whole
        times += logged
        for number, _, _ in messages:
            counts[number] = counts.get(number, 0) + 1
    content += record(15, bytes(4))
    start = len(content) if index else 0
    if index:
        pairs = b''.join(struct.pack('<HQ', *pair) for pair in counts.items())
        head = struct.pack(
            '<QHIIIIQQ', sum(counts.values()), 0, 0, 0, 0, 0, min(times, default=0), max(times, default=0)
        )
        content += (definitions if repeated is None else repeated) + entries
        content += record(11, head + struct.pack('<I', len(pairs)) + pairs)
    content += record(2, struct.pack('<QQI', start, 0, 0)) + b'\x89MCAP0\r\n'
    path.write_bytes(content)
    return path


def write_metadata(folder: Path, *files: str, topic=TOPIC, kind: str = IMAGE, qos: object = QOS_TEXT) -> Path:
    """Write metadata.yaml of a bag of one topic."""
    topics = [
        {
            'topic_metadata': {
                'name': topic,
                'type': kind,
                'serialization_format': 'cdr',
                'offered_qos_profiles': qos,
            },
            'message_count': FRAMES,
        }
    ]
    content = {
        'version': 5,
        'storage_identifier': 'mcap',
        'duration': {'nanoseconds': LOG[-1] - LOG[0]},
        'starting_time': {'nanoseconds_since_epoch': LOG[0]},
        'message_count': FRAMES,
        'topics_with_message_count': topics,
        'compression_format': '',
        'compression_mode': '',
        'relative_file_paths': list(files),
        'files': [],
    }
    (folder / 'metadata.yaml').write_text(json.dumps({'rosbag2_bagfile_information': content}))
    return folder


def fields(values: dict[str, bytes]) -> bytes:
    return b''.join(
        struct.pack('<I', len(name) + 1 + len(value)) + name.encode() + b'=' + value
        for name, value in values.items()
    )


def ros1_record(header: dict[str, bytes], body: bytes) -> bytes:
    head = fields(header)
    return struct.pack('<I', len(head)) + head + struct.pack('<I', len(body)) + body


def image_ros1(index: int) -> bytes:
    """The same image as ROS 1 serializes it."""
    stamp = struct.pack('<II', *divmod(LOG[index], 10**9))
    rest = struct.pack('<II', 6, 8) + text('rgb8') + b'\0' + struct.pack('<II', 24, 144)
    return struct.pack('<I', index) + stamp + text('front') + rest + bytes([index]) * 144


def write_ros1(path: Path, kind: str = 'sensor_msgs/Image', topic: str = TOPIC) -> Path:
    """Write a bag as `rosbag record` leaves it when it is killed: without an index."""
    define = fields(
        {'topic': topic.encode(), 'type': kind.encode(), 'md5sum': b'*', 'message_definition': b''}
    )
    content = ros1_record({'op': b'\7', 'conn': bytes(4), 'topic': topic.encode()}, define)
    for index, log_ns in enumerate(LOG):
        time = struct.pack('<II', *divmod(log_ns, 10**9))
        content += ros1_record({'op': b'\2', 'conn': bytes(4), 'time': time}, image_ros1(index))
    size = struct.pack('<I', len(content))
    bag = ros1_record(
        {'op': b'\3', 'index_pos': bytes(8), 'conn_count': bytes(4), 'chunk_count': bytes(4)}, b' ' * 99
    )
    whole = ros1_record({'op': b'\5', 'compression': b'none', 'size': size}, content)
    path.write_bytes(b'#ROSBAG V2.0\n' + bag + whole)
    return path
