# SPDX-License-Identifier: Apache-2.0
"""Bags that are not damaged are read whole and without a word, however they were written."""

import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from lw_refinenet_ros.sources.bag_formats.unpacking import zstd
from lw_refinenet_ros.sources.opening import open_source
from lw_refinenet_ros.sources.source import SourceError
from test.support.raw_bags import (
    FRAMES,
    IMAGES,
    LOG,
    OLD_TABLES,
    QOS,
    QOS_TEXT,
    TOPIC,
    channel,
    chunk,
    image_cdr,
    image_ros1,
    message,
    record,
    schema,
    text,
    write_db3,
    write_mcap,
    write_metadata,
    write_ros1,
)
from test.support.recordings import COMPRESSED, IMAGE

ONE = schema(1, IMAGE) + channel(1, 1, TOPIC)
CHUNK = [(1, log_ns, data) for log_ns, data in IMAGES]
STRANGE_QOS = {
    'missing': None,
    'empty': '',
    'not YAML': '- {history: [',
    'a number': '7',
    'with an alias': '- &a {history: 1}\n- *a',
    'of other fields': '- reliability: reliable\n  durability: volatile',
    'of names': json.dumps([{**QOS, 'history': 'keep_last', 'reliability': 'best_available'}]),
    'of other times': json.dumps(
        [{**QOS, 'deadline': {'sec': -1, 'nsec': 10**10}, 'lifespan': {'sec': 0, 'nsec': 0}}]
    ),
    'of other depths': json.dumps([{**QOS, 'depth': -1}, {**QOS, 'depth': 'many'}]),
    'of words': json.dumps([{**QOS, 'history': 'all of it', 'liveliness': None}]),
}


def read_whole(path, count=FRAMES, topic=TOPIC):
    """Read a bag twice; nothing may be said, and every frame is there, in order."""
    with open_source(path) as source:  # without on_error: what is said is raised
        assert (source.topic, source.length) == (topic, count)
        assert source.rate_hz == pytest.approx(10)
        for _ in range(2):
            frames = list(source)
            assert [frame.data[0] for frame in frames] == list(range(count))
        return source.offered


def error_of(path, **options):
    with pytest.raises(SourceError) as caught, open_source(path, **options) as source:
        list(source)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_an_index_of_an_mcap_need_not_repeat_the_schemas(tmp_path):
    path = write_mcap(tmp_path / 'x.mcap', ONE, [CHUNK[:2], CHUNK[2:]], repeated=channel(1, 1, TOPIC))
    read_whole(path)


@pytest.mark.parametrize('qos', STRANGE_QOS.values(), ids=STRANGE_QOS)
def test_quality_of_service_of_any_kind_in_any_place_is_no_damage(qos, tmp_path):
    read_whole(write_db3(tmp_path / 'x.db3', [(TOPIC, IMAGE, 'cdr', qos)]))
    read_whole(write_mcap(tmp_path / 'x.mcap', schema(1, IMAGE) + channel(1, 1, TOPIC, qos=qos), [CHUNK]))
    for name, write in (
        ('bag_0.mcap', lambda path: write_mcap(path, ONE, [CHUNK])),
        ('bag_0.db3', write_db3),
    ):
        folder = tmp_path / name[4:].replace('.', '_')
        folder.mkdir()
        write(folder / name)
        assert len(read_whole(write_metadata(folder, name, qos=qos))) == 1
        parsed = qos if qos is None or 'history: [' in qos or '&a' in qos else yaml.safe_load(qos)
        assert len(read_whole(write_metadata(folder, name, qos=parsed))) == 1


def test_the_quality_of_service_of_every_age_is_read():
    from rosbags.interfaces import QosHistory, QosReliability

    from lw_refinenet_ros.sources.bag_formats.bag_metadata import offered_qos

    (number,), (name,) = offered_qos(QOS_TEXT), offered_qos(STRANGE_QOS['of names'])
    assert (number.history, number.reliability) == (QosHistory.UNKNOWN, QosReliability.RELIABLE)
    assert (name.history, name.reliability) == (QosHistory.KEEP_LAST, QosReliability.BEST_AVAILABLE)
    assert offered_qos([QOS]) == (number,)


