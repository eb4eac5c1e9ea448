# SPDX-License-Identifier: Apache-2.0
"""From a bag to the user's own model: label, correct, train, evaluate, compare, and the node runs it."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.image.label_png import read_label_png, write_label_png
from lw_refinenet_ros.labels import LabelSet
from lw_refinenet_ros.model.weights import load_model, read_card
from lw_refinenet_ros.training.transfer import carry_over
from test.support.recordings import START_NS, STEP_NS, pictures, record, stamps

TINY = ('--batch-size', 2, '--crop-height', 48, '--crop-width', 64, '--epochs', 1, '--warmup-epochs', 0)


def succeeds(*arguments: object) -> str:
    """Return what the command prints in a process of its own."""
    command = [sys.executable, '-m', 'lw_refinenet_ros.cli.main', *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def here(*arguments: object) -> int:
    """The status of the command in this process."""
    return main([*map(str, arguments)])


def labels_of(*names: str) -> LabelSet:
    return LabelSet('some', names, tuple((i, 0, 0) for i in range(len(names))))


@pytest.fixture
def bag(tmp_path: Path, street: np.ndarray) -> Path:
    small = [cv2.resize(picture, (64, 48)) for picture in pictures(street, 8)]
    return record(tmp_path / 'drive', {'/camera': ('rgb8', list(zip(stamps(8), small)))})


def test_from_a_bag_to_a_model_of_the_users_own(bag, tmp_path, tiny_weights):
    train, val, run = (tmp_path / name for name in ('mine/train', 'mine/val', 'run'))
    weights = ('--weights', tiny_weights)
    torch_engine = ('--engine', 'torch', '--threads', 1)
    succeeds('label', bag, '--output', train, '--every', 2, '--end', 0.5, *weights, *torch_engine)
    succeeds('label', bag, '--out', val, '--every', 1, '--start', 0.6, *weights, *torch_engine)
    assert sorted(int(p.stem) for p in (train / 'labels').iterdir()) == stamps(8)[:5:2]
    assert sorted(int(p.stem) for p in (val / 'labels').iterdir()) == stamps(8)[6:]

    labels = LabelSet.from_yaml(train / 'classes.yaml')
    for path in sorted(tmp_path.glob('mine/*/labels/*.png')):  # somebody corrects the masks: all is road
        mask = read_label_png(path)
        mask[4:] = labels.names.index('road')
        write_label_png(path, mask, labels)

    said = succeeds(
        *('train', '--init', tiny_weights, '--data', train, '--val', val, '--output', run, *TINY),
        *('--decoder-rate', 0.05, '--validate-every', 1),
    )
    assert 'loaded completely, with its 3 classes' in said
    tuned = run / 'best.safetensors'
    assert str(tuned) in said

    results = {}
    for name, file in (('before', tiny_weights), ('after', tuned)):
        masks = ('--images', val / 'images', '--labels', val / 'labels', '--json', tmp_path / f'{name}.json')
        succeeds('evaluate', *masks, '--weights', file, *torch_engine)
        results[name] = json.loads((tmp_path / f'{name}.json').read_text())
    assert results['after']['pixel_accuracy'] > results['before']['pixel_accuracy']
    assert results['after']['frames'] == 2
    assert 'road' in succeeds('compare', tmp_path / 'before.json', tmp_path / 'after.json')

    pytest.importorskip('rclpy', reason='ROS is not installed: no rclpy')
    replayed = ('demo', '--source', bag, '--weights', tuned, '--output', tmp_path / 'out')
    assert 'frames segmented' in succeeds(*replayed)
    assert (tmp_path / 'out' / 'labels.mcap').stat().st_size > 0


def test_other_classes_replace_the_head_and_what_is_known_is_kept(bag, tmp_path, tiny_weights, capsys):
    classes = tmp_path / 'classes.yaml'
    classes.write_text(
        'name: yard\nclasses:\n'
        '- {name: forklift, color: [255, 0, 0]}\n- {name: car, color: [0, 0, 255]}\n'
        '- {name: sky, color: [0, 255, 255]}\n- {name: pallet, color: [0, 255, 0]}\n'
    )
    out, run = tmp_path / 'yard', tmp_path / 'run'
    assert (
        here('label', bag, '--output', out, '--every', 4, '--weights', tiny_weights, '--engine', 'torch') == 0
    )
    train = ('train', '--init', tiny_weights, '--data', out, '--output', run, *TINY)
    assert here(*train, '--encoder-rate', 0, '--decoder-rate', 0) == 0
    said, warned = capsys.readouterr()
    assert 'warning: no mask contains forklift, pallet' in warned
    assert 'pairs, 4 classes, on cpu; lw_refinenet_efficientnet_lite0; 1 epoch of' in said
    head = 'loaded, except for the classifier, which is new for other classes; '
    assert f'{head}kept: car, sky; new: forklift, pallet; left out: road' in said
    assert read_card(run / 'last.safetensors').labels.name == 'yard'
    before, after = (
        load_model(path)[0].decoder.classifier for path in (tiny_weights, run / 'last.safetensors')
    )
    for ours, theirs in ((1, 2), (2, 0)):  # car, sky
        torch.testing.assert_close(after.weight[ours], before.weight[theirs], atol=1e-3, rtol=1e-2)
        torch.testing.assert_close(after.bias[ours], before.bias[theirs], atol=1e-3, rtol=1e-2)


def test_a_network_that_was_carried_over_gives_the_same_logits_for_the_same_classes(tiny_weights):
    from lw_refinenet_ros.model.network import build_model

    trained, card = load_model(tiny_weights)
    network = build_model(card.architecture, 4, width=card.width).eval()
    ours = labels_of('road', 'tree', 'car', 'sky')
    found = carry_over(network, ours, trained, card.labels)
    assert (found.kept, found.new, found.dropped) == (('road', 'car', 'sky'), ('tree',), ())
    image = torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        theirs = trained(image)
        torch.testing.assert_close(network(image)[:, [3, 0, 2]], theirs)


def test_a_dial_that_the_weights_fix_is_refused(tmp_path, tiny_weights, capsys):
    train = ('train', '--init', tiny_weights, '--data', tmp_path, '--output', tmp_path / 'run')
    assert here(*train, '--width', 17) == 1
    error = capsys.readouterr().err
    assert '--width 17: --init' in error
    assert 'has 8' in error


def test_bad_pairs_of_every_folder_are_listed_before_training_begins(bag, tmp_path, tiny_weights, capsys):
    folders = [tmp_path / name for name in ('one', 'two', 'val')]
    for folder in folders:
        command = ('label', bag, '--output', folder, '--every', 4, '--weights', tiny_weights)
        assert here(*command, '--engine', 'torch') == 0
    first, second = (f'{START_NS + i * STEP_NS}' for i in (0, 4))
    (folders[0] / 'labels' / f'{first}.png').unlink()
    labels = LabelSet.from_yaml(folders[1] / 'classes.yaml')
    write_label_png(folders[1] / 'labels' / f'{second}.png', np.full((48, 64), 77, np.uint8), labels)
    write_label_png(folders[2] / 'labels' / f'{first}.png', np.zeros((40, 64), np.uint8), labels)
    data = ('--data', folders[0], '--data', folders[1], '--val', folders[2])
    assert here('train', '--init', tiny_weights, *data, '--output', tmp_path / 'run', *TINY) == 1
    error = capsys.readouterr().err
    for fault in (f'{first}.jpg: no mask', f'{second}.png holds class ids [77]', 'its mask 64x40'):
        assert fault in error
    assert not (tmp_path / 'run').exists()
