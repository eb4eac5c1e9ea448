# SPDX-License-Identifier: Apache-2.0
"""Damaged bags: whatever is whole in them is read, and one line says what is not."""

import itertools
import re
import shutil

import numpy as np
import pytest

from lw_refinenet_ros.sources.opening import open_source
from lw_refinenet_ros.sources.other_topics import OtherTopics
from lw_refinenet_ros.sources.source import SourceError
from test.support.raw_bags import IMAGES, LOG, channel, schema, write_mcap
from test.support.raw_bags import TOPIC as RAW_TOPIC
from test.support.recordings import IMAGE, KINDS, record, stamps

FRAMES, TOPIC = 24, '/image'
CUTS = 15


def damaged_file(bag):
    """The file that holds the messages; of several, the last."""
    return bag if bag.is_file() else max(file for file in bag.iterdir() if file.name != 'metadata.yaml')


def read(bag):
    """Return the readable stamps and pixels, and the messages; anything but a SourceError fails."""
    said = []
    try:
        with open_source(bag, topic=TOPIC, on_error=lambda error: said.append(str(error))) as source:
            frames = [(frame.stamp_ns, frame.data.tobytes()) for frame in source]
    except SourceError as error:
        said.append(str(error))
        frames = []
    assert all('\n' not in line for line in said)
    return frames, said


@pytest.fixture(scope='module')
def frames():
    """Noise, which no compression makes smaller: many blocks and chunks."""
    random = np.random.default_rng(3)
    return [(stamp_ns, random.integers(0, 255, (150, 200, 3), np.uint8)) for stamp_ns in stamps(FRAMES)]


@pytest.fixture(scope='module')
def wanted(frames):
    return [(stamp_ns, image.tobytes()) for stamp_ns, image in frames]


