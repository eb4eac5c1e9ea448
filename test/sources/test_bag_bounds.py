# SPDX-License-Identifier: Apache-2.0
"""What is read of a hostile bag is bounded, and what is no file is not read: see sources/limits.py."""

import bz2
import itertools
import json
import os
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing

import lz4.frame
import pytest

from lw_refinenet_ros.sources.bag_formats import chunked_file, db3_file, mcap_file, unpacking
from lw_refinenet_ros.sources.bag_formats.unpacking import unpack, unpack_part, zstd
from lw_refinenet_ros.sources.opening import open_source
from lw_refinenet_ros.sources.source import SourceError
from test.support.raw_bags import (
    FRAMES,
    IMAGES,
    QOS_TEXT,
    TABLES,
    TOPIC,
    channel,
    chunk,
    ros1_record,
    schema,
    text,
    write_db3,
    write_mcap,
    write_metadata,
    write_ros1,
)
from test.support.raw_bags import message as mcap_message
from test.support.raw_bags import record as mcap_record
from test.support.recordings import IMAGE

BOMB = bytes(32 << 20)
PACK = {'zstd': zstd.compress, 'lz4': lz4.frame.compress, 'bz2': bz2.compress}
ONE = schema(1, IMAGE) + channel(1, 1, TOPIC)


def read(path):
    """Return the shades of the frames that can be read, and the messages."""
    said = []
    with open_source(path, on_error=lambda error: said.append(str(error))) as source:
        frames = [int(frame.data[0]) for frame in source]
    assert all('\n' not in line for line in said)
    return frames, said


def error_of(path):
    with pytest.raises(SourceError) as caught, open_source(path) as source:
        list(source)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('compression', PACK)
def test_decompression_stops_at_the_bound(compression):
    packed = PACK[compression](BOMB)
    assert len(packed) < len(BOMB) // 200
    assert len(unpack_part(packed, compression, 1000)) == 1001
    with pytest.raises(ValueError, match='larger than 1000 bytes'):
        unpack(packed, compression, 1000)
    twice = PACK[compression](b'ab') + PACK[compression](b'cd')
    assert unpack(twice, compression, 4) == b'abcd'
    with pytest.raises(ValueError, match='larger than 3 bytes'):
        unpack(twice, compression, 3)
    with pytest.raises(ValueError, match='cut short'):
        unpack(twice[:-1], compression, 9)
    for damaged in (b'x' + twice[1:], twice[:4] + b'\xff' * 20):
        with pytest.raises(ValueError):
            unpack(damaged, compression, 9)


@pytest.mark.parametrize('stated', [1000, 2**62])
@pytest.mark.parametrize('compression', ['zstd', 'lz4', 'bz2', 'unheard of'])
def test_a_chunk_that_is_a_bomb_costs_only_itself(compression, stated, tmp_path):
    packed = PACK.get(compression, bytes)(BOMB)
    good = chunk(ONE + b''.join(mcap_message(1, *image) for image in IMAGES), IMAGES[0][0], IMAGES[-1][0])
    bomb = chunk(b'', 0, 0, compression, packed, stated)
    path = tmp_path / 'x.mcap'
    footer = mcap_record(2, bytes(20)) + b'\x89MCAP0\r\n'
    path.write_bytes(b'\x89MCAP0\r\n' + mcap_record(1, text('') + text('')) + bomb + good + footer)
    frames, (line,) = read(path)
    assert frames == list(range(FRAMES))
    assert 'the record at byte 25 is damaged' in line
    if compression == 'bz2':
        size = struct.pack('<I', min(stated, 2**32 - 1))
        whole = write_ros1(tmp_path / 'x.bag')
        bomb = ros1_record({'op': b'\5', 'compression': b'bz2', 'size': size}, packed)
        whole.write_bytes(whole.read_bytes() + bomb)
        frames, (line,) = read(whole)
        assert frames == list(range(FRAMES))
        assert 'is damaged' in line


@pytest.mark.parametrize(('bound', 'order'), [(300, [0, 1, 2, 3]), (100, [0, 3, 1, 2])])
def test_of_chunks_that_overlap_no_more_is_held_than_the_bound(bound, order, tmp_path, monkeypatch):
    monkeypatch.setattr(chunked_file, 'MAX_CHUNK_BYTES', bound)
    chunks = [[(1, *IMAGES[index]) for index in each] for each in ((3, 0), (2, 1))]
    assert read(write_mcap(tmp_path / 'x.mcap', ONE, chunks)) == (order, [])


