# SPDX-License-Identifier: Apache-2.0
"""Training: on a user's folder, resumable to the same result, with all faults of the data at once."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lw_refinenet_ros.image.labels import write_label_png
from lw_refinenet_ros.model.network import build_model
from lw_refinenet_ros.model.weights import Card, load_model, read_card
from lw_refinenet_ros.training.config import TrainingConfig
from lw_refinenet_ros.training.dataset import DataError, find_pairs, random_crop
from lw_refinenet_ros.training.train import Trainer

CLASSES = """\
name: blocks
ignore: 255
classes:
  - {name: dark, color: [0, 0, 0]}
  - {name: bright, color: [255, 255, 255]}
"""
CONFIG = TrainingConfig(
    width=8, epochs=3, batch_size=2, crop_height=64, crop_width=64, validate_every=1, warmup_epochs=0.5
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five pictures, dark on one side and bright on the other."""
    folder = tmp_path / 'data'
    for name in ('images', 'labels'):
        (folder / name).mkdir(parents=True)
    (folder / 'classes.yaml').write_text(CLASSES)
    random = np.random.default_rng(3)
    for index in range(5):
        label = np.zeros((72, 96), np.uint8)
        label[:, int(random.integers(24, 72)) :] = 1
        image = np.where(label[..., None] == 1, 200, 40) + random.integers(-20, 20, (72, 96, 3))
        cv2.imwrite(str(folder / 'images' / f'{index}.png'), image.astype(np.uint8))
        label[:2] = 255
        write_label_png(folder / 'labels' / f'{index}.png', label)
    return folder


def trainer(data: Path, run: Path, config: TrainingConfig = CONFIG, **options: object) -> Trainer:
    torch.manual_seed(0)
    pairs = find_pairs(data)
    model = build_model(config.architecture, 2, width=config.width)
    card = Card(config.architecture, config.width, pairs.labels.to_dict(), (0.5,) * 3, (0.25,) * 3)
    return Trainer(model, card, pairs, config, run, report=lambda line: None, **options)


def test_a_run_that_was_killed_ends_with_the_same_weights(data, tmp_path):
    whole = trainer(data, tmp_path / 'whole')
    whole.train()

    class KilledError(Exception):
        pass

    broken = trainer(data, tmp_path / 'broken')
    update = broken._update_average

    def killed_in_the_third_epoch(step):
        if step == 2 * broken.steps_per_epoch + 1:
            raise KilledError
        update(step)

    broken._update_average = killed_in_the_third_epoch
    with pytest.raises(KilledError):
        broken.train()
    resumed = trainer(data, tmp_path / 'broken')
    assert resumed.epoch == 2
    resumed.train()
    one, two = (
        load_model(tmp_path / run / 'last.safetensors')[0].state_dict() for run in ('whole', 'broken')
    )
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def test_the_loss_falls_and_the_log_says_so(data, tmp_path):
    easy = replace(CONFIG, epochs=12, min_scale=1.0, max_scale=1.0, jitter=0.0, decoder_rate=1e-2)
    run = trainer(data, tmp_path / 'run', easy)
    run.train()
    assert run.log[-1]['loss'] < 0.9 * run.log[0]['loss']
    lines = (tmp_path / 'run' / 'log.csv').read_text().splitlines()
    assert lines[0] == 'epoch,loss,miou,seconds'
    assert len(lines) == 13


def test_the_best_validation_is_kept_beside_the_last(data, tmp_path):
    scores = iter([0.5, 0.9, 0.7])
    run = trainer(data, tmp_path / 'run', validate=lambda model: {'miou': next(scores)})
    run.train()
    assert run.best_miou == 0.9
    assert read_card(tmp_path / 'run' / 'best.safetensors').metrics == {'miou': 0.9}
    last = read_card(tmp_path / 'run' / 'last.safetensors')
    assert last.metrics == {'miou': 0.7}
    assert last.training['config']['epochs'] == 3


def test_another_configuration_does_not_take_up_a_run(data, tmp_path):
    trainer(data, tmp_path / 'run', replace(CONFIG, epochs=1)).train()
    with pytest.raises(ValueError, match='other epochs, seed'):
        trainer(data, tmp_path / 'run', replace(CONFIG, epochs=2, seed=1))


@pytest.mark.parametrize('options', [{'hard_fraction': 0.25}, {'class_weight_offset': 0.0}, {'jitter': 0.0}])
def test_every_loss_trains(data, tmp_path, options):
    run = trainer(data, tmp_path / 'run', replace(CONFIG, epochs=1, **options))
    run.train()
    assert np.isfinite(run.log[0]['loss'])


def test_all_faults_of_the_data_are_listed_at_once(data):
    (data / 'labels' / '0.png').unlink()
    write_label_png(data / 'labels' / '1.png', np.zeros((70, 96), np.uint8))
    write_label_png(data / 'labels' / '2.png', np.full((72, 96), 9, np.uint8))
    (data / 'images' / '3.png').write_bytes(b'no image')
    with pytest.raises(DataError) as caught:
        find_pairs(data)
    text = str(caught.value)
    assert '4 of 5 pairs' in text
    for fault in ('0.png: no mask', '1.png is 96x72, its mask 96x70', 'class ids [9]', '3.png'):
        assert fault in text


def test_a_folder_without_images_or_classes_says_so(tmp_path, data):
    (data / 'classes.yaml').rename(data / 'other.yaml')
    with pytest.raises(DataError, match=r'no classes\.yaml'):
        find_pairs(data)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='has no images'):
        find_pairs(tmp_path / 'empty', data / 'other.yaml')


def test_the_same_generator_gives_the_same_crop_and_masks_stay_class_ids():
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    label = np.full((40, 50), 1, np.uint8)
    for seed in range(20):
        crops = [random_crop(image, label, CONFIG, np.random.default_rng(seed)) for _ in range(2)]
        assert crops[0][0].shape == (64, 64, 3)
        np.testing.assert_array_equal(crops[0][0], crops[1][0])
        np.testing.assert_array_equal(crops[0][1], crops[1][1])
        assert set(np.unique(crops[0][1])) <= {1, 255}


def test_the_command_trains_and_fine_tunes(data, tmp_path, tiny_weights):
    options = [f'--{k}={v}' for k, v in {'width': 8, 'epochs': 1, 'batch-size': 2, 'crop-height': 64}.items()]
    command = [sys.executable, '-m', 'lw_refinenet_ros.cli.main', 'train', '--data', str(data), *options]
    command += ['--val', str(data), '--init', str(tiny_weights), '--output', str(tmp_path / 'run')]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'new: decoder.classifier' in done.stdout, 'a head of other classes is replaced, and that is said'
    card = read_card(tmp_path / 'run' / 'best.safetensors')
    assert card.labels['name'] == 'blocks'
    assert set(card.metrics['per_class_iou']) == {'dark', 'bright'}
    assert card.temperature != 1.0
    assert card.source.startswith('lw_refinenet train --data')
