# SPDX-License-Identifier: Apache-2.0
"""Groups take the place of the classes in labels, names and colours."""

import json

import cv2
import numpy as np
import pytest
import yaml

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.class_groups import read_groups
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.image.label_png import read_label_png, write_label_png
from lw_refinenet_ros.labels import LabelSet
from test.support.recordings import pictures

GROUPS = {  # of the tiny weights' sky, road and car: the sky is in none
    'name': 'needed',
    'classes': [
        {'name': 'lethal', 'color': [255, 0, 0], 'of': ['car']},
        {'name': 'ground', 'color': [0, 255, 0], 'of': ['road']},
    ],
}
IDS = np.array([255, 1, 0] + [255] * 253, np.uint8)  # of the classes in these groups


@pytest.fixture
def groups(tmp_path):
    path = tmp_path / 'groups.yaml'
    path.write_text(yaml.safe_dump(GROUPS))
    return path


@pytest.mark.parametrize('engine', ['torch', 'openvino'])
def test_the_label_of_a_pixel_is_the_group_of_its_class_and_nothing_else_changes(
    tiny_weights, street, groups, engine
):
    pytest.importorskip(engine)
    plain = Segmenter.load(tiny_weights, engine=engine, precision='fp32', threads=1)
    grouped = plain.grouped(read_groups(groups))
    before, after = (each.segment(street, confidence=True) for each in (plain, grouped))
    assert set(np.unique(before.label)) == {0, 1, 2}, 'a picture of one class proves nothing'
    np.testing.assert_array_equal(after.label, IDS[before.label])
    np.testing.assert_array_equal(after.confidence, before.confidence)
    assert after.labels.names == ('lethal', 'ground')
    assert tuple(after.color()[before.label == 2][0]) == (255, 0, 0)
    np.testing.assert_array_equal(grouped.grouped(None).segment(street).label, before.label)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'of': ['cat']}, "group 'lethal': unknown class 'cat': did you mean 'car'?"),
        ({'of': ['car', 'road']}, "class 'road' is listed twice"),
        ({'of': 'car'}, "group 'lethal' needs `of`, a list of names of classes"),
        ({'color': [1, 2, 256]}, "the colour of class 'lethal' must be"),
    ],
)
def test_groups_that_cannot_be_are_refused_in_one_line(tiny_weights, tmp_path, groups, capsys, change, said):
    first, second = GROUPS['classes']
    groups.write_text(yaml.safe_dump({**GROUPS, 'classes': [first | change, second]}))
    assert main(['costmap', str(tiny_weights), '--class-groups', str(groups)]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count('\n') == 1
    with pytest.raises(ValueError, match=r'class_groups: .*none\.yaml'):
        read_groups(tmp_path / 'none.yaml')


def test_a_costmap_is_written_for_the_groups_each_under_the_type_of_its_name(tiny_weights, groups, capsys):
    assert main(['costmap', str(tiny_weights), '--class-groups', str(groups)]) == 0
    text = capsys.readouterr().out
    layer = yaml.safe_load(text)['local_costmap']['local_costmap']['ros__parameters']['semantic_layer']
    source = layer['camera']
    found = {kind: source[kind]['classes'] for kind in source['class_types']}
    assert found == {'free': ['ground'], 'lethal': ['lethal'], 'ignored': ['unlabelled']}


@pytest.fixture
def data(tmp_path, street, segmenter):
    """Pictures, masks of the weights' classes that are wrong in places, and an ignore mask."""
    import cv2

    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    for index, image in enumerate(pictures(street, 2)):
        cv2.imwrite(str(tmp_path / 'images' / f'{index}.png'), image[..., ::-1])
        truth = np.roll(segmenter.segment(image).label, 9, 1)
        write_label_png(tmp_path / 'labels' / f'{index}.png', truth)
    ignored = np.zeros(street.shape[:2], np.uint8)
    ignored[50:] = 1
    write_label_png(tmp_path / 'body.png', ignored)
    return tmp_path


def run(tiny_weights, *arguments):
    engine = ['--weights', tiny_weights, '--engine', 'torch', '--precision', 'fp32', '--threads', 1]
    return main([*map(str, [*arguments, *engine])])


def test_groups_are_scored_against_groups_whatever_classes_the_masks_have(
    data, tiny_weights, groups, segmenter
):
    def evaluate(*more):
        out = data / 'out.json'
        options = ['--images', data / 'images', '--labels', data / 'labels', '--class-groups', groups]
        assert run(tiny_weights, 'evaluate', *options, '--json', out, *more) == 0
        return json.loads(out.read_text())

    expected = np.zeros((2, 3), int)
    for path in sorted((data / 'labels').iterdir()):
        truth = IDS[read_label_png(path)]
        label = IDS[np.roll(read_label_png(path), -9, 1)]
        for true, found in ((true, found) for true in range(2) for found in (0, 1, 255)):
            expected[true, min(found, 2)] += np.count_nonzero((truth == true) & (label == found))
    result = evaluate()
    assert result['confusion_matrix'] == expected.tolist()
    assert set(result['per_class_iou']) == {'lethal', 'ground'}
    assert result['conditions']['class_groups'] == 'lethal: car; ground: road'
    for path in (data / 'labels').iterdir():
        write_label_png(path, IDS[read_label_png(path)])
    (data / 'classes.yaml').write_text(yaml.safe_dump(GROUPS))  # the masks hold the groups themselves
    assert evaluate()['confusion_matrix'] == expected.tolist()
    ignoring = evaluate('--ignore-mask', data / 'body.png')
    scored = [read_label_png(path)[:50] for path in (data / 'labels').iterdir()]
    assert np.sum(ignoring['confusion_matrix']) == sum(np.count_nonzero(truth < 2) for truth in scored)


def test_two_weights_are_compared_by_groups_and_frames_labelled_and_shown_with_them(
    data, tiny_weights, groups, segmenter, street, capsys
):
    grouped = ['--class-groups', groups]
    both = ['--images', data / 'images', '--labels', data / 'labels', '--json', data / 'both.json', *grouped]
    engine = ['--engine', 'torch', '--precision', 'fp32', '--threads', 1]
    assert main([*map(str, ['compare', tiny_weights, tiny_weights, *both, *engine])]) == 0
    compared = json.loads((data / 'both.json').read_text())
    assert set(compared['per_class_iou']) == {'lethal', 'ground'}
    assert compared['after']['conditions']['class_groups'] == 'lethal: car; ground: road'
    assert main(['compare', 'a.json', 'b.json', '--class-groups', str(groups)]) == 2
    drafts = ['--output', data / 'drafts', '--every', 1, *grouped]
    assert run(tiny_weights, 'label', data / 'images', *drafts) == 0
    for index, image in enumerate(pictures(street, 2)):
        mask = read_label_png(data / 'drafts' / 'labels' / f'{index}.png')
        np.testing.assert_array_equal(mask, IDS[segmenter.segment(image).label])
    assert LabelSet.from_yaml(data / 'drafts' / 'classes.yaml').names == ('lethal', 'ground')
    assert main(['view', '--node', '--class-groups', str(groups)]) == 2
    assert '--node shows what the node publishes' in capsys.readouterr().err


def test_segment_writes_groups_masks_of_them_and_leaves_out_the_robots_body(
    data, tiny_weights, groups, segmenter, street, capsys
):
    out = data / 'out'
    options = ['--class-groups', groups, '--ignore-mask', data / 'body.png', '--output', out]
    assert run(tiny_weights, 'segment', data / 'images', *options, '--mask-classes', 'ground') == 0
    for index, image in enumerate(pictures(street, 2)):
        expected = IDS[segmenter.segment(image).label]
        expected[50:] = 255
        np.testing.assert_array_equal(read_label_png(out / 'labels' / f'{index}.png'), expected)
        mask = read_label_png(out / 'masks' / f'{index}.png')
        np.testing.assert_array_equal(mask, np.where(expected == 1, 255, 0))
    assert run(tiny_weights, 'segment', data / 'images', *options, '--mask-classes', 'road') == 1
    assert "no class 'road': needed has lethal, ground" in capsys.readouterr().err
    write_label_png(data / 'body.png', np.zeros((5, 7), np.uint8))
    assert run(tiny_weights, 'segment', data / 'images', *options) == 1
    assert 'ignore_mask is 7x5, the image 128x96' in capsys.readouterr().err


def test_label_refuses_groups_that_the_classes_above_its_output_do_not_have(
    tiny_weights, tmp_path, groups, street, capsys
):
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images' / '0.png'), street)
    (tmp_path / 'classes.yaml').write_text('name: yard\nclasses: [{name: pallet, color: [0, 255, 0]}]\n')
    draft = ['label', str(tmp_path / 'images'), '--output', str(tmp_path / 'yard'), '--engine', 'torch']
    draft += ['--weights', str(tiny_weights), '--class-groups', str(groups)]
    assert main(draft) == 1
    assert 'none of the groups is among the classes of' in capsys.readouterr().err
    assert not (tmp_path / 'yard').exists()
    assert main([*draft, '--output', str(tmp_path / 'yard' / 'grouped')]) == 0