def test_a_message_that_is_a_bomb_costs_only_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, 'MAX_MESSAGE_BYTES', 10_000)
    rows = [(1, *image) for image in IMAGES]
    rows.insert(2, (1, IMAGES[1][0], zstd.compress(BOMB)))
    for path in (write_db3(tmp_path / 'x.db3', messages=rows), write_mcap(tmp_path / 'x.mcap', ONE, [rows])):
        frames, (line,) = read(path)
        assert frames == list(range(FRAMES))
        assert f'message 2 of {TOPIC}' in line
        assert 'larger than 10000 bytes' in line


def test_the_metadata_of_a_channel_end_with_its_record(tmp_path, monkeypatch):
    strings, reads = mcap_file._string, itertools.count()

    def counted(body, start):
        assert next(reads) < 1000  # not a thousand million
        return strings(body, start)

    monkeypatch.setattr(mcap_file, '_string', counted)
    boundless = mcap_record(4, struct.pack('<HH', 1, 1) + text(TOPIC) + text('cdr') + b'\xff' * 4)
    path = write_mcap(tmp_path / 'x.mcap', schema(1, IMAGE) + boundless, [[(1, *image) for image in IMAGES]])
    assert read(path) == (list(range(FRAMES)), [])


def test_a_file_that_is_a_bomb_is_unpacked_up_to_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, 'MIN_FILE_BYTES', 100_000)
    whole = write_mcap(
        tmp_path / 'x.mcap', ONE, [[(1, *image) for image in IMAGES]], index=False
    ).read_bytes()
    (tmp_path / 'x.mcap.zstd').write_bytes(zstd.compress(whole + BOMB))
    (tmp_path / 'x.mcap').unlink()
    frames, (line,) = read(tmp_path / 'x.mcap.zstd')
    assert frames == list(range(FRAMES))
    assert 'it unpacks to more than' in line


def test_out_of_memory_is_a_damaged_message(tmp_path):
    rows = [(1, *image) for image in IMAGES]
    rows.insert(1, (1, IMAGES[0][0], zstd.compress(bytes(220 << 20))))
    path = write_db3(tmp_path / 'x.db3', messages=rows)
    program = (
        'import re, resource, sys\n'
        'from pathlib import Path\n'
        'from lw_refinenet_ros.sources.opening import open_source\n'
        'with open_source(sys.argv[1], on_error=print) as source:\n'
        '    used = int(re.search(r"VmSize:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) << 10\n'
        '    resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)\n'
        '    print([int(frame.data[0]) for frame in source])\n'
    )
    done = subprocess.run([sys.executable, '-c', program, path], capture_output=True, text=True)
    said, frames = done.stdout.splitlines()
    assert 'message 1 of' in said
    assert 'not enough memory' in said
    assert frames == '[0, 1, 2, 3]'


HOSTILE = {
    'a view': 'DROP TABLE messages; CREATE VIEW messages AS SELECT 1 AS id, 1 AS topic_id, 1 AS timestamp, '
    'zeroblob(900000000) AS data',
    'a recursive view': 'DROP TABLE topics; CREATE VIEW topics AS WITH RECURSIVE n(id) AS (SELECT 1 '
    'UNION ALL SELECT id + 1 FROM n) SELECT id, 1 AS name, 1 AS type, 1 AS serialization_format FROM n',
    'a virtual table': 'DROP TABLE messages; CREATE VIRTUAL TABLE messages USING rtree(id, a, b)',
    'a computed column': 'DROP TABLE messages; CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, '
    'timestamp, data AS (zeroblob(900000000)))',
    'no table': 'DROP TABLE messages',
}


@pytest.mark.parametrize('statements', HOSTILE.values(), ids=HOSTILE)
def test_of_a_database_only_plain_tables_are_read(statements, tmp_path):
    path = write_db3(tmp_path / 'x.db3')
    with closing(sqlite3.connect(path)) as database:
        database.executescript(statements)
    assert 'x.db3 cannot be read as a bag: it has no plain table of ' in error_of(path)


def test_triggers_beside_the_tables_of_a_database_do_nothing(tmp_path):
    trigger = 'CREATE TRIGGER t AFTER INSERT ON messages BEGIN SELECT zeroblob(900000000); END;'
    assert read(write_db3(tmp_path / 'x.db3', tables=TABLES + trigger, messages=None)) == ([0, 1, 2, 3], [])


