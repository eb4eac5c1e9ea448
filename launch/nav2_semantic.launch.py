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
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.utilities import prefix_namespace

from launch import LaunchDescription
from lw_refinenet_ros.node.process.parameter_files import ParameterFiles

NAME = 'lw_refinenet_ros'
COMMAND = Path(get_package_prefix(NAME)) / 'lib' / NAME / 'lw_refinenet'
SEGMENTATION = Path(get_package_share_directory(NAME)) / 'launch/segmentation.launch.py'
CAMERA = '/camera/camera'  # of realsense2_camera with align_depth.enable:=true
ARGUMENTS = {
    'image': (f'{CAMERA}/color/image_raw', 'Image topic.'),
    'depth': (f'{CAMERA}/aligned_depth_to_color/image_raw', 'Depth topic, aligned to the image.'),
    'camera_info': (f'{CAMERA}/color/camera_info', 'camera_info topic of the image.'),
    'costs': ('', 'Options of `lw_refinenet costmap`, such as "--free road --lethal car person".'),
    'layer': ('nav2_semantic.yaml', "File to write the layer's parameters to, for the costmap to load."),
}


def write_layer(context):
    """Return the process that writes the parameters for the node's classes and cameras."""
    names = (*ARGUMENTS, 'namespace', 'cameras', 'weights', 'class_groups', 'params_file')
    values = {name: LaunchConfiguration(name).perform(context) for name in names}
    pushed = context.launch_configurations.get('ros_namespace')  # by a PushRosNamespace around this file
    namespace = prefix_namespace(pushed, values['namespace']).strip('/')
    node = '/' + '/'.join(filter(None, [namespace, 'lw_refinenet']))
    files = ParameterFiles(['--params-file', str(Path(values['params_file']).expanduser())])
    weights, groups = (values[name] or files.value(node, name) for name in ('weights', 'class_groups'))
    cameras = values['cameras'].replace(',', ' ').split() or files.value(node, 'cameras') or []
    command = [str(COMMAND), 'costmap', *([weights] if weights else [])]
    command += ['--node', node, '--output', values['layer']]
    if groups:
        command += ['--class-groups', groups]
    if any(cameras):
        command += ['--cameras', *cameras]
    command += shlex.split(values['costs'])
    return [ExecuteProcess(cmd=command, name='costmap', output='screen', on_exit=end_if_it_failed)]


def end_if_it_failed(event, context):
    """End the launch with exit status 1: the node's labels would meet no parameters."""
    if event.returncode != 0 and not context.is_shutdown:
        raise RuntimeError('the parameters of the layer were not written')


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
