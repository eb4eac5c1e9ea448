# SPDX-License-Identifier: Apache-2.0
"""The parameters of Nav2's semantic segmentation layer for the classes of any weights."""

import pytest
import yaml

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.nav2_layer import _USUAL, TYPES, Costs, assign_types, write_layer
from test.support.tiny_network import write_tiny_weights


def layer_of(text):
    return yaml.safe_load(text)['local_costmap']['local_costmap']['ros__parameters']['semantic_layer']


def classes_of(source):
    return {kind: source[kind]['classes'] for kind in source['class_types']}


def test_every_class_and_the_unlabelled_have_one_type_each_chosen_or_usual_for_the_name(capsys, tiny_weights):
    assert main(['costmap', str(tiny_weights), '--careful', 'road']) == 0
    source = layer_of(capsys.readouterr().out)['camera']
    assert classes_of(source) == {'careful': ['road'], 'lethal': ['car'], 'ignored': ['sky', 'unlabelled']}
    for kind in source['class_types']:
        assert {'classes', 'base_cost', 'max_cost'} <= set(source[kind])
        assert vars(TYPES[kind]) == vars(Costs(**{n: v for n, v in source[kind].items() if n != 'classes'}))


def test_a_class_of_no_usual_name_is_careful():
    types = assign_types(('Traffic_Sign', 'gewgaw', 'LANE-MARKING'), {})
    assert types == {
        'free': ('LANE-MARKING',),
        'careful': ('Traffic_Sign', 'gewgaw'),
        'ignored': ('unlabelled',),
    }


@pytest.mark.parametrize(
    ('kind', 'names'),
    [
        ('free', ('drivable', 'Drivable_Area', 'traversable', 'walkable', 'free-space', 'lane', 'floor')),
        ('careful', ('terrain', 'bush', 'mud', 'dirt')),
        ('lethal', ('obstacle', 'human', 'forklift', 'pallet', 'shelf', 'glass', 'door', 'curb', 'cliff')),
        ('lethal', ('traffic_cone', 'non-drivable', 'rack', 'furniture', 'stairs')),
    ],
)
def test_names_that_robots_meet_have_their_usual_type(kind, names):
    assert assign_types(names, {})[kind] == names


def test_no_name_has_two_usual_types():
    names = [name for listed in _USUAL.values() for name in listed.split(', ')]
    assert len(names) == len(set(names))


def test_the_classes_whose_type_is_a_guess_are_named_in_the_file_and_in_the_printed_line(capsys, tmp_path):
    weights = write_tiny_weights(tmp_path / 'w.safetensors', seed=1, names=('road', 'gewgaw', 'thing'))
    file = tmp_path / 'nav2.yaml'
    guess = 'careful by guess: gewgaw, thing; choose by --free, --careful, --lethal, --ignored\n'
    assert main(['costmap', str(weights), '--output', str(file)]) == 0
    assert capsys.readouterr().out.endswith(f'free 1, careful 2, ignored 1 classes; {guess}')
    assert f'\n# {guess}local_costmap:' in file.read_text()
    assert layer_of(file.read_text())['camera']['careful']['classes'] == ['gewgaw', 'thing']
    chosen = ['--careful', 'thing', '--lethal', 'gewgaw']
    assert main(['costmap', str(weights), '--output', str(file), *chosen]) == 0
    assert 'guess' not in capsys.readouterr().out + file.read_text()


def test_an_unknown_class_and_one_of_two_types_are_refused_with_the_remedy(capsys):
    assert main(['costmap', '--free', 'raod']) == 1
    assert "unknown class 'raod': did you mean 'road'?" in capsys.readouterr().err
    assert main(['costmap', '--free', 'road', '--lethal', 'road']) == 1
    assert "'road' is chosen as free and as lethal: choose one" in capsys.readouterr().err
    assert main(['costmap', '--cameras', 'a b']) == 1
    assert "'a b' cannot be part of a topic" in capsys.readouterr().err
    assert main(['costmap', '--cameras', '/front']) == 1
    assert "'/front' cannot be part of a topic" in capsys.readouterr().err


@pytest.mark.parametrize('cameras', [('front/left', 'front_left'), ('enabled',)])
def test_cameras_whose_names_collide_in_the_layer_are_refused(cameras):
    with pytest.raises(ValueError, match=f'cameras {", ".join(cameras)}: .*: rename one'):
        write_layer({'free': ('road',)}, weights='x', node='/n', cameras=cameras)


def test_each_camera_is_a_source_with_topics_of_its_own_and_one_label_info():
    text = write_layer({'free': ('road',)}, weights='x', node='/robot/seg', cameras=('front', 'left/rear'))
    layer = layer_of(text)
    assert layer['observation_sources'] == 'front left_rear'
    assert layer['left_rear']['segmentation_topic'] == '/robot/seg/left/rear/points/label'
    assert {layer[source]['labels_topic'] for source in ('front', 'left_rear')} == {'/robot/seg/label_info'}


def test_names_stay_text_whatever_they_mean_in_yaml():
    names = ('no', '255', 'y', "driver's cab", 'a: b', '~')
    source = layer_of(write_layer(assign_types(names, {}), weights='a\nb: c', node='/n'))['camera']
    assert source['careful']['classes'] == list(names)


def test_its_file_is_replaced_and_another_is_not(capsys, tmp_path):
    file = tmp_path / 'nav2.yaml'
    assert main(['costmap', '--output', str(file)]) == 0
    assert main(['costmap', '--output', str(file), '--ignored', 'tree']) == 0
    assert 'tree' in layer_of(file.read_text())['camera']['ignored']['classes']
    file.write_text('local_costmap: {}')
    assert main(['costmap', '--output', str(file)]) == 1
    assert 'exists and is not the layer of this command' in capsys.readouterr().err


@pytest.mark.parametrize('weights', ['camvid', 'camvid_mobilenet_v2'])
def test_the_page_about_nav2_shows_what_is_written_for_the_shipped_weights(capsys, weights):
    from lw_refinenet_ros.resources import share_path

    assert main(['costmap', weights]) == 0
    page = layer_of(share_path('docs/nav2.md').read_text().split('```yaml\n')[1].split('```')[0])
    assert layer_of(capsys.readouterr().out) == page
