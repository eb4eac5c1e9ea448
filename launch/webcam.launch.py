# SPDX-License-Identifier: Apache-2.0
"""Segment a webcam or a video file live and show it in RViz."""

from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

NAME = 'lw_refinenet_ros'
COMMAND = Path(get_package_prefix(NAME)) / 'lib' / NAME / 'lw_refinenet'
SEGMENTATION = Path(get_package_share_directory(NAME)) / 'launch/segmentation.launch.py'
ARGUMENTS = {
    'source': ('0', 'Camera index, or a video file, which is played in a loop.'),
    'image': ('/camera/image_raw', 'Topic to publish the images on.'),
    'rviz': ('true', 'Show the camera, the overlay and the class colours in RViz.'),
}


def play(context):
    """Return the player, which starts publishing once the node subscribes: when it has subscribers itself."""
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    source = values['source']
    what = [f'camera:{source}'] if source.isdecimal() else [source, '--loop']
    command = [str(COMMAND), 'play', *what, '--output-topic', values['image'], '--wait-for-subscriber']
    command.append('--exit-zero')  # an interrupted player is not a failure
    return [ExecuteProcess(cmd=command, name='player', output='screen', on_exit=end_if_it_failed)]


def end_if_it_failed(event, context):
    """End the launch with exit status 1: the node would wait for images that never come."""
    if event.returncode != 0 and not context.is_shutdown:
        raise RuntimeError('there are no images to segment')


def generate_launch_description():
    """Return the node, which also sets the transport profile of the player, and the player."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in ARGUMENTS.items()
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(SEGMENTATION))),
            OpaqueFunction(function=play),
        ]
    )
