# SPDX-License-Identifier: Apache-2.0
"""Crops change in place, colour and light, and take pixels of each other, each with its label."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.training.augmentation import (
    mix_boxes,
    mix_classes,
    perturb,
    random_crop,
    rare_classes,
    relight,
)
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


def test_only_the_pixels_of_a_crop_are_resized(monkeypatch):
    resize, resized = cv2.resize, []
    monkeypatch.setattr(
        cv2, 'resize', lambda array, size, **how: resized.append(size) or resize(array, size, **how)
    )
    image = np.zeros((3000, 4000, 3), np.uint8)
    random_crop(image, image[..., 0], replace(CONFIG, min_scale=2, max_scale=2), seeded(0))
    assert resized == [(48, 32)] * 2


def test_light_reaches_dusk_and_stays_as_it_is_without(street):
    assert relight(street, 0.0, seeded(0)) is street
    means = [relight(street, 1.0, seeded(seed)).mean() for seed in range(200)]
    assert min(means) < 0.35 * street.mean()
    assert max(means) > 1.1 * street.mean()
    assert 60 < sum(abs(mean - street.mean()) < 1e-9 for mean in means) < 140
    weak = [relight(street, 0.2, seeded(seed)).mean() for seed in range(200)]
    assert min(weak) > min(means) + 0.2 * street.mean()
    np.testing.assert_array_equal(relight(street, 1.0, seeded(3)), relight(street, 1.0, seeded(3)))
    assert perturb(street, seeded(1)).shape == street.shape


def test_the_rare_half_of_the_classes_is_pasted_with_its_labels():
    counts = np.zeros(256, np.int64)
    counts[[0, 1, 2, 4, 255]] = 900, 10, 500, 20, 3
    rare = rare_classes(counts)
    assert np.flatnonzero(rare).tolist() == [1, 4]
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[1, 1:3] = 1
    labels[1, 3] = 2
    images = (
        np.dstack([labels.ravel()] * 3).reshape(2, 4, 4, 3)
        + np.uint8(10) * np.arange(2, dtype=np.uint8)[:, None, None, None]
    )
    mix_classes(images, labels, rare, 1.0, seeded(0))
    np.testing.assert_array_equal(labels[0, :, 0], [0, 1, 1, 0])
    np.testing.assert_array_equal(images[0, :, 0, 0], [0, 11, 11, 0])
    before = labels.copy()
    mix_classes(images, labels, rare, 0.0, seeded(0))
    np.testing.assert_array_equal(labels, before)


def test_a_box_of_the_next_crop_is_pasted_with_its_labels():
    labels = np.repeat(np.arange(3, dtype=np.uint8), 32 * 48).reshape(3, 32, 48)
    images = np.repeat(labels[..., None], 3, 3)
    mix_boxes(images, labels, 1.0, seeded(0))
    for index, label in enumerate(labels):
        pasted = label == (index + 1) % 3
        rows, columns = pasted.any(1), pasted.any(0)
        assert pasted.sum() == rows.sum() * columns.sum()
        assert 1 / 20 < pasted.mean() < 9 / 16
        assert set(np.unique(label)) == {index, (index + 1) % 3}
    np.testing.assert_array_equal(images[..., 1], labels)
