# SPDX-License-Identifier: Apache-2.0
"""Shared memory that is smaller than the profile's segment, as in a container."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from lw_refinenet_ros.cli.live import ros_environment
from lw_refinenet_ros.node.shared_memory import VARIABLES, fitting_profile, shrink_segments

PROFILE = Path(__file__).parents[1] / 'config/fastdds_large_images.xml'
MOUNT = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
IN_A_CONTAINER = ['unshare', '--mount', 'sh', '-c', MOUNT, 'sh']


def number(profile, name):
    return int(re.search(rf'<{name}>(\d+)</{name}>', profile)[1])


def test_only_segments_above_the_limit_shrink_and_messages_with_them():
    profile = PROFILE.read_text()
    kept, was = shrink_segments(profile, 128 << 20, 1 << 20)
    assert (number(kept, 'segment_size'), was) == (128 << 20, 0)
    smaller, was = shrink_segments(profile, 64 << 20, 32 << 20)
    assert was == 128 << 20
    assert (number(smaller, 'segment_size'), number(smaller, 'maxMessageSize')) == (32 << 20, 16 << 20)
    assert '<address>127.0.0.1</address>' in smaller
    assert shrink_segments('no XML', 0, 1) == ('no XML', 0)


@pytest.mark.parametrize('variable', VARIABLES)
def test_a_profile_that_fits_is_used_as_it_is(monkeypatch, tmp_path, variable):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with fitting_profile(tmp_path) as done:
        assert done == ''
    small = tmp_path / 'small.xml'
    small.write_text(PROFILE.read_text().replace('134217728', '4096'))
    monkeypatch.setenv(variable, str(small))
    with fitting_profile(tmp_path) as done:
        assert done == ''
        assert os.environ[variable] == str(small)


def test_the_node_starts_with_a_smaller_segment_and_says_so(tiny_weights):
    try:
        tried = subprocess.run([*IN_A_CONTAINER, 'true'], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip('unshare is not installed')
    if tried.returncode:
        pytest.skip(f'this user may not mount: {tried.stderr.strip()}')
    command = [sys.executable, '-m', 'lw_refinenet_ros.node.main']
    node = subprocess.Popen(
        [*IN_A_CONTAINER, *command, '--ros-args', '-p', f'weights:={tiny_weights}'],
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
