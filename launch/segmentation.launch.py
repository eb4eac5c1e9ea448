# SPDX-License-Identifier: Apache-2.0
"""Start the segmentation node on a camera's images."""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

OLD = os.environ.get('ROS_DISTRO') in {'humble', 'iron', 'jazzy'}
PROFILE_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE' if OLD else 'FASTDDS_DEFAULT_PROFILES_FILE'


def generate_launch_description():
    """Give the node, its arguments, and the transport that large images need."""
    config = Path(get_package_share_directory('lw_refinenet_ros')) / 'config'
    profile = str(config / 'fastdds_large_images_network.xml')
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'image', default_value='/camera/image_raw', description='Topic of the images to segment.'
            ),
            DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node.'),
            DeclareLaunchArgument(
                'params_file',
                default_value=str(config / 'segmentation.yaml'),
                description='Parameters of the node.',
            ),
            DeclareLaunchArgument(
                'use_sim_time', default_value='false', description='Take the time from /clock.'
            ),
            DeclareLaunchArgument(
                'log_level', default_value='info', description='debug, info, warn or error.'
            ),
            # The camera's process needs the same profile; a profile that is already set is kept.
            SetEnvironmentVariable(
                PROFILE_VARIABLE, EnvironmentVariable(PROFILE_VARIABLE, default_value=profile)
            ),
            Node(
                package='lw_refinenet_ros',
                executable='segmentation_node',
                name='lw_refinenet',
                namespace=LaunchConfiguration('namespace'),
                parameters=[
                    LaunchConfiguration('params_file'),
                    {'use_sim_time': LaunchConfiguration('use_sim_time')},
                ],
                remappings=[('image', LaunchConfiguration('image'))],
                arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
                output='screen',
            ),
        ]
    )
