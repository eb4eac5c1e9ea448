# SPDX-License-Identifier: Apache-2.0
"""What is said where rclpy is missing, of another Python, or without its libraries."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

OTHER = sys.version_info.minor + 1
SUFFIXES = {
    'another Python': f'.cpython-3{OTHER}-x86_64-linux-gnu.so',
    'no library': f'.cpython-3{sys.version_info.minor}-x86_64-linux-gnu.so',
}


@pytest.fixture(params=['none', *SUFFIXES])
def rclpy(request, tmp_path):
    """Return a folder whose rclpy fails as an installed one does, and what must be said of it."""
    folder = tmp_path / 'site-packages' / 'rclpy'
    folder.mkdir(parents=True)
    if request.param == 'none':
        (folder / '__init__.py').write_text("raise ModuleNotFoundError('no rclpy', name='rclpy')\n")
        return folder.parent, ('has no rclpy', sys.executable, 'setup.bash', 'make venv')
    (folder / f'_rclpy_pybind11{SUFFIXES[request.param]}').write_bytes(b'')
    (folder / '__init__.py').write_text(
        "raise ImportError('librcl.so: cannot open shared object file\\nThe C extension ...')\n"
    )
    if request.param == 'no library':
        return folder.parent, (str(folder), 'librcl.so: cannot open shared object file; source', 'setup.bash')
    return folder.parent, (str(folder), f'built for Python 3.{OTHER}', f'make venv PYTHON=python3.{OTHER}')


@pytest.mark.parametrize(
    'module',
    [
        ['node.main'],
        ['cli.main', 'play', 'images'],
        ['cli.main', 'demo', '--source', 'images'],
        ['cli.main', 'doctor'],
        ['cli.main', 'view', '--node', '/lw_refinenet', '--save', 'x.rrd'],
    ],
    ids=lambda module: ' '.join(module[:2]),
)
def test_a_ros_that_cannot_be_used_is_one_line_with_the_remedy(module, rclpy, tmp_path):
    if 'view' in module:
        pytest.importorskip('rerun', reason='the viewer is not installed')
    folder, said = rclpy
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images' / '0.png'), np.zeros((8, 8, 3), np.uint8))
    done = subprocess.run(
        [sys.executable, '-m', f'lw_refinenet_ros.{module[0]}', *module[1:]],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, (str(folder), *sys.path)))},
    )
    assert done.returncode == 1, done
    line = done.stderr.splitlines()[-1]
    assert 'Traceback' not in done.stderr
    for each in ('needs ROS 2, but', *said):
        assert each in line
