# SPDX-License-Identifier: Apache-2.0
"""Interpolating only where corners disagree gives what interpolating everywhere gives."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from lw_refinenet_ros.inference import upsample as module
from lw_refinenet_ros.inference.upsample import upsample

SIZES = [  # logits, image
    ((17, 40), (68, 160)),
    ((17, 40), (51, 240)),
    ((17, 40), (17, 40)),
    ((1, 1), (5, 7)),
    ((9, 1), (35, 3)),
    ((6, 7), (23, 29)),
    ((25, 33), (97, 131)),
    ((30, 40), (47, 53)),
    ((30, 40), (19, 23)),  # fewer pixels than logits
    ((30, 40), (1, 1)),
]
STREETS = [((112, 150), (360, 480)), ((120, 160), (360, 480)), ((120, 213), (1080, 1920))]


def logits_of(classes: int, size: tuple[int, int], *, smooth: bool) -> np.ndarray:
    random = np.random.default_rng(classes * sum(size)).standard_normal((classes, *size))
    logits = random.astype(np.float32)
    if smooth:
        logits = np.stack([10 * cv2.GaussianBlur(plane, (0, 0), 3) for plane in logits])
    return logits


def check(logits: np.ndarray, size: tuple[int, int], temperature: float) -> None:
    label, confidence, alone = (np.full(size, 77, np.uint8) for _ in range(3))
    nearest = logits.argmax(0).astype(np.uint8)
    upsample(logits, nearest, label, confidence, temperature)
    upsample(logits, nearest, alone)
    whole = functional.interpolate(torch.from_numpy(logits)[None].double(), size=size, mode='bilinear')[0]
    top = whole.topk(min(2, len(logits)), 0)
    clear = (top.values[0] - top.values[-1] > 1e-4).numpy()  # elsewhere rounding decides
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(label[clear], top.indices[0].numpy()[clear])
    np.testing.assert_array_equal(alone[clear], label[clear])
    expected = (whole / temperature).softmax(0).amax(0).numpy() * 255
    assert np.abs(confidence - expected).max() < 0.501


@pytest.mark.parametrize('smooth', [True, False])
@pytest.mark.parametrize(('logits_size', 'size'), SIZES)
@pytest.mark.parametrize('classes', [2, 11, 150])
def test_label_and_confidence_are_those_of_the_bilinear_upsampling(classes, logits_size, size, smooth):
    check(logits_of(classes, logits_size, smooth=smooth), size, 0.7)


@pytest.mark.parametrize(('logits_size', 'size'), STREETS)
def test_so_they_are_at_the_sizes_of_cameras(logits_size, size):
    check(logits_of(5, logits_size, smooth=True), size, 0.05)


def test_a_certain_cell_is_not_interpolated_and_an_uncertain_one_is(monkeypatch):
    blended = []
    blend = module._blend
    monkeypatch.setattr(module, '_blend', lambda *a: (blended.append(a[3].size), blend(*a)))
    logits = logits_of(5, (20, 30), smooth=True)
    label, confidence = np.zeros((80, 120), np.uint8), np.zeros((80, 120), np.uint8)
    cells = []
    for temperature in (0.01, 1.0):
        blended.clear()
        upsample(logits, logits.argmax(0).astype(np.uint8), label, confidence, temperature)
        cells.append(sum(blended))
    assert 0 < cells[0] < 0.6 * 21 * 31
    assert cells[1] > 0.9 * 21 * 31


def test_it_does_interpolate_where_corners_disagree():
    logits = logits_of(5, (20, 30), smooth=True)
    nearest = logits.argmax(0).astype(np.uint8)
    label = np.zeros((80, 120), np.uint8)
    upsample(logits, nearest, label)
    repeated = np.repeat(np.repeat(nearest, 4, 0), 4, 1)
    assert 0.01 < (label != repeated).mean() < 0.3
