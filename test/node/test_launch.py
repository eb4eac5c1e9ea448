# SPDX-License-Identifier: Apache-2.0
"""The launch files, run by the real launch packages where these are installed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')
pytest.importorskip('launch_ros', reason='launch_ros is not installed: it comes with ROS only')

import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, PointCloud2

from test.support import ROOT
from test.support.launching import install, launch_program
from test.support.node_process import PATIENCE_S  # importing it also keeps the test's messages to itself

pytestmark = pytest.mark.ros

FILES = sorted((ROOT / 'launch').glob('*.launch.py'), key=lambda file: file.name)


@pytest.fixture(scope='module')
def prefixes(tmp_path_factory):
    """The value of AMENT_PREFIX_PATH: this checkout before an installed ROS."""
    return install(tmp_path_factory.mktemp('prefix'))


@pytest.fixture
def launch(prefixes, tmp_path):
    """Start a launch file in a process group of its own; what is left of it at the end is killed."""
    started = []

    def start(file, *arguments, pushed=''):
        command = [sys.executable, '-c', launch_program(file, *arguments, pushed=pushed)]
        environment = {
            **os.environ,
            'AMENT_PREFIX_PATH': prefixes,
            'ROS_LOG_DIR': str(tmp_path / 'log'),
        }
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if processes_of(process):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def processes_of(process):
    """The living processes of a launch, by their group."""
    listed = subprocess.run(['ps', '-o', 'pid=', '-g', str(process.pid)], capture_output=True, check=False)
    return listed.stdout.split()


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_every_argument_is_described(prefixes, monkeypatch, file):
    from launch.launch_context import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    monkeypatch.setenv('AMENT_PREFIX_PATH', prefixes)
    description = PythonLaunchDescriptionSource(str(file)).get_launch_description(LaunchContext())
    arguments = description.get_launch_arguments()
    assert {'image', 'weights', 'rviz'} <= {argument.name for argument in arguments}
    for argument in arguments:
        assert argument.description not in {'', 'no description given'}, argument.name


@pytest.mark.parametrize(
    ('file', 'argument', 'said'),
    [
        ('segmentation', 'use_sim_time:=maybe', '"use_sim_time" provided value "maybe" is not valid'),
        ('segmentation', 'log_level:=loud', '"log_level" provided value "loud" is not valid'),
        ('segmentation', 'params_file:=/none.yaml', 'params_file: /none.yaml: No such file or directory'),
        ('segmentation', 'image:=/{camera}/view', "image '/{camera}/view' needs `cameras`"),
        ('multi_camera', 'image:=/view', "image '/view' would be one topic for 2 cameras"),
        ('multi_camera', 'camera_info:=/lens', "camera_info '/lens' would be one topic for 2 cameras"),
        ('multi_camera', 'depth:=/far', "depth '/far' would be one topic for 2 cameras"),
        ('segmentation', 'image:=a b', "'a b' cannot be part of a topic"),
        ('multi_camera', 'cameras:=front,re ar', "'re ar' cannot be part of a topic"),
        ('segmentation', 'depth:=a b', "'a b' cannot be part of a topic"),
        ('webcam', 'rviz:=perhaps', '"rviz" provided value "perhaps" is not valid'),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_before_anything_starts(launch, file, argument, said):
    process = launch(f'{file}.launch.py', argument)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert said in output
    assert 'Traceback' not in output
    assert 'process started' not in output


def test_a_source_that_cannot_be_played_ends_the_launch(launch, tmp_path):
    process = launch('replay.launch.py', f'bag:={tmp_path}/none', 'rviz:=false')
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert f'{tmp_path}/none does not exist' in output
    assert process.returncode == 1
    assert not processes_of(process)


@pytest.fixture
def client():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('client', context=context, use_global_arguments=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield node
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def spin_until(client, process, condition):
    end = time.monotonic() + PATIENCE_S
    while not condition() and process.poll() is None and time.monotonic() < end:
        client.executor.spin_once(timeout_sec=0.1)


def interrupt(process):
    """End a launch as a terminal does, and return what it printed."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert 'Traceback' not in output, output
    assert 'process has died' not in output, output
    assert not processes_of(process)
    return output


@pytest.fixture
def video(street, tmp_path):
    path = tmp_path / 'street.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, street.shape[1::-1])
    for _ in range(10):
        writer.write(street)
    writer.release()
    return path


@pytest.mark.parametrize(('file', 'source'), [('webcam', 'source'), ('replay', 'bag')])
def test_a_video_is_segmented_under_the_names_that_were_asked_for_until_an_interrupt(
    launch, client, tiny_weights, street, video, file, source
):
    labels = []
    client.create_subscription(Image, '/robot/lw_refinenet/label', labels.append, 1)
    names = ('namespace:=/robot', 'image:=/robot/view', f'weights:={tiny_weights}', 'rviz:=false')
    loop = ('loop:=true',) if file == 'replay' else ()
    process = launch(f'{file}.launch.py', f'{source}:={video}', *names, *loop)
    spin_until(client, process, lambda: labels)
    output = interrupt(process)
    assert labels, output
    assert (labels[0].height, labels[0].width) == street.shape[:2]


