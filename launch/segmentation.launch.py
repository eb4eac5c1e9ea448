# SPDX-License-Identifier: Apache-2.0
"""Start the segmentation node on one camera's images, or on several."""

import os
import re
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

NODE = 'lw_refinenet'
VIEWS = ('overlay', 'color')
CONFIG = Path(get_package_share_directory('lw_refinenet_ros')) / 'config'
OLD = os.environ.get('ROS_DISTRO') in {'humble', 'iron', 'jazzy'}
PROFILE_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE' if OLD else 'FASTDDS_DEFAULT_PROFILES_FILE'

ARGUMENTS = {
    'image': ('/camera/image_raw', 'Topic of the images to segment; {camera} stands for each of `cameras`.'),
    'cameras': ('', 'Names of several cameras, separated by commas; empty is one without a name.'),
    'image_transport': ('', 'raw, or compressed for the topic with /compressed; empty is as in params_file.'),
    'weights': ('', 'Weights file, or the name of a shipped one; empty is as in params_file.'),
    'device': ('', 'auto, cuda or cpu; empty is as in params_file.'),
    'params_file': (str(CONFIG / 'segmentation.yaml'), 'Parameters of the node.'),
    'namespace': ('', 'Namespace of the node.'),
    'use_sim_time': ('false', 'Take the time from /clock.'),
    'log_level': ('info', 'debug, info, warn or error.'),
    'rviz': ('false', 'Show camera, overlay and labels in RViz.'),
}
BOOLEAN = ['true', 'false', 'True', 'False']
CHOICES = {
    'use_sim_time': BOOLEAN,
    'rviz': BOOLEAN,
    'log_level': ['debug', 'info', 'warn', 'error', 'fatal'],
}


def check(params_file, names):
    """Refuse in one line what would be ignored, or end the node in its first moment."""
    if not Path(params_file).is_file():
        msg = f'params_file {params_file!r} is not a file: give a YAML file of parameters'
        raise RuntimeError(msg)
    for name in names:
        if not re.fullmatch(r'[\w/~]+', name, re.ASCII):
            msg = f'{name!r} cannot be part of a topic: use letters, digits, _ and /'
            raise RuntimeError(msg)


def start(context):
    """Give the node and, with its topics, RViz."""
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    cameras = [name.strip() for name in values['cameras'].split(',') if name.strip()]
    images = {f'{name}/image': values['image'].replace('{camera}', name) for name in cameras}
    namespace = values['namespace'].strip('/')
    check(values['params_file'], [values['image'].replace('{camera}', ''), *cameras, namespace or '/'])
    parameters = {name: values[name] for name in ('weights', 'device', 'image_transport') if values[name]}
    if cameras:
        parameters['cameras'] = cameras
    node = Node(
        package='lw_refinenet_ros',
        executable='segmentation_node',
        name=NODE,
        namespace=values['namespace'],
        parameters=[
            values['params_file'],
            parameters | {'use_sim_time': values['use_sim_time'].lower() == 'true'},
        ],
        remappings=list((images or {'image': values['image']}).items()),
        arguments=['--ros-args', '--log-level', values['log_level']],
        output='screen',
    )
    # RViz shows the first camera; its configuration names the topics of a node without a namespace.
    names = [namespace, NODE, *cameras[:1]]
    prefix = '/' + '/'.join(name for name in names if name)
    shown = next(iter(images.values()), values['image'])
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        arguments=['-d', str(CONFIG / 'segmentation.rviz')],
        parameters=[{'use_sim_time': values['use_sim_time'].lower() == 'true'}],
        remappings=[
            ('/camera/image_raw', shown),
            *((f'/{NODE}/{view}', f'{prefix}/{view}') for view in VIEWS),
        ],
        condition=IfCondition(values['rviz']),
    )
    return [rviz, node]  # where RViz is missing nothing is started


def generate_launch_description():
    """Give the arguments, the transport that large images need, and what is started."""
    profile = str(CONFIG / 'fastdds_large_images_network.xml')
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=description, choices=CHOICES.get(name)
                )
                for name, (default, description) in ARGUMENTS.items()
            ),
            # The camera's process needs the same profile; a profile that is already set is kept.
            SetEnvironmentVariable(
                PROFILE_VARIABLE, EnvironmentVariable(PROFILE_VARIABLE, default_value=profile)
            ),
            OpaqueFunction(function=start),
        ]
    )