OTHER_TOPICS = {
    'JSON': (schema(2, 'Pose', 'jsonschema', '{"type": "object"}'), 'json', b'{}'),
    'protobuf of images': (schema(2, 'foxglove.RawImage', 'protobuf', 'x'), 'protobuf', b'\1'),
    'an unknown definition': (schema(2, 'my_msgs/msg/Own', 'unknown', ''), 'cdr', b'\0\1\0\0'),
    'an image as JSON': (schema(2, IMAGE, 'jsonschema', ''), 'json', b'{}'),
    'no schema': (b'', 'cdr', b'\0\1\0\0'),
}


@pytest.mark.parametrize('index', [True, False])
@pytest.mark.parametrize('other', OTHER_TOPICS.values(), ids=OTHER_TOPICS)
def test_topics_of_other_kinds_beside_the_images_of_an_mcap_are_no_damage(other, index, tmp_path):
    definition, serialization, data = other
    beside = ONE + definition + channel(2, 2 if definition else 0, '/other', serialization)
    messages = [(2, LOG[0], data), *CHUNK]
    for profile in ('ros2', '', 'x'):
        read_whole(write_mcap(tmp_path / 'x.mcap', beside, [messages], profile, index))


def test_topics_of_other_kinds_beside_the_images_of_a_database_are_no_damage(tmp_path):
    topics = [
        (TOPIC, IMAGE, 'cdr', QOS_TEXT),
        ('/own', 'my_msgs/msg/Own', 'cdr', QOS_TEXT),
        ('/json', IMAGE, 'json', ''),
        ('', '', '', ''),
    ]
    messages = [(2, LOG[0], b'x'), *((1, *image) for image in IMAGES), (3, LOG[3], b'{}')]
    read_whole(write_db3(tmp_path / 'x.db3', topics, messages))
    read_whole(write_db3(tmp_path / 'old.db3', topics, messages, OLD_TABLES))


def test_a_topic_in_a_database_whose_name_is_not_utf_8_costs_no_other(tmp_path):
    path = write_db3(tmp_path / 'x.db3')
    with closing(sqlite3.connect(path)) as database:
        name = "CAST(x'2F636166E9' AS TEXT)"
        database.execute(f"INSERT INTO topics VALUES(2, {name}, 'std_msgs/msg/String', 'cdr', '')")
        database.commit()
    read_whole(path)


def test_types_without_msg_are_the_same_types_in_every_storage(tmp_path):
    old = 'sensor_msgs/Image'
    read_whole(write_db3(tmp_path / 'x.db3', [(TOPIC, old, 'cdr', '')]))
    for index in (True, False):
        read_whole(
            write_mcap(tmp_path / 'x.mcap', schema(1, old) + channel(1, 1, TOPIC), [CHUNK], index=index)
        )
    read_whole(write_ros1(tmp_path / 'x.bag', old))
    read_whole(write_ros1(tmp_path / 'y.bag', IMAGE))
    compressed = [(TOPIC, COMPRESSED.replace('/msg/', '/'), 'cdr', '')]
    with open_source(write_db3(tmp_path / 'z.db3', compressed, [])) as source:
        assert source.topic == TOPIC


def test_a_type_that_only_metadata_tells_is_taken_from_there(tmp_path):
    bare = write_mcap(tmp_path / 'bag_0.mcap', channel(1, 0, TOPIC), [CHUNK])
    assert f'its topics are {TOPIC} (of unknown type)' in error_of(bare)
    for kind in (IMAGE, 'sensor_msgs/Image'):
        read_whole(write_metadata(tmp_path, bare.name, kind=kind))
        read_whole(bare)
        read_whole(tmp_path / 'metadata.yaml')


def test_metadata_of_old_recorders_name_the_folder_too(tmp_path):
    write_db3(tmp_path / 'bag_0.db3')
    read_whole(write_metadata(tmp_path, 'rec/bag_0.db3'))


def test_images_of_ros_1_in_an_mcap_are_read(tmp_path):
    definitions = schema(1, 'sensor_msgs/Image', 'ros1msg') + channel(1, 1, TOPIC, 'ros1')
    messages = [(1, LOG[index], image_ros1(index)) for index in range(FRAMES)]
    read_whole(write_mcap(tmp_path / 'x.mcap', definitions, [messages], 'ros1'))


@pytest.mark.parametrize(
    'name', ['run#2', 'run?x=1', '100%41', "a'b", 'a"b', 'a b', '\N{SNOWMAN}', b'caf\xe9']
)
def test_paths_may_have_any_characters(name, tmp_path):
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    write_db3(tmp_path / 'x').rename(folder / 'bag_0.db3')
    read_whole(folder / 'bag_0.db3')
    read_whole(folder)
    read_whole(write_metadata(folder, 'bag_0.db3'))