def test_a_table_that_leads_to_the_same_rows_again_and_again_is_given_up(tmp_path, monkeypatch):
    """Eighteen pages, each of which has the next one as 60 children: 60**18 rows in 40 kB."""
    path = tmp_path / 'x.db3'
    with closing(sqlite3.connect(path)) as database:
        database.execute('PRAGMA page_size = 512')
        database.executescript(TABLES)
        database.execute("INSERT INTO topics VALUES(1, ?, ?, 'cdr', ?)", (TOPIC, IMAGE, QOS_TEXT[:9]))
        database.execute("INSERT INTO messages VALUES(9, 1, 1, x'00010000')")
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
        database.execute('CREATE TABLE room(data)')
        database.execute('INSERT INTO room VALUES(zeroblob(15000))')
        database.commit()
    content = bytearray(path.read_bytes())
    pages = list(range(len(content) // 512 - 19, len(content) // 512 + 1))
    leaf, *chain = pages
    content[(leaf - 1) * 512 : leaf * 512] = content[(root - 1) * 512 : root * 512]
    child = leaf
    for page in (*chain[:17], root):
        cells = [struct.pack('>IB', child, 100) for _ in range(60)]
        head = struct.pack('>BHHHBI', 5, 0, 60, 512 - 300, 0, child)
        places = struct.pack('>60H', *(512 - 5 * (index + 1) for index in range(60)))
        body = head + places
        content[(page - 1) * 512 : page * 512] = body + bytes(512 - len(body) - 300) + b''.join(cells)
        child = page
    path.write_bytes(content)
    monkeypatch.setattr(db3_file, 'MIN_STEPS', 200_000)
    assert 'takes SQLite too many steps' in read(path)[1][-1]


def test_metadata_that_is_too_large_or_refers_to_itself_costs_no_frame(tmp_path):
    write_mcap(tmp_path / 'bag_0.mcap', ONE, [[(1, *image) for image in IMAGES]])
    metadata = write_metadata(tmp_path, 'bag_0.mcap') / 'metadata.yaml'
    good = json.loads(metadata.read_text())
    bombs = [f'a{level}: &a{level} [{", ".join([f"*a{level - 1}"] * 9)}]' for level in range(1, 30)]
    for content, said in (
        (json.dumps({**good, 'x': 'x' * (5 << 20)}), 'larger than the 4194304 bytes'),
        ('a0: &a0 [x]\n' + '\n'.join(bombs), 'alias'),
        ('rosbag2_bagfile_information: {relative_file_paths: 7}', 'not the metadata of a bag'),
    ):
        metadata.write_text(content)
        frames, (line,) = read(tmp_path)
        assert frames == list(range(FRAMES))
        assert said in line
    assert read(tmp_path / 'bag_0.mcap')[1] == []  # whose own content is whole


@pytest.mark.parametrize('name', ['x.mcap', 'x.db3', 'x.bag', 'x.mcap.zstd', 'x.mp4', 'x.png'])
def test_pipes_and_devices_are_no_sources(name, tmp_path):
    os.mkfifo(tmp_path / name)
    assert error_of(tmp_path / name) == f'{tmp_path / name} is a pipe, not a regular file'
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to('/dev/zero')
    assert error_of(tmp_path / name) == f'{tmp_path / name} is a character device, not a regular file'
    folder = tmp_path / 'folder'
    folder.mkdir()
    os.mkfifo(folder / name)
    assert 'a pipe' in error_of(folder) or 'no images and no bag' in error_of(folder)


def test_a_pipe_beside_the_files_of_a_bag_is_not_read(tmp_path):
    write_db3(tmp_path / 'bag_0.db3')
    os.mkfifo(tmp_path / 'bag_0.db3-wal')
    assert read(tmp_path / 'bag_0.db3') == ([0, 1, 2, 3], [])
    os.mkfifo(tmp_path / 'metadata.yaml')
    frames, (line,) = read(tmp_path)
    assert frames == list(range(FRAMES))
    assert 'metadata.yaml is a pipe' in line
    (tmp_path / 'metadata.yaml').unlink()
    os.mkfifo(tmp_path / 'bag_1.db3')
    frames, (line,) = read(tmp_path)
    assert frames == list(range(FRAMES))
    assert 'bag_1.db3 is a pipe' in line
