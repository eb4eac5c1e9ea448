# SPDX-License-Identifier: Apache-2.0
"""Masks of other classes than the weights': refused in words, or mapped."""

import json

import numpy as np
import pytest
import yaml

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.evaluation.confusion import Confusion
from lw_refinenet_ros.evaluation.mask_map import MaskMap
from lw_refinenet_ros.image.label_png import write_label_png
from lw_refinenet_ros.labels import LabelSet
from test.support.recordings import pictures, record, stamps
from test.support.tiny_network import write_tiny_weights

FRAMES = 3
OTHERS = ('lane', 'kerb', 'firmament', 'tram')  # lane and kerb are road, a tram is left out
MAP = {'lane': 'road', 'kerb': 'road', 'firmament': 'sky', 'tram': 255}
LABELS = LabelSet('three', ('sky', 'road', 'car'), ((0, 0, 0),) * 3)


def classes_yaml(names):
    return yaml.safe_dump(LabelSet('other', names, ((1, 2, 3),) * len(names)).to_dict())


@pytest.fixture
def labels(street, tiny_weights):
    segmenter = Segmenter.load(str(tiny_weights), engine='torch', precision='fp32', threads=1)
    return [segmenter.segment(image).label for image in pictures(street, FRAMES)]


@pytest.fixture
def masks(labels):
    """Ids of the other classes; sky is the firmament, road is lane and kerb, a car a tram."""
    found = []
    for label in labels:
        mask = np.choose(label, [2, 0, 3]).astype(np.uint8)
        mask[:, :40][mask[:, :40] == 0] = 1
        mask[:8] = 2
        found.append(mask)
    return found


@pytest.fixture
def data(tmp_path, street, masks):
    """images/, labels/ and the classes.yaml of the masks."""
    import cv2

    for kind in ('images', 'labels'):
        (tmp_path / kind).mkdir()
    for index, (image, mask) in enumerate(zip(pictures(street, FRAMES), masks)):
        cv2.imwrite(str(tmp_path / 'images' / f'{index}.png'), image[..., ::-1])
        write_label_png(tmp_path / 'labels' / f'{index}.png', mask)
    (tmp_path / 'classes.yaml').write_text(classes_yaml(OTHERS))
    (tmp_path / 'map.yaml').write_text(yaml.safe_dump(MAP))
    return tmp_path


@pytest.fixture
def evaluate(tmp_path, tiny_weights, capsys):
    """Run the command; return its exit code, its JSON and what it wrote on standard error."""

    def run(*arguments, command='evaluate', weights=('--weights',)):
        path = tmp_path / 'result.json'
        path.unlink(missing_ok=True)
        given = [*weights, tiny_weights, '--engine', 'torch', '--precision', 'fp32', '--threads', 1]
        status = main([command, *map(str, [*given, *arguments, '--json', path])])
        return status, json.loads(path.read_text()) if path.exists() else None, capsys.readouterr().err

    return run


def expected(labels, masks):
    """Check what the map says: trams have no truth, and predicted cars are misses of no class."""
    confusion = Confusion(3)
    for label, mask in zip(labels, masks):
        truth = np.choose(mask, [1, 1, 0, 255]).astype(np.uint8)
        confusion.update(np.where(label == 2, 255, label).astype(np.uint8), truth)
    return confusion


def test_masks_of_other_classes_are_refused_before_an_engine_is_loaded(data, evaluate):
    status, result, error = evaluate('--images', data / 'images', '--labels', data / 'labels')
    assert (status, result) == (1, None)
    assert 'classes.yaml lists lane, kerb, firmament, tram; the weights have sky, road, car' in error
    assert '--map FILE' in error
    assert error.count('\n') == 1


def test_masks_of_the_same_classes_are_scored_whatever_their_colours(data, evaluate):
    (data / 'classes.yaml').write_text(classes_yaml(('sky', 'road', 'car')))
    for path in (data / 'labels').iterdir():
        write_label_png(path, np.zeros((96, 128), np.uint8))
    status, result, error = evaluate('--images', data / 'images', '--labels', data / 'labels')
    assert status == 0, error
    assert 'map' not in result['conditions']
    assert 'no classes.yaml' not in error
    above = (data / 'classes.yaml').rename(data.parent / 'classes.yaml')  # of several data folders
    _, again, error = evaluate('--images', data / 'images', '--labels', data / 'labels')
    assert (again['miou'], 'no classes.yaml' in error) == (result['miou'], False)
    above.unlink()  # then nobody knows
    status, result, error = evaluate('--images', data / 'images', '--labels', data / 'labels')
    assert status == 0, error
    assert 'has no classes.yaml: its ids are taken as those of the weights (0 sky, 1 road, 2 car)' in error