def test_attachments_larger_than_any_message_are_passed_over(tmp_path):
    """One of 600 MB, all of it a hole in the file, before the footer of a bag without an index."""
    path = write_mcap(tmp_path / 'x.mcap', ONE, [CHUNK], index=False)
    content = path.read_bytes()
    footer = len(content) - 37
    with path.open('r+b') as file:
        file.seek(footer)
        file.write(struct.pack('<BQ', 9, 600 << 20))
        file.seek(600 << 20, os.SEEK_CUR)
        file.write(content[footer:])
    read_whole(path)


def test_a_chunk_without_a_checksum_is_whole(tmp_path):
    body = ONE + b''.join(message(*each) for each in CHUNK)
    packed = chunk(body, LOG[0], LOG[-1], 'zstd', zstd.compress(body))
    magic, footer = b'\x89MCAP0\r\n', record(2, bytes(20))
    (tmp_path / 'x.mcap').write_bytes(magic + record(1, text('') + text('')) + packed + footer + magic)
    read_whole(tmp_path / 'x.mcap')


def test_chunks_that_overlap_come_in_the_order_of_the_log(tmp_path):
    for chunks in ([CHUNK[2:], CHUNK[:2]], [[CHUNK[3], CHUNK[0]], [CHUNK[2], CHUNK[1]]]):
        read_whole(write_mcap(tmp_path / 'x.mcap', ONE, chunks))


def test_messages_that_were_logged_at_one_time_come_as_they_were_written(tmp_path):
    messages = [(1, LOG[0], data) for _, data in IMAGES]
    for path in (
        write_db3(tmp_path / 'x.db3', messages=messages),
        write_mcap(tmp_path / 'x.mcap', ONE, [messages[:2], messages[2:]]),
    ):
        with open_source(path) as source:
            assert [frame.data[0] for frame in source] == list(range(FRAMES))


def test_parts_of_a_bag_may_differ(tmp_path):
    """In topics, in what publishers offered, in being compressed since."""
    best_effort = json.dumps([{**QOS, 'reliability': 2}])
    other = schema(2, IMAGE) + channel(7, 2, TOPIC, qos=best_effort)
    write_mcap(tmp_path / 'bag_0.mcap', schema(3, 'a/msg/B') + channel(1, 3, '/b'), [[(1, LOG[0] - 1, b'x')]])
    write_mcap(tmp_path / 'bag_1.mcap', ONE, [CHUNK[:2]])
    write_mcap(tmp_path / 'bag_2.mcap', other, [[(7, *each[1:]) for each in CHUNK[2:]]])
    names = [f'bag_{index}.mcap' for index in range(3)]
    assert len(read_whole(write_metadata(tmp_path, *names))) == 2
    whole = tmp_path / names[1]
    (tmp_path / f'{names[1]}.zstd').write_bytes(zstd.compress(whole.read_bytes()))
    whole.unlink()
    read_whole(tmp_path)
    (tmp_path / 'metadata.yaml').unlink()
    read_whole(tmp_path)


def test_a_file_that_was_compressed_in_parts_is_whole(tmp_path):
    content = write_mcap(tmp_path / 'x.mcap', ONE, [CHUNK]).read_bytes()
    packed = zstd.compress(content[:300]) + zstd.compress(content[300:])
    (tmp_path / 'y.mcap.zstd').write_bytes(packed)
    read_whole(tmp_path / 'y.mcap.zstd')


def parts(folder, form, first=0, stem='bag'):
    """Two parts of two frames, as a killed recorder leaves them."""
    folder.mkdir()
    for index in range(2):
        path = folder / f'{stem}_{first + index}{form}'
        if form.lower().startswith('.db3'):
            write_db3(path, messages=[(1, *image) for image in IMAGES[2 * index : 2 * index + 2]])
        else:
            write_mcap(path, ONE, [CHUNK[2 * index : 2 * index + 2]])
        if form.lower().endswith('.zstd'):
            path.write_bytes(zstd.compress(path.read_bytes()))
    return folder


@pytest.mark.parametrize('form', ['.db3', '.mcap', '.db3.zstd', '.mcap.zstd', '.MCAP', '.Db3.ZSTD'])
def test_the_parts_of_a_recording_without_metadata_are_one_bag(form, tmp_path):
    assert len(read_whole(parts(tmp_path / 'x', form))) == 1, 'both parts had the same publisher'
    read_whole(parts(tmp_path / 'rec', form, first=9, stem='rec'))
    with open_source(tmp_path / 'x' / f'bag_1{form}') as source:
        assert [frame.data[0] for frame in source] == [2, 3]


