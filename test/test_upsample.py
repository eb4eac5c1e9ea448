# SPDX-License-Identifier: Apache-2.0
"""Interpolating only where corners disagree gives what interpolating everywhere gives."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from lw_refinenet_ros.inference.upsample import ratio_of, upsample_argmax


def logits_of(classes: int, height: int, width: int, *, smooth: bool) -> np.ndarray:
    random = np.random.default_rng(classes * height + width).standard_normal((classes, height, width))
    logits = random.astype(np.float32)
    if smooth:
        logits = np.stack([cv2.GaussianBlur(plane, (0, 0), 3) for plane in logits])
    return logits


@pytest.mark.parametrize('smooth', [True, False])
@pytest.mark.parametrize('ratio', [(4, 4), (8, 8), (3, 3), (4, 6), (1, 1), (2, 5)])
@pytest.mark.parametrize(('classes', 'height', 'width'), [(11, 17, 40), (2, 1, 1), (150, 6, 7), (21, 9, 1)])
def test_the_label_is_the_argmax_of_the_bilinear_upsampling(classes, height, width, ratio, smooth):
    logits = logits_of(classes, height, width, smooth=smooth)
    size = (height * ratio[0], width * ratio[1])
    label = np.full(size, 77, np.uint8)
    upsample_argmax(logits, logits.argmax(0).astype(np.uint8), label)
    whole = functional.interpolate(torch.from_numpy(logits)[None].double(), size=size, mode='bilinear')[0]
    top = whole.topk(2, 0)
    clear = (top.values[0] - top.values[1] > 1e-5).numpy()  # elsewhere rounding decides
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(label[clear], top.indices[0].numpy()[clear])


def test_it_does_interpolate_where_corners_disagree():
    logits = logits_of(5, 20, 30, smooth=True)
    nearest = logits.argmax(0).astype(np.uint8)
    label = np.zeros((80, 120), np.uint8)
    upsample_argmax(logits, nearest, label)
    repeated = np.repeat(np.repeat(nearest, 4, 0), 4, 1)
    assert 0.01 < (label != repeated).mean() < 0.3


def test_only_whole_ratios_are_taken():
    assert ratio_of((480, 640), (120, 160)) == (4, 4)
    assert ratio_of((480, 640), (60, 160)) == (8, 4)
    assert ratio_of((97, 131), (25, 33)) is None
