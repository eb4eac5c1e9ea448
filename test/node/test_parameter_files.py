# SPDX-License-Identifier: Apache-2.0
"""Names in parameter files and on the command line are those of the node, or it says so."""

import subprocess
import sys

import pytest
import yaml

pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')

from rcl_interfaces.msg import ParameterType

from lw_refinenet_ros.node.parameters import PARAMETERS, refusal
from lw_refinenet_ros.node.process.parameter_files import ParameterFiles
from lw_refinenet_ros.resources import share_path
from test.support.node_process import PATIENCE_S, NodeProcess  # importing it also keeps the node to itself

pytestmark = pytest.mark.ros

NODE = '/robot/lw_refinenet'
NAMES = [p.name for p in PARAMETERS]
MAIN = [sys.executable, '-m', 'lw_refinenet_ros.node.main']


@pytest.fixture
def check(tmp_path):
    def of(text, *arguments, node=NODE):
        file = tmp_path / 'params.yaml'
        file.write_text(text)
        files = ParameterFiles(['node', '--ros-args', '--params-file', str(file), *arguments])
        return files.check(node, NAMES, {*NAMES, 'use_sim_time'}.__contains__)

    return of


def section(name, parameter='overlay_alfa'):
    return f'{name}:\n  ros__parameters:\n    {parameter}: 0.5\n'


@pytest.mark.parametrize(
    'name', ['/robot/lw_refinenet', '/**/lw_refinenet', '/*/lw_refinenet', 'robot/lw_refinenet']
)
def test_an_unknown_name_in_the_nodes_own_section_is_refused_with_the_nearest_and_the_list(check, name):
    said = (
        r"no parameter is called 'overlay_alfa', did you mean 'overlay_alpha'\?; there are weights, .*enabled"
    )
    with pytest.raises(ValueError, match=said):
        check(section(name))
    assert check(section(name, 'overlay_alpha')) == []


def test_a_section_in_a_namespace_of_its_own_is_found(check):
    with pytest.raises(ValueError, match='overlay_alfa'):
        check('robot:\n  lw_refinenet:\n    ros__parameters:\n      overlay_alfa: 0.5\n')


@pytest.mark.parametrize('name', ['/**', '/robot/*', '/robot/**'])
def test_an_unknown_name_that_may_be_meant_for_another_node_is_warned_of(check, name):
    (warning,) = check(section(name))
    assert "'overlay_alfa', did you mean 'overlay_alpha'?" in warning
    assert name in warning


def test_a_file_for_other_nodes_is_warned_of(check):
    (warning,) = check(section('/lw_refinenet', 'weights') + section('camera', 'rate'))
    assert warning.endswith(
        'has no section for /robot/lw_refinenet; it has those of /lw_refinenet, /camera: '
        'call one /robot/lw_refinenet, or /**/lw_refinenet for any namespace'
    )


def test_an_empty_file_is_warned_of_as_rcl_takes_it(check):
    (warning,) = check('# nothing yet\n')
    assert 'it has those of none: call one /robot/lw_refinenet' in warning


def test_names_that_the_node_declares_later_are_known(check):
    text = section('/**/lw_refinenet', 'qos_overrides./robot/lw_refinenet/label.publisher.depth')
    assert check(text + '    use_sim_time: true\n') == []
    nested = 'qos_overrides:\n      /robot/lw_refinenet/label: {publisher: {depth: 5}}\n'
    assert check(f'/**/lw_refinenet:\n  ros__parameters:\n    {nested}') == []


def test_an_unknown_name_on_the_command_line_is_warned_of(check):
    (warning,) = check(section('/**', 'weights'), '-p', 'weigths:=camvid', '-p', 'camera:rate:=3')
    assert "'weigths', did you mean 'weights'?" in warning
    assert 'camera:rate' not in warning, 'which is for another node'


@pytest.mark.parametrize('rule', ['class_groups:=', 'weights=camvid', 'lw_refinenet:weights:='])
def test_a_parameter_without_a_value_is_refused_with_how_to_write_one(rule):
    with pytest.raises(
        ValueError, match=f'^-p {rule} has no value: write NAME:=VALUE, and for an empty text'
    ):
        ParameterFiles(['node', '--ros-args', '-p', rule])


@pytest.mark.parametrize('node', ['/lw_refinenet', '/a/b/lw_refinenet'])
def test_the_shipped_file_is_for_the_node_in_any_namespace(check, node):
    assert check(share_path('config/segmentation.yaml').read_text(), node=node) == []