def test_masks_with_the_palette_of_another_order_are_named_and_not_scored(data, evaluate, masks):
    theirs = LabelSet('other', OTHERS, ((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)))
    (data / 'classes.yaml').write_text(yaml.safe_dump(theirs.to_dict()))
    for index, mask in enumerate(masks):
        swapped = LabelSet('swapped', OTHERS, theirs.colors[::-1]) if index == 1 else theirs
        write_label_png(data / 'labels' / f'{index}.png', mask, swapped)
    given = ('--images', data / 'images', '--labels', data / 'labels', '--map', data / 'map.yaml')
    status, result, error = evaluate(*given)
    assert status == 1
    assert "labels/1.png: id 0 ('lane') has the colour of 'tram' in the palette: ids count" in error
    assert result['frames'] == FRAMES - 1


def test_a_map_scores_weights_on_masks_of_other_classes(data, evaluate, labels, masks):
    given = ('--images', data / 'images', '--labels', data / 'labels', '--map', data / 'map.yaml')
    status, result, error = evaluate(*given, '--report', data / 'report.html')
    assert status == 0, error
    wanted = expected(labels, masks)
    assert result['confusion_matrix'] == wanted.counts.tolist()
    assert result['miou'] == wanted.miou
    assert result['per_class_iou']['car'] is None
    assert 'lane → road' in result['conditions']['map']
    assert 'lane → road' in (data / 'report.html').read_text()


def test_a_topic_of_masks_is_mapped_by_ids_and_ids_that_are_not_mapped_are_named(
    tmp_path, street, masks, labels, evaluate
):
    when = stamps(FRAMES)
    masks[1][0, :2] = 7, 9
    topics = {
        '/image': ('rgb8', list(zip(when, pictures(street, FRAMES)))),
        '/truth': ('mono8', list(zip(when, masks))),
    }
    bag = record(tmp_path / 'bag', topics)
    (tmp_path / 'map.yaml').write_text('0: road\n1: road\n2: sky\n3: unlabelled\n')
    status, result, error = evaluate('--bag', bag, '--labels', '/truth', '--map', tmp_path / 'map.yaml')
    assert status == 1
    assert f'mask of {when[1]}: the truth holds ids 7, 9, which {tmp_path}/map.yaml does not map' in error
    assert result['confusion_matrix'] == expected(labels[::2], masks[::2]).counts.tolist()


def test_compare_scores_two_weights_through_the_same_map(data, tiny_weights, evaluate, capsys):
    other = write_tiny_weights(data / 'other.safetensors', seed=2)
    given = ('--images', data / 'images', '--labels', data / 'labels')
    status, _, error = evaluate(other, *given, command='compare', weights=())
    assert status == 1
    assert '--map FILE' in error
    status, result, error = evaluate(
        other, *given, '--map', data / 'map.yaml', '--report', data / 'c.html', command='compare', weights=()
    )
    assert status == 0, error
    assert all('lane → road' in result[side]['conditions']['map'] for side in ('before', 'after'))


def test_a_class_of_the_same_name_needs_no_line(tmp_path):
    theirs = LabelSet('other', ('car', 'kerb', 'sky'), ((0, 0, 0),) * 3)
    path = tmp_path / 'map.yaml'
    path.write_text('kerb: road')
    assert MaskMap.from_yaml(path, LABELS, theirs).targets[:4] == (2, 1, 0, -1)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('- lane', 'must be a mapping of mask classes'),
        ('{}', 'must be a mapping of mask classes'),
        ('lane: street', "'lane' is mapped to 'street', which is not a class of the weights: they have"),
        ('lane: 1', "'lane' is mapped to 1, which is not a class of the weights"),
        ('laen: road', "the masks have no class 'laen': they have lane, kerb, firmament, tram"),
        ('lane: road', 'does not map kerb, firmament, tram'),
        ('300: road', 'the masks have no class 300'),
    ],
)
def test_a_map_that_does_not_fit_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / 'map.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match=r'map\.yaml') as error:
        MaskMap.from_yaml(path, LABELS, LabelSet('other', OTHERS, ((0, 0, 0),) * 4))
    assert message in str(error.value)
    assert '\n' not in str(error.value)


def test_names_without_a_classes_yaml_are_refused(tmp_path):
    path = tmp_path / 'map.yaml'
    path.write_text('lane: road')
    with pytest.raises(ValueError, match=r"'lane' is not an id from 0 to 255, and no classes\.yaml"):
        MaskMap.from_yaml(path, LABELS, None)