def test_an_empty_part_does_not_change_the_rate(tmp_path):
    write_mcap(tmp_path / 'bag_0.mcap', ONE, [CHUNK])
    with open_source(tmp_path) as source:
        rate_hz = source.rate_hz
    write_mcap(tmp_path / 'bag_1.mcap', ONE, [])
    with open_source(tmp_path) as source:
        assert source.rate_hz == rate_hz > 1


def test_recordings_that_are_no_parts_of_one_are_listed(tmp_path):
    folder = parts(tmp_path / 'x', '.mcap', first=3)
    assert error_of(folder).endswith('several recordings, choose one: bag_3.mcap, bag_4.mcap')
    shutil.copy(folder / 'bag_4.mcap', folder / 'bag_0.mcap')
    assert error_of(folder).endswith('choose one: bag_0.mcap, bag_3.mcap, bag_4.mcap')


def test_what_a_killed_recorder_of_ros_1_leaves_is_read(tmp_path):
    (tmp_path / 'one').mkdir()
    read_whole(write_ros1(tmp_path / 'one' / 'x.bag.active'))
    read_whole(tmp_path / 'one')
    (tmp_path / 'two').mkdir()
    for index in range(2):
        write_ros1(tmp_path / 'two' / f'x_2024-01-01-10-0{index}-00_{index}.bag')
    with open_source(tmp_path / 'two') as source:
        assert [frame.data[0] for frame in source] == 2 * list(range(FRAMES))


def test_hidden_files_beside_a_bag_are_none(tmp_path):
    write_db3(tmp_path / 'bag_0.db3')
    for name in ('._bag_0.db3', '.bag_0.db3.swp.db3'):
        (tmp_path / name).write_bytes(b'Mac OS X')
    read_whole(tmp_path)


def recording(path, in_file):
    """A database in WAL mode of which so many messages are in the file itself, its recorder killed."""
    database = sqlite3.connect(path.with_suffix('.recording'))
    database.execute('PRAGMA journal_mode = WAL')
    database.execute('PRAGMA wal_autocheckpoint = 0')
    write_db3(path.with_suffix('.recording'), messages=[])
    for index, image in enumerate(IMAGES):
        database.execute('INSERT INTO messages(topic_id, timestamp, data) VALUES(1, ?, ?)', image)
        database.commit()
        if index + 1 == in_file:
            database.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    for ending in ('', '-wal'):
        shutil.copy(f'{path.with_suffix(".recording")}{ending}', f'{path}{ending}')
    database.close()
    return path


@pytest.mark.parametrize('in_file', [0, 2, FRAMES])
def test_what_is_in_the_write_ahead_log_is_read_and_nothing_is_written(in_file, tmp_path):
    (tmp_path / 'bag').mkdir()
    path = recording(tmp_path / 'bag' / 'bag_0.db3', in_file)
    (tmp_path / 'bag' / 'bag_0.recording').unlink()
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()}
    read_whole(path)
    read_whole(path.parent)
    assert {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in path.parent.iterdir()} == before


def test_a_database_whose_last_page_is_in_its_log_alone_is_whole(tmp_path):
    path = recording(tmp_path / 'bag_0.db3', 0)
    path.write_bytes(path.read_bytes()[:-4096])
    read_whole(path)


@pytest.mark.parametrize('log', [True, False])
def test_a_database_on_read_only_media_is_read(log, tmp_path):
    """A process without any rights to write there stands for a read-only medium."""
    path = recording(tmp_path / 'bag_0.db3', 2)
    if not log:
        with closing(sqlite3.connect(path)) as database:
            database.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    program = (
        'import os, sys\n'
        'from lw_refinenet_ros.sources.opening import open_source\n'
        'for bag in sys.argv[1:]:\n'
        '    with open_source(bag) as source:\n        print([int(frame.data[0]) for frame in source])\n'
        '    if os.getuid() == 0:\n        os.setuid(65534)\n'  # what is imported may be for root alone
        'assert not os.access(bag, os.W_OK)\n'
    )
    with tempfile.TemporaryDirectory() as medium:  # pytest's own folders are for one user
        for file in tmp_path.glob('bag_0.db3*'):
            shutil.copy(file, medium)
            Path(medium, file.name).chmod(0o444)
        Path(medium).chmod(0o555)
        command = [sys.executable, '-c', program, path, Path(medium, path.name)]
        done = subprocess.run(command, capture_output=True, text=True)
        Path(medium).chmod(0o755)
    assert done.stdout == 2 * '[0, 1, 2, 3]\n', done.stderr


