# SPDX-License-Identifier: Apache-2.0
"""The settings of each middleware for large images: what is set, and what is in force."""

import fcntl
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest

from lw_refinenet_ros.node.process import middleware
from test.support import ROOT
from test.support.fast_dds import fast_dds_only

CONFIG = ROOT / 'config'
RMWS = ('rmw_fastrtps_cpp', 'rmw_fastrtps_dynamic_cpp', 'rmw_cyclonedds_cpp', 'rmw_zenoh_cpp')


@pytest.mark.parametrize('rmw', RMWS)
def test_what_the_package_ships_for_a_middleware_is_described_as_used(rmw):
    for local in (False, True):
        values = middleware.environment(rmw, CONFIG, local=local)
        described = middleware.describe(rmw, values)
        assert not middleware.is_unused(described)
        assert 'not set' not in described
        assert 'off' not in described
    assert middleware.describe(rmw, values) != middleware.describe(rmw, {})


def test_every_shipped_setting_is_one_that_its_remedy_names():
    shipped = {path.name for path in CONFIG.glob('*_large_images*')}
    named = {name for name in shipped if any(name in middleware.remedy(rmw) for rmw in RMWS)}
    assert named == shipped
    for path in CONFIG.glob('*_large_images*.xml'):
        ET.parse(path)


@pytest.mark.parametrize('rmw', ['rmw_fastrtps_cpp', 'rmw_cyclonedds_cpp'])
def test_socket_buffers_that_the_kernel_keeps_small_are_told(monkeypatch, tmp_path, rmw):
    monkeypatch.setattr(middleware, 'KERNEL', tmp_path)
    values = middleware.environment(rmw, CONFIG)
    silent = middleware.describe(rmw, values)  # as in a container, where the kernel's limits are hidden
    for limit, told in ((212992, True), (middleware.ENOUGH, False)):
        for name in ('rmem_max', 'wmem_max'):
            (tmp_path / name).write_text(f'{limit}\n')
        described = middleware.describe(rmw, values)
        assert described.startswith(silent)
        assert ('net.core.rmem_max' in described) == told
        assert not middleware.is_unused(described)
    (tmp_path / 'wmem_max').write_text('212992\n')  # a slow link fills what is sent, too
    if 'fastrtps' in rmw:
        told = (
            f'; for large images over UDP, raise net.core.wmem_max (212992) to {middleware.NETWORK_BUFFERS}'
        )
        assert middleware.describe(rmw, values).endswith(told)
        assert middleware.remedy(rmw).endswith(told)
        assert f'{middleware.NETWORK_BUFFERS}</' in (CONFIG / middleware.NETWORK).read_text()


def test_processes_of_another_user_are_told_where_they_may_be_in_the_way(monkeypatch, tmp_path):
    monkeypatch.setattr('lw_refinenet_ros.node.process.fast_dds.SHARED_MEMORY', tmp_path)
    lock = tmp_path / f'fastdds_{16 * "0"}_el'
    lock.touch()
    os.utime(lock, (0, 0))
    assert middleware.separation(middleware.DEFAULT) == ''
    other = lock.stat().st_uid + 1
    monkeypatch.setattr('os.geteuid', lambda: other)
    assert middleware.separation(middleware.DEFAULT) == '', 'its process is gone'
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert middleware.separation(middleware.DEFAULT).startswith('run both as one user')

    def refuse(*_):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr('os.open', refuse)
        assert middleware.separation(middleware.DEFAULT), 'what may not be looked at may live'
    assert middleware.separation('rmw_zenoh_cpp') == ''


def test_fast_dds_stays_on_this_machine_where_that_is_asked_for():
    for local, name in ((True, middleware.LOCAL), (False, middleware.NETWORK)):
        (profile,) = middleware.environment(middleware.DEFAULT, CONFIG, local=local).values()
        assert profile == str(CONFIG / name)


def test_settings_of_zenoh_are_read_as_people_write_them():
    given = {'ZENOH_CONFIG_OVERRIDE': 'transport/shared_memory/enabled = true', 'ZENOH_SHM_ALLOC_SIZE': '1G'}
    assert middleware.describe('rmw_zenoh_cpp', given) == 'shared memory on; default size'


