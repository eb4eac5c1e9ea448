# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import pytest

from test.support import ROOT

TESTS = {
    'test_runs.py': """
import pytest

def test_on_a_gpu():
    pytest.skip('no CUDA device')

@pytest.mark.skipif(True, reason='no browser')
def test_in_a_browser():
    pass

@pytest.mark.xfail
def test_that_cannot_pass():
    assert False
""",
    'test_needs_ros.py': 'import pytest\npytest.skip("no CUDA device", allow_module_level=True)',
    'test_needs_tool.py': 'import pytest\npytest.importorskip("no_such_tool")',
}


@pytest.mark.parametrize(
    ('ci', 'ends'), [('true', '2 skipped, 1 xfailed, 2 errors'), ('', '4 skipped, 1 xfailed')]
)
def test_in_ci_a_skip_that_is_not_on_the_list_is_a_failure_with_its_reason(tmp_path, ci, ends):
    for name, text in TESTS.items():
        (tmp_path / name).write_text(text)
    environment = {name: value for name, value in os.environ.items() if name != 'ROS_DISTRO'}
    options = ['-p', 'test.support.ci_skips', '-p', 'no:cacheprovider', '--continue-on-collection-errors']
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', *options, '--rootdir', tmp_path],
        env=environment | {'CI': ci, 'PYTHONPATH': str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == (1 if ci else 0), done.stdout
    assert ends in done.stdout.splitlines()[-1]
    if ci:
        assert 'no browser: CI is to install it' in done.stdout
        assert 'no_such_tool' in done.stdout