def test_a_node_with_an_unknown_parameter_ends_with_one_line(tmp_path):
    file = tmp_path / 'params.yaml'
    file.write_text(section('lw_refinenet'))
    done = subprocess.run(
        [*MAIN, '--ros-args', '--params-file', file], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert "did you mean 'overlay_alpha'?" in done.stderr


@pytest.mark.parametrize(
    ('text', 'where'),
    [
        ('lw_refinenet:\n  ros_parameters:\n    threads: 2\n', '/lw_refinenet/ros_parameters/threads'),
        ('camera: {rate: [5]}\n' + section('/**', 'threads'), '/camera/rate'),
        ('threads: 2\n', '/threads'),
        ('lw_refinenet:\n', '/lw_refinenet'),
    ],
)
def test_a_value_outside_the_parameters_of_a_node_is_named_with_where_to_write_it(check, text, where):
    with pytest.raises(ValueError, match=rf'params.yaml: {where} is not below ros__parameters: write NODE: '):
        check(text)


def test_help_explains_every_parameter_and_starts_nothing():
    done = subprocess.run([*MAIN, '--help'], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0
    assert done.stdout.startswith('usage: segmentation_node')
    assert all(f'\n  {name} ' in done.stdout for name in NAMES)


def test_arguments_without_ros_args_are_refused():
    done = subprocess.run(
        [*MAIN, '-p', 'weights:=camvid'], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 2
    assert done.stderr.endswith('unknown without --ros-args: -p weights:=camvid\n')


def test_a_remapping_without_r_is_one_line_with_the_remedy():
    command = [*MAIN, '--ros-args', 'image:=/camera/x']
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "unknown arguments ['image:=/camera/x'] after --ros-args: write -r TOPIC:=NAME" in line


@pytest.mark.parametrize(
    ('section', 'ours'),
    [
        ('/**', True),
        ('/*', False),
        ('/*/*', True),
        ('/robot/*', True),
        ('/robot/**', True),
        ('/**/lw_refinenet', True),
        ('/**/**/robot/**/lw_refinenet/**', True),
        ('robot/lw_refinenet', True),
        ('/robot', False),
        ('/robot/lw_refinenet/*', False),
        ('/*/**/*/*', False),
        ('/**/camera', False),
        ('/other/**', False),
        ('/**' * 60_000 + '/camera', False),
    ],
)
def test_a_section_is_for_the_nodes_that_its_wildcards_stand_for(tmp_path, section, ours):
    file = tmp_path / 'parameters.yaml'
    file.write_text(f'? {section}\n: {{ros__parameters: {{threads: 2}}}}\n')
    files = ParameterFiles(['--params-file', str(file)])
    assert files.value('/robot/lw_refinenet', 'threads') == (2 if ours else None)


def test_of_values_that_are_given_twice_the_last_counts(tmp_path):
    arguments = []
    for threads in (2, 3):
        file = tmp_path / f'{threads}.yaml'
        file.write_text(f'/**:\n  ros__parameters: {{threads: {threads}}}\n')
        arguments += ['--params-file', str(file)]
    assert ParameterFiles(arguments).value(NODE, 'threads') == 3


@pytest.mark.parametrize('name', ['network_height', 'network_width'])
def test_a_network_of_less_than_a_cell_is_refused(name):
    values = {parameter.name: parameter.default for parameter in PARAMETERS}
    assert refusal(values | {name: 32}, None) == ''
    assert refusal(values | {name: 31}, None) == (
        f'{name} 31 is smaller than one cell of the network: use 0 or at least 32'
    )


def test_a_whole_number_in_a_parameter_file_is_taken_for_a_double(tmp_path, tiny_weights):
    file = tmp_path / 'parameters.yaml'
    values = {'weights': str(tiny_weights), 'overlay_alpha': 1, 'max_rate': 5, 'min_confidence': 0.25}
    file.write_text(yaml.safe_dump({'/**/lw_refinenet': {'ros__parameters': values}}))
    running = NodeProcess(parameter_file=file)
    try:
        got = running.get('overlay_alpha', 'max_rate', 'min_confidence')
        assert {each.type for each in got} == {ParameterType.PARAMETER_DOUBLE}
        assert [each.double_value for each in got] == [1.0, 5.0, 0.25]
        assert running.set(max_rate=7)[0].successful
    finally:
        running.close()


def test_a_list_of_a_launch_file_is_read_as_launch_ros_writes_it(tmp_path, tiny_weights):
    file = tmp_path / 'launch_params'
    values = {'weights': str(tiny_weights), 'cameras': ('left', 'right'), 'mask_classes': ('road',)}
    file.write_text(yaml.dump({'/lw_refinenet': {'ros__parameters': values}}))
    assert '!!python/tuple' in file.read_text()
    running = NodeProcess(parameter_file=file)
    try:
        got = running.get('cameras', 'mask_classes')
        assert [list(each.string_array_value) for each in got] == [['left', 'right'], ['road']]
    finally:
        running.close()
