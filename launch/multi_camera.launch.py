# SPDX-License-Identifier: Apache-2.0
"""Start one segmentation node on several cameras."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetLaunchConfiguration,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

SHARE = Path(get_package_share_directory('lw_refinenet_ros'))


def name_cameras(context):
    """Return the action that sets default names, unless an argument or a parameter file has them."""
    named = LaunchConfiguration('cameras').perform(context) or 'params_file' in context.launch_configurations
    return [] if named else [SetLaunchConfiguration('cameras', 'front,rear')]


def generate_launch_description():
    """Return segmentation.launch.py with two cameras by default."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'cameras',
                default_value='',
                description=(
                    'Names of the cameras, separated by commas; labels are published on ~/NAME/label. '
                    'Empty: as in params_file if it is given, else front,rear.'
                ),
            ),
            OpaqueFunction(function=name_cameras),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / 'launch/segmentation.launch.py'))
            ),
        ]
    )