@pytest.mark.parametrize('kind', KINDS)
def test_of_a_bag_cut_at_any_byte_the_whole_frames_before_it_are_read(kind, tmp_path, frames, wanted):
    bag = record(tmp_path / 'bag', {TOPIC: ('rgb8', frames)}, kind)
    assert read(bag) == (wanted, [])
    path = damaged_file(bag)
    whole = path.read_bytes()
    most = 0
    for end in sorted(np.random.default_rng(len(kind)).integers(0, len(whole) - 4096, CUTS).tolist()):
        path.write_bytes(whole[:end])
        found, said = read(bag)
        assert found == wanted[: len(found)], f'cut at byte {end}'
        assert len(said) == 1, f'cut at byte {end}: {said}'
        assert str(bag) in said[0]
        assert len(found) >= most, f'cut at byte {end}'
        most = len(found)
    assert most >= FRAMES * 0.7, 'frames before the cut are lost'
    if 'bz2' not in kind and 'db3' not in kind:  # whose blocks are as large
        path.write_bytes(whole[: len(whole) * 45 // 100])
        assert len(read(bag)[0]) >= FRAMES // 5, 'frames of a chunk that is cut are lost'


def pointers(path):
    """The bytes at which the index of an mcap file or a ROS 1 bag says where its chunks begin."""
    content = path.read_bytes()
    if path.suffix == '.bag':
        return [match.end() for match in re.finditer(b'chunk_pos=', content)]
    at, found = int.from_bytes(content[-28:-20], 'little'), []
    while (kind := content[at]) != 2:  # the footer
        if kind == 8:  # a chunk's entry: its times, then its place
            found.append(at + 9 + 16)
        at += 9 + int.from_bytes(content[at + 1 : at + 9], 'little')
    return found


@pytest.mark.parametrize('kind', ['mcap', 'mcap storage', 'ros1', 'ros1 lz4'])
def test_a_wrong_index_costs_no_frame(kind, tmp_path, frames, wanted):
    bag = record(tmp_path / 'bag', {TOPIC: ('rgb8', frames)}, kind)
    path = damaged_file(bag)
    whole, places = path.read_bytes(), pointers(path)
    assert len(places) >= 2
    for place, shift in itertools.product(places, (0, 2)):  # to somewhere near, or far
        content = bytearray(whole)
        content[place + shift] ^= 0x15
        path.write_bytes(content)
        found, said = read(bag)
        assert sorted(found) == wanted, said
        assert len(said) == 1


def test_an_index_without_its_end_costs_no_frame(tmp_path, frames, wanted):
    path = record(tmp_path / 'bag', {TOPIC: ('rgb8', frames)}, 'ros1')
    content = path.read_bytes()
    at = last = int.from_bytes(content[(place := content.index(b'index_pos=') + 10) : place + 8], 'little')
    while at < len(content):
        last = at
        for _ in range(2):  # a header and a body, each after its length
            at += 4 + int.from_bytes(content[at : at + 4], 'little')
    path.write_bytes(content[:last])
    found, said = read(path)
    assert found == wanted
    assert len(said) == 1


def test_a_wrong_index_of_a_database_costs_no_frame(tmp_path, frames, wanted):
    import sqlite3
    from contextlib import closing

    path = damaged_file(record(tmp_path / 'bag', {TOPIC: ('rgb8', frames)}, 'db3'))
    with closing(sqlite3.connect(path)) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE type = 'index'").fetchone()
        (page_size,) = database.execute('PRAGMA page_size').fetchone()
    content = bytearray(path.read_bytes())
    content[(root - 1) * page_size : root * page_size] = b'\xa5' * page_size
    path.write_bytes(content)
    found, said = read(path)
    assert found == wanted
    assert len(said) == 1


@pytest.mark.parametrize('kind', ['mcap', 'mcap storage', 'mcap message', 'db3', 'ros1', 'ros1 bz2'])
def test_damage_in_the_middle_costs_only_the_frames_that_it_hits(kind, tmp_path, frames, wanted):
    bag = record(tmp_path / 'bag', {TOPIC: ('rgb8', frames)}, kind)
    path = damaged_file(bag)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + b'\xa5' * 50 + whole[middle + 50 :])
    found, said = read(bag)
    right = [frame for frame in found if frame in wanted]
    assert right == [frame for frame in wanted if frame in right], 'another order'
    chunk = 12  # frames in the MiB that is compressed as one
    # A page of a database's table holds the beginnings of several frames.
    hit = {'mcap': 1, 'ros1': 1, 'mcap message': 1, 'db3': 8}.get(kind, chunk)
    assert len(right) >= FRAMES - hit, said
    assert len(said) == 1 or len(found) == FRAMES, said  # changed pixels alone nobody can see


def test_a_changed_pixel_is_noticed_where_the_recorder_wrote_a_checksum(tmp_path):
    definitions = schema(1, IMAGE) + channel(1, 1, RAW_TOPIC)
    messages = [(1, *image) for image in IMAGES]
    path = write_mcap(tmp_path / 'x.mcap', definitions, [messages[:2], messages[2:]])
    path.write_bytes(path.read_bytes().replace(IMAGES[1][1], IMAGES[1][1][:-1] + b'\xff'))
    said = []
    with open_source(path, on_error=lambda error: said.append(str(error))) as source:
        assert [frame.data[0] for frame in source] == [2, 3]
    assert ['its checksum is wrong' in line for line in said] == [True]


def test_what_is_beside_the_images_ends_where_the_bag_does(tmp_path):
    definitions = schema(1, 'sensor_msgs/msg/CameraInfo') + channel(1, 1, '/camera_info')
    path = write_mcap(tmp_path / 'x.mcap', definitions, [[(1, log_ns, b'x') for log_ns in LOG]], index=False)
    path.write_bytes(path.read_bytes()[:-40])
    with OtherTopics(path) as others:
        assert [message.log_ns for message in others] == LOG


def test_metadata_that_tells_of_other_files_or_none_costs_no_frame(tmp_path, frames, wanted):
    bag = record(tmp_path / 'bag', {TOPIC: ('rgb8', frames)}, 'mcap split')
    metadata = bag / 'metadata.yaml'
    good = metadata.read_text()
    metadata.write_text(good.replace('bag_0.mcap', 'gone.mcap'))
    assert read(bag)[0] == wanted
    metadata.write_text(good[: len(good) // 2])
    found, said = read(bag)
    assert found == wanted
    assert len(said) == 1
    metadata.write_text(good)
    first = min(file for file in bag.iterdir() if file.suffix == '.mcap')
    shutil.move(first, tmp_path)
    found, said = read(bag)
    assert found == wanted[FRAMES // 2 :]
    assert first.name in said[0]
