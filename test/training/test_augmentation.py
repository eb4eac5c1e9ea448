# SPDX-License-Identifier: Apache-2.0
"""Crops change in place, colour and light, and take pixels of each other, each with its label."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from lw_refinenet_ros.training.appearance import (
    NOISE,
    _colour,
    draw_box,
    draw_look,
    draw_strong_look,
    look_at,
    paste,
)
from lw_refinenet_ros.training.augmentation import random_crop, rare_classes
from lw_refinenet_ros.training.batches import Batch
from lw_refinenet_ros.training.config import TrainingConfig

CONFIG = TrainingConfig(crop_height=32, crop_width=48, min_scale=1, max_scale=1)


def numbered(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose pixels are all different, and its mask."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.dstack([rows, columns, rows ^ columns]), rows % 7


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_crop_at_scale_1_is_a_window_of_image_and_mask():
    image, label = numbered(60, 90)
    for seed in range(10):
        crop, mask = random_crop(image, label, CONFIG, seeded(seed))
        rows, columns = crop[..., 0].astype(int), crop[..., 1].astype(int)
        assert (np.diff(rows, axis=0) == 1).all()
        assert (abs(np.diff(columns, axis=1)) == 1).all()
        np.testing.assert_array_equal(mask, crop[..., 0] % 7)


@pytest.mark.parametrize('size', [(1, 1), (7, 5), (3, 400), (501, 33)])
@pytest.mark.parametrize('uniform', [0.0, 1.0])
def test_images_of_any_size_give_whole_crops(size, uniform):
    image, label = numbered(*size)
    config = replace(CONFIG, min_scale=0.01, max_scale=4, class_uniform=uniform)
    for seed in range(20):
        crop, mask = random_crop(image, label, config, seeded(seed))
        assert crop.shape == (32, 48, 3)
        assert mask.shape == (32, 48)
        assert (mask != 255).any()


def test_crops_come_from_the_whole_image_as_often_mirrored_as_not():
    crops = [random_crop(*numbered(60, 90), CONFIG, seeded(seed))[0] for seed in range(400)]
    tops, lefts = ({int(crop[..., axis].min()) for crop in crops} for axis in (0, 1))
    assert (min(tops), max(tops), min(lefts), max(lefts)) == (0, 60 - 32, 0, 90 - 48)
    assert 0.4 < np.mean([crop[0, 0, 1] > crop[0, 1, 1] for crop in crops]) < 0.6


def test_half_of_the_crops_are_smaller_and_half_larger_where_the_scales_are_a_half_to_two():
    image, label = numbered(16, 16)
    config = replace(CONFIG, min_scale=0.5, max_scale=2)
    heights = [(random_crop(image, label, config, seeded(i))[1] != 255).any(1).sum() for i in range(2000)]
    assert (min(heights), max(heights)) == (8, 32)
    assert np.median(heights) == pytest.approx(16, abs=1)


def test_a_smaller_crop_is_the_mean_of_all_pixels_and_its_ids_are_those_of_the_mask():
    image, label = np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8)
    image[:, ::4], label[:, 30:] = 200, 9
    crop, mask = random_crop(image, label, replace(CONFIG, min_scale=0.25, max_scale=0.25), seeded(0))
    assert (crop[mask != 255] == 50).all()
    assert set(np.unique(mask)) == {0, 9, 255}


def test_crops_drawn_by_class_are_of_no_unlabelled_place():
    label = np.full((200, 200), 255, np.uint8)
    label[10:14, 150:154] = 3
    config = replace(CONFIG, class_uniform=1.0)
    for seed in range(20):
        assert (random_crop(np.zeros((200, 200, 3), np.uint8), label, config, seeded(seed))[1] == 3).any()


def test_only_the_pixels_of_a_crop_are_resized(monkeypatch):
    resize, resized = cv2.resize, []
    monkeypatch.setattr(
        cv2, 'resize', lambda array, size, **how: resized.append(size) or resize(array, size, **how)
    )
    image = np.zeros((3000, 4000, 3), np.uint8)
    random_crop(image, image[..., 0], replace(CONFIG, min_scale=2, max_scale=2), seeded(0))
    assert resized == [(48, 32)] * 2


def looked_at(image: np.ndarray, *looks: np.ndarray) -> np.ndarray:
    """The image with each of the looks, (N, h, w, 3)."""
    images = torch.from_numpy(np.stack([image] * len(looks)))
    return look_at(images, torch.from_numpy(np.stack(looks))).permute(0, 2, 3, 1).numpy()


def test_light_reaches_dusk_and_stays_as_it_is_without(street):
    def means(strength: float) -> np.ndarray:
        return looked_at(street, *(draw_look(0, strength, seeded(i)) for i in range(200))).mean((1, 2, 3))

    np.testing.assert_allclose(looked_at(street, draw_look(0, 0, seeded(0)))[0], street, atol=1e-3)
    strong, weak = means(1.0), means(0.2)
    assert strong.min() < 0.35 * street.mean()
    assert strong.max() > 1.1 * street.mean()
    assert 60 < (abs(strong - street.mean()) < 1e-3).sum() < 140
    assert weak.min() > strong.min() + 0.2 * street.mean()


def test_colour_changes_as_its_name_says(street):
    grey = np.array([*_colour(0, 0, -1, 0).ravel(), 1, 1, 1, 1, 0, 0], np.float32)
    turned = np.array([*_colour(0, 0, 0, np.deg2rad(120)).ravel(), 1, 1, 1, 1, 0, 0], np.float32)
    brighter = np.array([*_colour(0, 0.1, 0, 0).ravel(), 1, 1, 1, 1, 0, 0], np.float32)
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    results = looked_at(red, grey, turned, brighter)[:, 0, 0]
    np.testing.assert_allclose(results[0], [0.299 * 200] * 3, atol=0.1)
    assert results[1].argmax() == 1, 'red becomes green'
    np.testing.assert_allclose(results[2], [212.8, 12.8, 12.8], atol=0.1)


def test_the_blur_is_that_of_its_sigma_and_noise_has_its_deviation(street):
    plain = draw_look(0, 0, seeded(0))
    blurred, noisy = plain.copy(), plain.copy()
    blurred[16], noisy[17] = 1.5, 8
    results = looked_at(street, plain, blurred, noisy)
    expected = cv2.GaussianBlur(street.astype(np.float32), (11, 11), 1.5, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(results[1], expected, atol=0.2)
    inner = (street > 40) & (street < 215)
    assert (results[2] - street)[inner].std() == pytest.approx(8, rel=0.05)
    np.testing.assert_allclose(results[0], street, atol=1e-3)


def test_a_strong_look_is_grey_in_a_fifth_of_the_calls(street):
    results = looked_at(street, *(draw_strong_look(seeded(i)) for i in range(100)))
    assert results.shape == (100, *street.shape)
    grey = sum(abs(_spread(seed)) < 1e-6 for seed in range(100))
    assert 10 < grey < 30


def _spread(seed: int) -> float:
    """How far the rows of a look's matrix are apart: not at all if all become grey."""
    return float(np.ptp(draw_strong_look(seeded(seed))[:12].reshape(3, 4), axis=0).max())


