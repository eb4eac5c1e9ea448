# SPDX-License-Identifier: Apache-2.0
"""What `doctor` says of a file of Nav2's parameters, without ROS."""

import json
import shlex

import pytest

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.nav2_layer import assign_types, write_layer

CLASSES = ('sky', 'road', 'car')
WRITTEN = write_layer(assign_types(CLASSES, {}), weights='tiny', node='/lw_refinenet')


@pytest.fixture
def diagnose(tmp_path, capsys, tiny_weights):
    """Run it on the text of a file; return its status, and what is wrong as (level, check, value, remedy)."""

    def run(text):
        file, report = tmp_path / 'nav2.yaml', tmp_path / 'doctor.json'
        file.write_text(text)
        status = main(
            ['doctor', '--params', str(file), '--weights', str(tiny_weights), '--json', str(report)]
        )
        content = json.loads(report.read_text())
        assert status == bool(content['faults'])
        wrong = [tuple(each.values()) for each in content['findings'] if each['level'] != 'ok']
        assert [level for level, *_ in wrong].count('fault') == content['faults']
        printed = capsys.readouterr().out
        told = ' '.join(printed.split())
        assert all(f'{check} {value} -> {remedy}' in told for _, check, value, remedy in wrong)
        return wrong

    return run


def test_what_costmap_writes_is_well(diagnose):
    assert diagnose(WRITTEN) == []


@pytest.mark.parametrize(
    ('old', 'new', 'level', 'check', 'said'),
    [
        ('plugins: [semantic_layer, ', 'plugins: [', 'fault', 'plugins', 'add semantic_layer to plugins'),
        ('[semantic_layer, inf', '[inflation_layer, semantic_layer] #', 'warning', 'plugins', 'put semantic'),
        ('enabled: true', 'enabled: false', 'warning', 'enabled', 'set enabled: true'),
        ('sync: false', 'sync: true', 'warning', 'stamps', 'set it to false'),
        ('sources: camera', "sources: ''", 'fault', 'observation_sources', 'name the sources in one string'),
        ('sources: camera', 'sources: front', 'warning', 'camera.', 'add camera to observation_sources'),
        ('sources: camera', 'sources: front', 'fault', 'front.class_types', 'the costmap ends at once'),
        ('/lw_refinenet/label_info', "''", 'fault', 'labels_topic', 'name the topic'),
        ('5.0  # metres', '5  # metres', 'fault', 'max_obstacle_distance', 'with a decimal point'),
        ('5.0  # metres', '0.2  # metres', 'fault', 'distances', 'make max_obstacle_distance the larger'),
        ('5.0  # seconds', '0.2  # seconds', 'warning', 'tile_map_decay_time', 'use several seconds'),
        ('use_cost_selection', 'use_cost_selektion', 'warning', 'selektion', "mean 'use_cost_selection'?"),
        ('max_cost: 254', 'max_cost: 255', 'fault', 'lethal.max_cost', 'write 0 to 254'),
        ("['road']", '[]', 'fault', 'camera.free', 'list its classes, or remove it from class_types'),
        ("['road']", '[{a: b}]', 'fault', 'free.classes', 'a list of quoted names'),
        ('[free, lethal, ignored]', 'free', 'fault', 'class_types', 'a list of quoted names'),
        ("['road']", '[no]', 'fault', 'free.classes', 'a list of quoted names'),
        ("['road']", "['Road']", 'fault', 'classes', '`lw_refinenet costmap` does'),
        ("['road']", "['Road', 'road']", 'warning', 'free', "did you mean 'road'?"),
        ("['road']", "['road', 'car']", 'warning', 'class car', 'list it once: free counts'),
        (", 'unlabelled'", '', 'fault', 'classes', 'list every class under a type'),
        ('class_types: [free, ', 'class_types: [', 'warning', 'free.classes', 'add free to class_types'),
    ],
)
def test_each_fault_of_a_parameter_file_is_named_with_its_remedy(diagnose, old, new, level, check, said):
    assert old in WRITTEN
    wrong = diagnose(WRITTEN.replace(old, new))
    assert [line for line in wrong if line[0] == level and check in line[1] and said in line[3]], wrong


def test_a_file_without_the_layer_and_one_that_is_none_are_refused(diagnose, capsys, tmp_path):
    ((level, _, value, remedy),) = diagnose(
        'local_costmap: {local_costmap: {ros__parameters: {plugins: [x]}}}'
    )
    assert (level, remedy) == ('fault', 'write one with `lw_refinenet costmap`')
    assert 'SemanticSegmentationLayer' in value
    assert main(['doctor', '--params', str(tmp_path / 'none.yaml')]) == 1
    assert 'none.yaml: No such file' in capsys.readouterr().err


def test_the_command_at_the_head_of_a_costmap_file_finds_nothing_wrong_with_it(
    capsys, tmp_path, tiny_weights
):
    groups, file = tmp_path / 'my groups.yaml', tmp_path / 'nav2.yaml'
    groups.write_text('name: two\nclasses: [{name: free, color: [0, 9, 0], of: [road, sky]}]')
    for options in ([], ['--class-groups', str(groups)]):
        assert main(['costmap', str(tiny_weights), *options, '--output', str(file)]) == 0
        (line,) = (each for each in file.read_text().splitlines() if each.startswith('#   lw_refinenet'))
        _, *arguments = shlex.split(line.removeprefix('#'))
        assert main([str(file) if each == 'FILE' else each for each in arguments]) == 0
        out = ' '.join(capsys.readouterr().out.split())
        assert '0 faults, 0 warnings' in out
        assert f'of {" in the groups of ".join([str(tiny_weights), *options[1:]])} listed' in out


def test_the_findings_say_whose_classes_they_are_about(capsys, tmp_path):
    file = tmp_path / 'nav2.yaml'
    file.write_text(WRITTEN)
    assert main(['doctor', '--params', str(file)]) == 1
    out = ' '.join(capsys.readouterr().out.split())
    whose = 'of camvid (--weights and --class-groups name others)'
    assert f'bicyclist not listed, of the classes {whose}: their pixels are dropped' in out
    assert main(['doctor', '--params', str(file), '--weights', 'camvid']) == 1
    out = ' '.join(capsys.readouterr().out.split())
    assert 'bicyclist not listed, of the classes of camvid: their' in out


def test_weights_are_only_for_a_file_of_parameters(capsys):
    assert main(['doctor', '--weights', 'camvid']) == 2
    assert '--weights is for --params' in capsys.readouterr().err