def test_an_unknown_middleware_has_no_settings_and_is_named():
    assert middleware.environment('rmw_other', CONFIG) == {}
    assert 'rmw_other' in middleware.remedy('rmw_other')


def test_a_profile_that_is_not_found_is_told(monkeypatch, tmp_path):
    (variable,) = middleware.environment(middleware.DEFAULT, CONFIG)
    described = middleware.describe(middleware.DEFAULT, {variable: str(tmp_path / 'none.xml')})
    assert described == f'profile {tmp_path}/none.xml not found'
    assert middleware.is_unused(described)
    assert middleware.describe(middleware.DEFAULT, {}) == f'no profile ({variable} is not set)'


@pytest.mark.parametrize(
    ('distro', 'variable'), [('humble', 'FASTRTPS'), ('jazzy', 'FASTRTPS'), ('lyrical', 'FASTDDS')]
)
def test_the_variable_is_that_of_the_distribution_s_fast_dds(monkeypatch, distro, variable):
    monkeypatch.setenv('ROS_DISTRO', distro)
    assert list(middleware.environment('', CONFIG)) == []
    assert list(middleware.environment(middleware.DEFAULT, CONFIG)) == [f'{variable}_DEFAULT_PROFILES_FILE']


RUNNING = """
import rclpy
from lw_refinenet_ros.node.process.middleware import describe
rclpy.init()
node = rclpy.create_node('running')
print(describe(rclpy.get_rmw_implementation_identifier(), running=True))
"""


@pytest.mark.ros
@pytest.mark.parametrize('given', ['ours', 'network', 'none', 'spoilt'])
@fast_dds_only
def test_a_running_process_tells_the_shared_memory_that_it_really_has(tmp_path, given):
    pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')
    from lw_refinenet_ros.cli.live import ros_environment

    environment = ros_environment()
    (variable,) = middleware.environment(middleware.DEFAULT, CONFIG)
    if given == 'network':
        environment |= middleware.environment(middleware.DEFAULT, CONFIG)
    if given == 'none':
        del environment[variable]
    if given == 'spoilt':
        spoilt = tmp_path / 'spoilt.xml'
        text = (CONFIG / 'fastdds_large_images.xml').read_text()
        spoilt.write_text(text.replace('is_default_profile="true"', ''))
        environment[variable] = str(spoilt)
    done = subprocess.run(
        [sys.executable, '-c', RUNNING], env=environment, capture_output=True, text=True, check=True
    )
    described = done.stdout.strip().splitlines()[-1]
    default = 'shared memory of 0.5 MiB'
    if given in {'ours', 'network'}:
        said, _, buffers = described.partition('; ')
        found, _, size = said.rpartition(': shared memory of ')
        assert found == f'profile {environment[variable]}'
        assert 128 <= float(size.removesuffix(' MiB')) < 140
        assert buffers == middleware.describe(middleware.DEFAULT, environment).partition('; ')[2]
    elif given == 'none':
        assert described == f'no profile ({variable} is not set): {default}'
    else:
        assert described == f'profile {spoilt} not in force: {default} instead of 128.0 MiB'
    assert middleware.is_unused(described) == (given == 'spoilt')


@pytest.mark.ros
def test_a_second_in_which_many_frames_are_lost_is_warned_of_with_the_remedy():
    rclpy = pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')
    from lw_refinenet_ros.node.camera import Camera
    from lw_refinenet_ros.node.statistics import Statistics

    camera = Camera.__new__(Camera)
    camera.statistics, camera._counted = Statistics(), (0, 0)
    camera._subscription = SimpleNamespace(topic='/image')
    for received, lost, said in ((27, 3, ''), (10, 20, '20 of 30 frames of /image were lost'), (30, 0, '')):
        camera.statistics.count('received', received)
        camera.statistics.count('lost', lost)
        warning = camera._losses()
        assert warning.startswith(said)
        assert bool(warning) == bool(said)
        assert not said or warning.endswith(middleware.remedy(rclpy.get_rmw_implementation_identifier()))
