# SPDX-License-Identifier: Apache-2.0
"""Start one segmentation node on the images of several cameras."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription

SHARE = Path(get_package_share_directory('lw_refinenet_ros'))


def generate_launch_description():
    """Give segmentation.launch.py with two cameras for a default."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'cameras',
                default_value='front,rear',
                description='Names of the cameras, separated by commas: the labels are ~/NAME/label.',
            ),
            DeclareLaunchArgument(
                'image',
                default_value='/{camera}/image_raw',
                description="Topic of each camera's images; {camera} stands for its name.",
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(SHARE / 'launch/segmentation.launch.py'))
            ),
        ]
    )
