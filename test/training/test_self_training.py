# SPDX-License-Identifier: Apache-2.0
"""Frames without masks join the training with the labels of a teacher that is confident."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lw_refinenet_ros import Segmenter
from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.image.label_png import read_label_png, write_label_png
from lw_refinenet_ros.model.weights import read_card
from lw_refinenet_ros.training.appearance import draw_look
from lw_refinenet_ros.training.augmentation import rare_classes
from lw_refinenet_ros.training.batches import Batches
from lw_refinenet_ros.training.config import TrainingConfig
from lw_refinenet_ros.training.dataset import find_pairs
from lw_refinenet_ros.training.label_folder import LabelFolder
from lw_refinenet_ros.training.pseudo_labels import draft_pseudo_labels
from test.support.recordings import pictures, record, stamps
from test.support.tiny_network import write_tiny_weights

TINY = ('--batch-size=2', '--crop-height=32', '--crop-width=64', '--epochs=1', '--warmup-epochs=0')
CONFIDENCE = 0.5


@pytest.fixture
def data(tmp_path: Path, street: np.ndarray, tiny_weights: Path) -> Path:
    """One picture with a mask, of the classes of the tiny weights."""
    folder = LabelFolder(tmp_path / 'data', read_card(tiny_weights).labels)
    cv2.imwrite(str(folder.path / 'images/0.png'), street)
    write_label_png(folder.mask('0'), np.arange(96 * 128).reshape(96, 128).astype(np.uint8) % 3)
    return folder.path


@pytest.fixture
def bag(tmp_path: Path, street: np.ndarray) -> Path:
    return record(tmp_path / 'drive', {'/camera': ('rgb8', list(zip(stamps(5), pictures(street, 5))))})


def test_pixels_below_the_confidence_do_not_count(bag, data, tmp_path, tiny_weights, street):
    labels = read_card(tiny_weights).labels
    drafted = draft_pseudo_labels(
        str(bag), str(tiny_weights), labels, tmp_path / 'run', confidence=CONFIDENCE
    )
    assert [int(path.stem) for path in drafted.images] == stamps(5)
    segmenter = Segmenter.load(tiny_weights)
    result = segmenter.segment(pictures(street, 5)[2], confidence=True)
    mask = read_label_png(drafted.masks[2])
    sure = result.confidence >= CONFIDENCE * 255
    assert 0 < sure.mean() < 1
    np.testing.assert_array_equal(mask, np.where(sure, result.label, 255))


def test_each_batch_has_as_many_frames_without_masks(bag, data, tmp_path, tiny_weights):
    labels = read_card(tiny_weights).labels
    drafted = draft_pseudo_labels(
        str(bag), str(tiny_weights), labels, tmp_path / 'run', confidence=CONFIDENCE
    )
    config = TrainingConfig(batch_size=2, crop_height=32, crop_width=64, min_scale=1, max_scale=1)
    batches = Batches(find_pairs(data), config, drafted)
    with ThreadPoolExecutor(1) as pool:
        one, two = batches.of_epochs((0, 1), pool)
        (again,) = batches.of_epochs((1,), pool)
    assert one.images.shape == (4, 32, 64, 3)
    assert not (one.labels[:2] == 255).any()
    assert (one.labels[2:] == 255).any()
    assert one.others.tolist() == [1, 0, 3, 2], 'crops take pixels of their own kind'
    assert not torch.equal(one.images, two.images)
    for name, tensor in vars(two).items():
        assert torch.equal(tensor, getattr(again, name)), name


def test_options_that_would_be_ignored_are_refused(data, tmp_path, tiny_weights, capsys):
    command = ['train', '--data', str(data), '--output', str(tmp_path / 'run'), *TINY]
    for options, status, said in (
        (['--different=0.9'], 2, '--different chooses among --unlabelled frames'),
        ([f'--init={tiny_weights}', '--encoder=none'], 2, 'not allowed with argument --init'),
        ([f'--init={tiny_weights}', '--width=96'], 1, '--width 96: --init'),
        (['--class-mix=1', '--batch-size=1'], 1, 'batch_size must be at least 2'),
        (['--seed=99999999999999999999'], 2, '--seed'),
    ):
        try:
            returned = main([*command, *options])
        except SystemExit as end:  # argparse's way
            returned = end.code
        assert returned == status
        assert said in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('class_mix', [0.0, 1.0])
def test_frames_without_masks_alone_are_perturbed_strongly_and_half_of_them_get_a_box(
    bag, data, tmp_path, tiny_weights, class_mix
):
    drafted = draft_pseudo_labels(
        str(bag), str(tiny_weights), read_card(tiny_weights).labels, tmp_path / 'run', confidence=CONFIDENCE
    )
    config = TrainingConfig(batch_size=2, crop_height=32, crop_width=64, jitter=0, class_mix=class_mix)
    pairs = find_pairs(data)
    with ThreadPoolExecutor(1) as pool:
        made = list(Batches(pairs, config, drafted).of_epochs(range(40), pool))
    looks, boxes, rare = (
        torch.stack([getattr(each, name) for each in made]) for name in ('looks', 'boxes', 'rare')
    )
    plain = torch.from_numpy(draw_look(0, 0, np.random.default_rng(0)))
    assert (looks[:, :2] == plain).all()
    assert (looks[:, 2:] != plain).any(-1).all()
    assert not boxes[:, :2].any()
    assert 0.3 < boxes[:, 2:].any(-1).float().mean() < 0.7
    expected = torch.from_numpy(rare_classes(pairs.counts))
    assert expected.any()
    assert (rare[:, :2] == (expected if class_mix else False)).all()
    assert not rare[:, 2:].any()


def test_other_weights_under_the_same_name_and_another_confidence_label_anew(bag, tmp_path):
    folders, teacher = set(), tmp_path / 'teacher.safetensors'
    for seed, confidence in ((1, 0.4), (2, 0.4), (2, 0.35)):
        labels = read_card(write_tiny_weights(teacher, seed=seed)).labels
        found = draft_pseudo_labels(str(bag), str(teacher), labels, tmp_path / 'run', confidence=confidence)
        folders.add(found.images[0].parents[1])
    assert len(folders) == 3


def test_the_command_trains_with_frames_of_a_bag_and_resumes(bag, data, tmp_path, tiny_weights, capsys):
    run = tmp_path / 'run'
    command = ['train', '--data', str(data), '--init', str(tiny_weights), '--output', str(run), *TINY]
    command += ['--unlabelled', str(bag), '--teacher', str(tiny_weights), f'--pseudo-confidence={CONFIDENCE}']
    assert main(command) == 0
    said = capsys.readouterr()
    assert f'{bag}: 5 frames, of whose pixels ' in said.out
    assert 'predictions of a network' not in said.err, 'what a teacher labels, is meant to be'
    (folder,) = run.glob('unlabelled_*')
    made = {path: path.stat().st_mtime_ns for path in folder.rglob('*.png')}
    assert main(command) == 0
    assert 'is finished after epoch 1' in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob('*.png')} == made
    assert main([*command, '--different=0.9']) == 1
    assert 'holds a run with other unlabelled' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('changes', 'status', 'words'),
    [
        (['--teacher', 'camvid', '--unlabelled', 'BAG'], 1, 'camvid has the classes sky, building, '),
        (['--unlabelled', 'BAG'], 2, '--unlabelled and --teacher go together'),
        (['--teacher', 'TINY', '--unlabelled', 'camera:0'], 1, 'camera:0 has no end: record it first'),
        (
            ['--teacher', 'TINY', '--unlabelled', 'BAG', '--pseudo-confidence=1'],
            1,
            'nothing to learn; is the confidence of 1.0 too high?',
        ),
    ],
)
def test_what_cannot_teach_is_refused(changes, status, words, bag, data, tmp_path, tiny_weights, capsys):
    given = [{'BAG': str(bag), 'TINY': str(tiny_weights)}.get(each, each) for each in changes]
    command = ['train', '--data', str(data), '--init', str(tiny_weights), '--output', str(tmp_path / 'run')]
    assert main([*command, *TINY, *given]) == status
    assert words in capsys.readouterr().err
