# SPDX-License-Identifier: Apache-2.0
"""Segment a camera with depth for Nav2, and write the semantic layer's parameters for its classes."""

import shlex
from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

NAME = 'lw_refinenet_ros'
COMMAND = Path(get_package_prefix(NAME)) / 'lib' / NAME / 'lw_refinenet'
SEGMENTATION = Path(get_package_share_directory(NAME)) / 'launch/segmentation.launch.py'
CAMERA = '/camera/camera'  # of realsense2_camera with align_depth.enable:=true
ARGUMENTS = {
    'image': (f'{CAMERA}/color/image_raw', 'Image topic.'),
    'depth': (f'{CAMERA}/aligned_depth_to_color/image_raw', 'Depth topic, aligned to the image.'),
    'camera_info': (f'{CAMERA}/color/camera_info', 'camera_info topic of the image.'),
    'weights': ('camvid', 'Weights file, or name of shipped weights.'),
    'class_groups': ('', "YAML of groups of the weights' classes; empty keeps the classes."),
    'costs': ('', 'Options of `lw_refinenet costmap`, such as "--free road --lethal car person".'),
    'layer': ('nav2_semantic.yaml', "File to write the layer's parameters to, for the costmap to load."),
}


def write_layer(context):
    """Return the process that writes the parameters, and ends the launch if it fails."""
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    node = '/' + '/'.join(
        filter(None, [context.launch_configurations.get('namespace', '').strip('/'), 'lw_refinenet'])
    )
    command = [str(COMMAND), 'costmap', values['weights'], '--node', node, '--output', values['layer']]
    if values['class_groups']:
        command += ['--class-groups', values['class_groups']]
    command += shlex.split(values['costs'])
    return [ExecuteProcess(cmd=command, name='costmap', output='screen', on_exit=end_if_it_failed)]


def end_if_it_failed(event, context):
    """Shut the node down as well: its labels would meet no parameters."""
    failed = event.returncode != 0 and not context.is_shutdown
    return [Shutdown(reason='the parameters of the layer were not written')] if failed else []


def generate_launch_description():
    """Return the node on a camera with depth, and the process that writes the parameters."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in ARGUMENTS.items()
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(SEGMENTATION))),
            OpaqueFunction(function=write_layer),
        ]
    )
