# SPDX-License-Identifier: Apache-2.0
"""Replay a bag or another source through the segmentation node and show it in RViz."""

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
    'bag': (None, 'Bag (folder, .mcap or .db3), video or folder of images.'),
    'topic': ('', "The bag's image topic, if it has several."),
    'rate': ('1.0', 'Playback speed; 2 is twice as fast.'),
    'loop': ('false', 'Restart at the end.'),
    'image': ('/camera/image_raw', 'Topic to publish the images on.'),
    'use_sim_time': ('true', "Use the time of /clock, which follows the bag's stamps."),
    'rviz': ('true', 'Show the camera, the overlay and the class colours in RViz.'),
}
INPUTS = ('depth', 'depth_camera_info', 'camera_info', 'points')  # of ~/points; as the bag names them
CHOICES = {'loop': ['true', 'false', 'True', 'False']}


def play(context):
    """Return the player's process, which starts publishing once the node subscribes."""
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    options = ['--topic', values['topic']] if values['topic'] else []
    options += ['--output-topic', values['image']]
    inputs = {name: LaunchConfiguration(name, default='').perform(context) for name in INPUTS}
    if inputs['depth']:
        if not values['topic']:
            raise RuntimeError('with depth, name the image topic of the bag too: topic:=/camera/image_raw')
        options = ['--topics', values['topic'], inputs['depth']]
        options += ['--remap', f'{values["topic"]}:={values["image"]}']
    if any(inputs.values()):
        options.append('--others')
    if values['loop'].lower() == 'true':
        options.append('--loop')
    command = [str(COMMAND), 'play', values['bag']]
    command += ['--rate', values['rate'], '--clock', '--wait-for-subscriber', *options]
    if LaunchConfiguration('image_transport', default='').perform(context) == 'compressed':
        command.append('--compressed')
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
                DeclareLaunchArgument(
                    name, default_value=default, description=description, choices=CHOICES.get(name)
                )
                for name, (default, description) in ARGUMENTS.items()
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(SEGMENTATION))),
            OpaqueFunction(function=play),
        ]
    )