@pytest.mark.parametrize(('given_name', 'pushed'), [('robot', ''), ('', 'robot'), ('/robot', 'fleet')])
def test_the_layer_is_written_for_the_parameter_file_and_the_node_takes_the_depth_until_an_interrupt(
    launch, client, tiny_weights, tmp_path, given_name, pushed
):
    layer = tmp_path / 'layer.yaml'
    (tmp_path / 'my.yaml').write_text(
        f'/robot/lw_refinenet:\n  ros__parameters: {{weights: {tiny_weights}, cameras: [left]}}\n'
    )
    topics = ('image:=/view', 'depth:=/range', 'camera_info:=/lens', f'namespace:={given_name}')
    given = (f'layer:={layer}', f'params_file:={tmp_path}/my.yaml', 'costs:=--lethal car --free road sky')
    process = launch('nav2_semantic.launch.py', *topics, *given, pushed=pushed)
    client.create_subscription(PointCloud2, '/robot/lw_refinenet/left/points', lambda _: None, 1)
    client.create_publisher(Image, '/range', 1)

    def settled():
        left = processes_of(process)  # `costmap` is done: the launch and the node
        return layer.exists() and client.count_subscribers('/range') and len(left) == 2

    spin_until(client, process, settled)
    subscribed = [client.count_subscribers(topic) for topic in ('/view', '/range', '/lens')]
    output = interrupt(process)
    assert subscribed == [1, 1, 1], output
    assert "classes: ['sky', 'road']" in layer.read_text()
    assert 'segmentation_topic: /robot/lw_refinenet/left/points/label' in layer.read_text()


def test_costs_of_unknown_classes_end_the_launch(launch, tiny_weights, tmp_path):
    layer = f'layer:={tmp_path}/layer.yaml'
    process = launch('nav2_semantic.launch.py', f'weights:={tiny_weights}', layer, 'costs:=--free raod')
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert "unknown class 'raod': did you mean 'road'?" in output
    assert process.returncode == 1
    assert not processes_of(process)


@pytest.mark.parametrize('file', ['segmentation', 'multi_camera'])
def test_cameras_are_an_argument(launch, client, tiny_weights, file):
    process = launch(f'{file}.launch.py', 'cameras:=left,right', f'weights:={tiny_weights}')
    for camera in ('left', 'right'):
        client.create_subscription(Image, f'/lw_refinenet/{camera}/label', lambda _: None, 1)
    topics = ['/left/image_raw', '/right/image_raw']
    spin_until(client, process, lambda: all(map(client.count_subscribers, topics)))
    seen = [topic for topic in topics if client.count_subscribers(topic)]
    output = interrupt(process)
    assert seen == topics, output


@pytest.mark.parametrize('file', ['segmentation', 'multi_camera'])
def test_the_parameter_file_says_cameras_and_the_clock(
    launch, client, tiny_weights, tmp_path, monkeypatch, file
):
    monkeypatch.setenv('HOME', str(tmp_path))
    values = f'weights: {tiny_weights}\n    use_sim_time: true\n    cameras: [left, right]'
    (tmp_path / 'my.yaml').write_text(f'lw_refinenet:\n  ros__parameters:\n    {values}\n')
    process = launch(
        f'{file}.launch.py', 'params_file:=~/my.yaml', 'image:=/{camera}/view', 'log_level:=debug'
    )
    for camera in ('left', 'right'):
        client.create_subscription(Image, f'/lw_refinenet/{camera}/label', lambda _: None, 1)
    topics = ['/left/view', '/right/view', '/clock']
    spin_until(client, process, lambda: all(map(client.count_subscribers, topics)))
    seen = [topic for topic in topics if client.count_subscribers(topic)]
    output = interrupt(process)
    assert seen == topics, output
    assert '[DEBUG]' not in output.replace('[lw_refinenet]', '')


@pytest.mark.parametrize(('given_name', 'pushed'), [('robot', ''), ('', 'robot')])
def test_rviz_is_given_the_topics_of_the_node_and_its_clock_only_where_that_is_said(
    launch, client, prefixes, tmp_path, given_name, pushed
):
    prefix, seen = Path(prefixes.split(os.pathsep)[0]), tmp_path / 'seen'
    program = prefix / 'lib/rviz2/rviz2'
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\necho "$@" > {seen}\n')
    program.chmod(0o755)
    (prefix / 'share/ament_index/resource_index/packages/rviz2').touch()
    names = (f'namespace:={given_name}', 'image:=view', 'autostart:=false', 'rviz:=true')
    process = launch('segmentation.launch.py', *names, pushed=pushed)
    spin_until(client, process, lambda: seen.exists() and client.count_publishers('/diagnostics'))
    output = interrupt(process)
    given = seen.read_text()
    assert '-r __ns:=/robot -r /camera/image_raw:=view' in given, output
    assert '-r /lw_refinenet/overlay:=/robot/lw_refinenet/overlay' in given
    assert '--params-file' not in given, 'the launch file that includes this one may have set use_sim_time'