def test_the_rare_half_of_the_classes_is_pasted_with_its_labels():
    counts = np.zeros(256, np.int64)
    counts[[0, 1, 2, 4, 255]] = 900, 10, 500, 20, 3
    rare = torch.from_numpy(rare_classes(counts))
    assert rare.nonzero().flatten().tolist() == [1, 4]
    labels = torch.zeros((2, 4, 4), dtype=torch.uint8)
    labels[1, 1:3] = 1
    labels[1, 3] = 2
    images = (labels + 10 * torch.arange(2)[:, None, None]).float()[:, None].repeat(1, 3, 1, 1)
    others, boxes = torch.tensor([1, 0]), torch.zeros((2, 4), dtype=torch.int64)
    mixed, masks = paste(images, labels, others, boxes, torch.stack([rare, torch.zeros_like(rare)]))
    assert masks[0, :, 0].tolist() == [0, 1, 1, 0]
    assert mixed[0, :, :, 0].tolist() == [[0, 11, 11, 0]] * 3
    assert torch.equal(masks[1], labels[1])
    assert torch.equal(mixed[1], images[1])


def test_a_box_of_another_crop_is_pasted_with_its_labels():
    labels = torch.arange(3, dtype=torch.uint8)[:, None, None].repeat(1, 32, 48)
    images = labels.float()[:, None].repeat(1, 3, 1, 1)
    boxes = torch.tensor([draw_box(32, 48, seeded(seed)) for seed in range(3)])
    none = torch.zeros((3, 256), dtype=torch.bool)
    mixed, masks = paste(images, labels, torch.tensor([1, 2, 0]), boxes, none)
    for index, label in enumerate(masks.numpy()):
        pasted = label == (index + 1) % 3
        rows, columns = pasted.any(1), pasted.any(0)
        assert pasted.sum() == rows.sum() * columns.sum()
        assert 1 / 20 < pasted.mean() < 9 / 16
        assert set(np.unique(label)) == {index, (index + 1) % 3}
    assert torch.equal(mixed[:, 0], masks.float())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_a_gpu_changes_crops_as_the_cpu_does(street):
    batch = Batch(4, *street.shape[:2], pinned=True)
    batch.images[:], batch.labels[:] = torch.from_numpy(street), torch.arange(4)[:, None, None]
    for index in range(4):
        batch.looks[index] = torch.from_numpy(draw_look(0.5, 1, seeded(index)))
        batch.looks[index, NOISE] = 0  # it differs
        batch.others[index] = (index + 1) % 4
        batch.boxes[index] = torch.tensor(draw_box(*street.shape[:2], seeded(index)))
    on_cpu, on_gpu = (batch.on(torch.device(device)) for device in ('cpu', 'cuda'))
    assert torch.equal(on_gpu[1].cpu(), on_cpu[1])
    assert (on_gpu[0].cpu() - on_cpu[0]).abs().max() < 0.5
