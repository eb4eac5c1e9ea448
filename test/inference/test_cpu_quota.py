# SPDX-License-Identifier: Apache-2.0
"""Threads within the CPU quota of a container or a service."""

import pytest

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.inference.cpu_quota import threads_within_quota


@pytest.mark.parametrize(
    ('groups', 'files', 'threads'),
    [
        ('0::/', {'cpu.max': '150000 100000'}, 2),  # a container's own group
        ('0::/system.slice/camera.service', {'system.slice/camera.service/cpu.max': '100000 100000'}, 1),
        ('0::/a/b', {'a/cpu.max': '50000 100000', 'a/b/cpu.max': 'max 100000'}, 1),
        ('0::/', {'cpu.max': 'max 100000'}, 0),
        ('0::/', {}, 0),
        (
            '4:memory:/x\n3:cpu,cpuacct:/docker/1',
            {'cpu/cpu.cfs_quota_us': '300000', 'cpu/cpu.cfs_period_us': '100000'},
            3,
        ),
        ('3:cpu:/', {'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'}, 0),
        ('nonsense', {'cpu.max': '100000 100000'}, 0),
    ],
)
def test_the_least_quota_of_the_groups_counts(tmp_path, groups, files, threads):
    (tmp_path / 'groups').write_text(groups)
    for name, text in files.items():
        file = tmp_path / 'root' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'{text}\n')
    assert threads_within_quota(tmp_path / 'groups', tmp_path / 'root') == threads
    assert threads_within_quota(tmp_path / 'none', tmp_path / 'root') == 0


def test_engines_take_as_many_threads_as_the_quota_allows_unless_told(monkeypatch, tiny_weights):
    pytest.importorskip('openvino')
    monkeypatch.setattr('os.cpu_count', lambda: 8)
    monkeypatch.setattr('lw_refinenet_ros.inference.choice.threads_within_quota', lambda: 1)
    described = Segmenter.load(str(tiny_weights), engine='openvino').engine.description
    assert ', 1 thread;' in described
    assert described.endswith('; as many threads as the CPU quota allows')
    assert 'quota' not in Segmenter.load(str(tiny_weights), engine='openvino', threads=2).engine.description
    monkeypatch.setattr('lw_refinenet_ros.inference.choice.threads_within_quota', lambda: 8)
    assert ', all threads;' in Segmenter.load(str(tiny_weights), engine='openvino').engine.description
