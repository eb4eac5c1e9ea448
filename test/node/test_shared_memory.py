# SPDX-License-Identifier: Apache-2.0
"""Shared memory that is smaller than the profile's segment, as in a container."""

import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from lw_refinenet_ros.cli.live import ros_environment
from lw_refinenet_ros.node.process.fast_dds import (
    VARIABLES,
    fitting_profile,
    free_bytes,
    largest,
    remove_dead_segments,
    shrink_segments,
)
from test.support import ROOT
from test.support.fast_dds import fast_dds_only

pytestmark = pytest.mark.ros

PROFILE = ROOT / 'config/fastdds_large_images.xml'
SPACE = 'http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles'


def with_shared_memory(size, fill=''):
    """The command that runs another one with a /dev/shm of its own, where it may mount one."""
    mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && {fill} exec "$@"'
    command = ['unshare', '--mount', 'sh', '-c', mount, 'sh']
    try:
        tried = subprocess.run([*command, 'true'], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip('this user may not mount: unshare is not installed')
    if tried.returncode:
        pytest.skip(f'this user may not mount: {tried.stderr.strip()}')
    return command


def number(profile, name):
    (element,) = ET.fromstring(profile).iterfind(f'.//{{*}}{name}')
    return int(element.text)


@pytest.mark.parametrize(
    'namespace',
    [('', ''), ('com/XMLSchemas/fastRTPS_Profiles', 'com'), (f' xmlns="{SPACE}"', '')],
    ids=['of Fast DDS 2', 'of Fast DDS 3', 'none'],
)
def test_only_segments_above_the_limit_shrink_and_messages_with_them(tmp_path, namespace):
    profile = tmp_path / 'profile.xml'
    profile.write_bytes(PROFILE.read_text().replace(*namespace).encode())
    kept, was = shrink_segments(profile, 128 << 20, 1 << 20)
    assert (number(kept, 'segment_size'), was) == (128 << 20, 0)
    assert number(shrink_segments(profile, 64 << 20, 256 << 20)[0], 'maxMessageSize') == 64 << 20
    smaller, was = shrink_segments(profile, 64 << 20, 32 << 20)
    assert was == 128 << 20
    assert (number(smaller, 'segment_size'), number(smaller, 'maxMessageSize')) == (32 << 20, 16 << 20)
    (address,) = ET.fromstring(smaller).iterfind('.//{*}interfaceWhiteList/{*}address')
    assert address.text == '127.0.0.1'


@pytest.mark.parametrize(
    'content', [b'no XML', b'<a>\xe9</a>', b'<?xml version="1.0" encoding="none"?><a/>', None]
)
def test_a_profile_that_cannot_be_read_is_left_to_fast_dds(tmp_path, content):
    profile = tmp_path / 'profile.xml'
    if content is not None:
        profile.write_bytes(content)
    assert shrink_segments(profile, 0, 1) == (b'', 0)
    assert largest(profile, 'segment_size') == 0


def test_a_profile_in_latin_1_with_a_size_that_is_none_is_read(tmp_path):
    text = PROFILE.read_text().replace('<profiles', '<!-- für die Kamera --><profiles', 1)
    text = text.replace('UTF-8', 'ISO-8859-1').replace('<maxMessageSize>', '<maxMessageSize>about ')
    profile = tmp_path / 'profile.xml'
    profile.write_bytes(text.encode('latin-1'))
    assert largest(profile, 'segment_size') == 128 << 20
    smaller, was = shrink_segments(profile, 64 << 20, 32 << 20)
    assert (number(smaller, 'segment_size'), was) == (32 << 20, 128 << 20)


@pytest.mark.parametrize('variable', VARIABLES)
def test_a_profile_that_fits_is_used_as_it_is(monkeypatch, tmp_path, variable):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with fitting_profile(VARIABLES, tmp_path) as done:
        assert done == ''
    small = tmp_path / 'small.xml'
    small.write_text(PROFILE.read_text().replace('134217728', '4096'))
    monkeypatch.setenv(variable, str(small))
    with fitting_profile(VARIABLES, tmp_path) as done:
        assert done == ''
        assert os.environ[variable] == str(small)


@fast_dds_only
def test_the_node_starts_with_a_smaller_segment_and_says_so(tiny_weights):
    command = [sys.executable, '-m', 'lw_refinenet_ros.node.main']
    node = subprocess.Popen(
        [*with_shared_memory('64m'), *command, '--ros-args', '-p', f'weights:={tiny_weights}'],
        env=ros_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    try:
        for line in node.stdout:
            said.append(line)
            if 'with 3 classes' in line:
                break
        files = Path(f'/proc/{node.pid}/root/dev/shm').glob('fast*')
        sizes = [file.stat().st_size / 2**20 for file in files]
        assert 32 <= max(sizes) <= 40, f'{sizes} MiB; {said}'
        (warning,) = [line for line in said if '--shm-size' in line]
        assert '/dev/shm has 64.0 MiB free' in warning
        assert 'needs 128 MiB: it is 32.0 MiB instead' in warning
        node.send_signal(signal.SIGINT)
        assert node.wait(30) == 0
    finally:
        node.kill()
        node.communicate()


FULL = 'head -c 65536 /dev/zero >/dev/shm/full;'


def test_a_full_shared_memory_is_one_line_of_the_node_and_of_the_player(tmp_path):
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / '0.png'), np.zeros((8, 8, 3), np.uint8))
    for module in (['node.main'], ['cli.main', 'play', str(tmp_path)]):
        command = [sys.executable, '-m', f'lw_refinenet_ros.{module[0]}', *module[1:]]
        done = subprocess.run(
            [*with_shared_memory('64k', FULL), *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done
        (line,) = done.stderr.splitlines()
        assert '/dev/shm is full (0 bytes free) and ROS cannot start' in line


def test_what_dead_processes_left_is_removed_before_shared_memory_is_found_full(tiny_weights):
    """That a node starts where only dead segments fill it is what removing them is for."""
    dead = '/dev/shm/fastdds_00000000000000aa'
    fill = f'head -c 1000000 /dev/zero >{dead}; touch -d "1 hour ago" {dead}_el;'
    command = [
        sys.executable,
        '-m',
        'lw_refinenet_ros.node.main',
        '--ros-args',
        '-p',
        f'weights:={tiny_weights}',
    ]
    node = subprocess.Popen(
        [*with_shared_memory('1m', fill), *command],
        env=ros_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert any('with 3 classes' in line for line in node.stdout)
        node.send_signal(signal.SIGINT)
        assert node.wait(30) == 0
    finally:
        node.kill()
        node.communicate()


@pytest.mark.parametrize('kind', ['FIFO', 'link', 'folder', 'of another user'])
def test_what_is_no_file_of_ours_is_neither_opened_nor_removed_as_a_dead_segment(monkeypatch, tmp_path, kind):
    folder, elsewhere = tmp_path / 'shm', tmp_path / 'elsewhere'
    folder.mkdir()
    elsewhere.touch()
    os.utime(elsewhere, (0, 0))
    lock, segment = folder / 'fastdds_0123456789abcdef_el', folder / 'fastdds_0123456789abcdef'
    segment.write_bytes(bytes(4096))
    make = {'FIFO': os.mkfifo, 'link': lambda path: path.symlink_to(elsewhere), 'folder': Path.mkdir}
    make.get(kind, Path.touch)(lock)
    if kind == 'of another user':
        other = segment.stat().st_uid + 1
        monkeypatch.setattr('os.geteuid', lambda: other)
    if kind != 'link':
        os.utime(lock, (0, 0))
    assert remove_dead_segments(folder) == 0
    assert segment.exists()
    assert os.path.lexists(lock)


def test_a_link_in_the_place_of_a_segment_is_left_and_what_it_leads_to(tmp_path):
    kept = tmp_path / 'kept'
    kept.write_text('kept')
    lock, segment = tmp_path / 'fastdds_0123456789abcdef_el', tmp_path / 'fastdds_0123456789abcdef'
    lock.touch()
    os.utime(lock, (0, 0))
    segment.symlink_to(kept)
    assert remove_dead_segments(tmp_path) == 0
    assert segment.is_symlink()
    assert kept.read_text() == 'kept'


def test_memory_without_a_limit_is_not_full():
    assert free_bytes(Path('/proc')) > 2**40  # which has no blocks, as such a file system


def test_a_profile_is_shrunk_where_only_shared_memory_can_be_written(monkeypatch, tmp_path):
    def no_folder():
        raise FileNotFoundError('No usable temporary directory found')

    monkeypatch.setattr('tempfile.gettempdir', no_folder)
    monkeypatch.setattr('lw_refinenet_ros.node.process.fast_dds.free_bytes', lambda _: 40 << 20)
    monkeypatch.setenv('FASTRTPS_DEFAULT_PROFILES_FILE', str(PROFILE))
    monkeypatch.delenv('FASTDDS_DEFAULT_PROFILES_FILE', raising=False)
    with fitting_profile(VARIABLES, tmp_path) as told:
        assert 'has 40.0 MiB free' in told
        assert Path(os.environ['FASTRTPS_DEFAULT_PROFILES_FILE']).parent == tmp_path
    assert os.environ['FASTRTPS_DEFAULT_PROFILES_FILE'] == str(PROFILE), 'for processes that this one starts'
    monkeypatch.setenv('FASTDDS_DEFAULT_PROFILES_FILE', str(tmp_path / 'small.xml'))
    with fitting_profile(VARIABLES[1:], tmp_path) as told:  # to Jazzy, Fast DDS does not read the other
        assert 'has 40.0 MiB free' in told
    assert list(tmp_path.iterdir()) == []


def test_a_log_folder_that_cannot_be_made_is_named_with_the_remedy():
    done = subprocess.run(
        [sys.executable, '-m', 'lw_refinenet_ros.node.main'],
        env=ros_environment() | {'ROS_LOG_DIR': '/dev/null/log'},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(': set ROS_LOG_DIR to a folder that can be written')
