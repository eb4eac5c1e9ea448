# SPDX-License-Identifier: Apache-2.0
"""In continuous integration a test that skips for want of something that could be installed has failed."""

import os
import re

import pytest

# What no package registry has, or the machine has or has not.
ALLOWED = re.compile(
    r'no CUDA device|there is a CUDA device|this GPU has no bf16|the kernels run in this process'
    r'|no camera is attached|no wheel of cyclonedds for this Python'
    r'|(cv_bridge|launch_ros|sensor_msgs_py|tf2_ros|vision_msgs) is not installed'
    r'|this user may not mount'
)
# With an installed ROS what is optional comes from there, or not at all.
CHECKED = os.environ.get('CI') == 'true' and not os.environ.get('ROS_DISTRO')


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return _checked((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return _checked((yield))


def _checked(report):
    if CHECKED and report.skipped and not hasattr(report, 'wasxfail'):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not ALLOWED.match(reason.removeprefix('Skipped: ')):
            report.outcome = 'failed'
            report.longrepr = f'{reason}: CI is to install it, or ci_skips.py to allow it'
    return report
