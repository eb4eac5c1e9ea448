# SPDX-License-Identifier: Apache-2.0
"""Runs the launch files of this checkout by the real launch packages."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from test.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ['install', 'launch_program']

NAME = 'lw_refinenet_ros'
PROGRAMS = {'segmentation_node': f'{NAME}.node.main', 'lw_refinenet': f'{NAME}.cli.main'}
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace

file, *arguments = {given!r}
service = LaunchService(argv=[])
source = PythonLaunchDescriptionSource(file)
pairs = [argument.split(':=', 1) for argument in arguments]
service.include_launch_description(
    LaunchDescription([*{pushed}, IncludeLaunchDescription(source, launch_arguments=pairs)])
)
sys.exit(service.run())
"""


def launch_program(file: str, *arguments: str, pushed: str = '') -> str:
    """Return Python that does what `ros2 launch` does with a launch file of this checkout.

    With `pushed` a launch file of the robot pushes that namespace and includes it.
    """
    push = f'[PushRosNamespace({pushed!r})]' if pushed else '[]'
    return LAUNCH.format(given=[str(ROOT / 'launch' / file), *arguments], pushed=push)


def install(folder: Path) -> str:
    """Make a folder as colcon installs to, whose programs run this checkout; return AMENT_PREFIX_PATH."""
    index = folder / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    (index / NAME).touch()
    (folder / 'share' / NAME).symlink_to(ROOT)
    programs = folder / 'lib' / NAME
    programs.mkdir(parents=True)
    for name, module in PROGRAMS.items():
        content = f'#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n'
        (programs / name).write_text(content + f'from {module} import main\nsys.exit(main())\n')
        (programs / name).chmod(0o755)
    return os.pathsep.join(filter(None, [str(folder), os.environ.get('AMENT_PREFIX_PATH')]))
