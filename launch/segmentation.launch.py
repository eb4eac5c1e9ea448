# SPDX-License-Identifier: Apache-2.0
"""Start the segmentation node on one camera, or on several."""

import os
import re
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.utilities import prefix_namespace

from launch import LaunchDescription
from lw_refinenet_ros.node.process import middleware
from lw_refinenet_ros.node.process.parameter_files import ParameterFiles

NODE = 'lw_refinenet'
VIEWS = ('overlay', 'color', 'points')
CONFIG = Path(get_package_share_directory('lw_refinenet_ros')) / 'config'
MIDDLEWARE = os.environ.get('RMW_IMPLEMENTATION') or middleware.DEFAULT

ARGUMENTS = {
    'image': (
        '',
        'Image topic. Empty: /camera/image_raw, or /{camera}/image_raw with several cameras.',
    ),
    'depth': ('', 'Depth topic, for ~/points. Empty: /depth, or /{camera}/depth with several cameras.'),
    'camera_info': ('', 'camera_info topic, for ~/points. Empty: as for depth.'),
    'depth_camera_info': (
        '',
        'camera_info topic of depth that is not aligned to the image. Empty: as for depth.',
    ),
    'points': ('', 'Cloud topic, for ~/points without depth. Empty: as for depth.'),
    'cameras': ('', 'Names of several cameras, separated by commas. Empty: as in params_file.'),
    'image_transport': ('', 'raw, or compressed for the topic with /compressed. Empty: as in params_file.'),
    'weights': ('', 'Weights file, or name of shipped weights. Empty: as in params_file.'),
    'class_groups': ('', 'YAML of groups of the classes. Empty: as in params_file.'),
    'device': ('', 'auto, cuda or cpu. Empty: as in params_file.'),
    'params_file': (str(CONFIG / 'segmentation.yaml'), 'Parameter file of the node.'),
    'autostart': (
        '',
        'false: leave it to a lifecycle manager (Nav2: with bond_timeout 0.0). Empty: as in params_file.',
    ),
    'namespace': ('', 'Namespace of the node.'),
    'use_sim_time': ('', 'Use the time of /clock: true or false. Empty: as in params_file.'),
    'log_level': ('info', 'Log level of the node: debug, info, warn, error or fatal.'),
    'rviz': ('false', 'Show the camera, the overlay and the class colours in RViz.'),
}
INPUTS = {  # and their topics
    'depth': 'depth',
    'depth_camera_info': 'depth/camera_info',
    'camera_info': 'camera_info',
    'points': 'points',
}
OF_NODE = ('weights', 'class_groups', 'device', 'image_transport')
BOOLEAN = ['true', 'false', 'True', 'False']
CHOICES = {
    'autostart': [*BOOLEAN, ''],
    'use_sim_time': [*BOOLEAN, ''],
    'rviz': BOOLEAN,
    'log_level': ['debug', 'info', 'warn', 'error', 'fatal'],
}


def camera_images(image, cameras):
    """Return the image topic of each camera, keyed by the node's own topic name."""
    if not cameras:
        image = image or '/camera/image_raw'
        if '{camera}' in image:
            raise RuntimeError(f'image {image!r} needs `cameras`, whose names replace {{camera}}')
        return {'image': image}
    image = image or '/{camera}/image_raw'
    check_each('image', image, cameras)
    return {f'{name}/image': image.replace('{camera}', name) for name in cameras}


def check_each(argument, topic, cameras):
    """Refuse one topic for several cameras."""
    if topic and '{camera}' not in topic and len(cameras) > 1:
        raise RuntimeError(
            f'{argument} {topic!r} would be one topic for {len(cameras)} cameras: write /{{camera}}/NAME'
        )


def check(names):
    """Refuse names that would crash the node at start-up.

    Raises:
        RuntimeError: a name cannot be part of a topic.
    """
    for name in names:
        if not re.fullmatch(r'[\w/~]+', name, re.ASCII):
            raise RuntimeError(f'{name!r} cannot be part of a topic: use letters, digits, _ and /')


def start(context):
    """Return the node, and RViz on its topics."""
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    pushed = context.launch_configurations.get('ros_namespace')  # by a PushRosNamespace around this file
    namespace = prefix_namespace(pushed, values['namespace']).strip('/')
    path = [name for name in (namespace, NODE) if name]
    params_file = str(Path(values['params_file']).expanduser())
    try:
        files = ParameterFiles(['--params-file', params_file])
    except ValueError as error:
        raise RuntimeError(f'params_file: {error}') from error
    cameras = [name.strip() for name in values['cameras'].split(',') if name.strip()]
    parameters = {name: values[name] for name in OF_NODE if values[name]}
    if cameras:
        parameters['cameras'] = cameras
    else:
        cameras = [name for name in files.value('/' + '/'.join(path), 'cameras') or () if name]
    for name in ('use_sim_time', 'autostart'):
        if values[name]:
            parameters[name] = values[name].lower() == 'true'
    use_sim_time = parameters.get('use_sim_time', files.value('/' + '/'.join(path), 'use_sim_time'))
    images = camera_images(values['image'], cameras)
    for argument in ('camera_info', 'depth', 'depth_camera_info'):  # one lidar's `points` may be for all
        check_each(argument, values[argument], cameras)
    remappings = images | {
        f'{name}/{topic}' if name else topic: values[argument].replace('{camera}', name)
        for argument, topic in INPUTS.items()
        for name in cameras or ['']
        if values[argument]
    }
    check([*cameras, *remappings.values(), namespace or '/'])
    node = Node(
        package='lw_refinenet_ros',
        executable='segmentation_node',
        name=NODE,
        namespace=values['namespace'],
        parameters=[params_file, *([parameters] if parameters else [])],
        remappings=list(remappings.items()),
        # Only for the node: the debug messages of rcl and rmw would bury its own.
        arguments=['--ros-args', '--log-level', f'{".".join(path).replace("/", ".")}:={values["log_level"]}'],
        output='screen',
    )
    # RViz shows the first camera; its configuration names the topics of a node without a namespace.
    prefix = '/' + '/'.join([*path, *cameras[:1]])
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        namespace=values['namespace'],  # a relative image topic is then the same to both
        arguments=['-d', str(CONFIG / 'segmentation.rviz')],
        parameters=[] if use_sim_time is None else [{'use_sim_time': bool(use_sim_time)}],
        remappings=[
            ('/camera/image_raw', next(iter(images.values()))),
            *((f'/{NODE}/{view}', f'{prefix}/{view}') for view in VIEWS),
        ],
        condition=IfCondition(values['rviz']),
    )
    return [rviz, node]  # RViz first: if it is missing, nothing is started


def generate_launch_description():
    """Return the arguments, the middleware's settings for large images, and the nodes."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=description, choices=CHOICES.get(name)
                )
                for name, (default, description) in ARGUMENTS.items()
            ),
            # The camera's process needs the same settings. Those that are already made are kept.
            *(
                SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=value))
                for name, value in middleware.environment(MIDDLEWARE, CONFIG).items()
            ),
            OpaqueFunction(function=start),
        ]
    )