def camera_topics(path, *names):
    return write_db3(path, [(name, IMAGE, 'cdr', '') for name in names], [])


@pytest.mark.parametrize('name', ['/camera/color', '/label', '/a/overlay', '/confidence/compressed'])
def test_a_camera_is_known_by_more_than_its_name(name, tmp_path):
    with open_source(camera_topics(tmp_path / 'x.db3', name)) as source:
        assert source.topic == name
    both = camera_topics(tmp_path / 'y.db3', name, '/camera/infra')
    assert error_of(both).endswith(f'choose one (--topic): {", ".join(sorted((name, "/camera/infra")))}')


@pytest.mark.parametrize(
    'results',
    [
        ['/seg/label', '/seg/confidence', '/seg/color', '/seg/overlay'],
        ['/lw_refinenet/overlay'],
        ['/robot/lw_refinenet/front/label'],
        ['/seg/color', '/seg/points/label'],
    ],
)
def test_results_of_a_segmenter_are_chosen_only_to_be_played_and_alone(results, tmp_path):
    names = [(name, IMAGE, 'cdr', '') for name in results]
    infos = [('/seg/label_names', 'std_msgs/msg/String', 'cdr', '')] if len(results) == 2 else []
    camera = '/segcam/color'  # whose name begins as that of the node does
    path = write_db3(tmp_path / 'x.db3', [(camera, IMAGE, 'cdr', ''), *names, *infos], [])
    for played in (True, False):
        with open_source(path, results=played) as source:
            assert source.topic == camera
    alone = write_db3(tmp_path / 'y.db3', [*names, *infos], [])
    assert error_of(alone).endswith(
        f'results of a segmenter, choose one (--topic): {", ".join(sorted(results))}'
    )
    if len(results) == 1:
        with open_source(alone, results=True) as source:
            assert source.topic == results[0]


def test_a_bag_without_images_says_what_it_has(tmp_path):
    path = write_db3(tmp_path / 'x.db3', [('/imu', 'sensor_msgs/msg/Imu', 'cdr', '')], [(1, 1, b'x')])
    assert error_of(path).endswith('x.db3 has no image topic: its topics are /imu (sensor_msgs/msg/Imu)')
    assert error_of(write_db3(tmp_path / 'y.db3', [], [])).endswith('no image topic: it has no topics at all')
    video = [('/cam/ffmpeg', 'ffmpeg_image_transport_msgs/msg/FFMPEGPacket', 'cdr', '')]
    said = error_of(write_db3(tmp_path / 'z.db3', video, [(1, 1, b'x')]))
    assert 'z.db3 has no image topic: its topics are /cam/ffmpeg (ffmpeg_image_transport_msgs/' in said
    assert 'image_transport republish' in said


def test_a_message_that_is_damaged_costs_itself_in_every_storage(tmp_path):
    bad = [image_cdr(0), image_cdr(1)[:50], image_cdr(2)]
    rows = list(zip(LOG, bad))
    paths = [
        write_db3(tmp_path / 'x.db3', messages=[(1, *row) for row in rows]),
        write_mcap(tmp_path / 'x.mcap', ONE, [[(1, *row) for row in rows]]),
    ]
    for path in paths:
        errors = []
        with open_source(path, on_error=errors.append) as source:
            assert [frame.data[0] for frame in source] == [0, 2]
        assert [str(error).partition(', logged')[0] for error in errors] == [f'{path}: message 1 of {TOPIC}']


def test_a_single_image_has_no_rate_however_long_the_bag_is(tmp_path):
    topics = [(TOPIC, IMAGE, 'cdr', QOS_TEXT), ('/imu', 'sensor_msgs/msg/Imu', 'cdr', '')]
    messages = [(1, *IMAGES[0]), (2, LOG[-1], b'x')]
    with open_source(write_db3(tmp_path / 'x.db3', topics, messages)) as source:
        assert (source.length, source.rate_hz) == (1, None)


def test_rows_that_tell_of_one_topic_are_counted_together(tmp_path):
    topic = (TOPIC, IMAGE, 'cdr', QOS_TEXT)
    messages = [(1 + index % 2, *image) for index, image in enumerate(IMAGES)]
    with open_source(write_db3(tmp_path / 'x.db3', topics=(topic, topic), messages=messages)) as source:
        assert source.length == len(list(source)) == FRAMES
