# SPDX-License-Identifier: Apache-2.0
"""Pixels that are never labelled, from a PNG."""

import cv2
import numpy as np
import pytest

from lw_refinenet_ros.image.ignore_mask import read_ignore_mask


def test_what_is_not_zero_is_ignored(tmp_path):
    cv2.imwrite(str(tmp_path / 'body.png'), np.array([[0, 1, 255]], np.uint8))
    assert read_ignore_mask(tmp_path / 'body.png').tolist() == [[0, 255, 255]]
    assert read_ignore_mask('') is None


@pytest.mark.parametrize(
    ('name', 'channels', 'said'),
    [
        ('body.png', 3, ' is in colour; use a greyscale PNG of 8 bits'),
        ('body.png', 4, ' is in colour; use a greyscale PNG of 8 bits'),
        ('body.jpg', 1, ' is no PNG; use a greyscale PNG of 8 bits'),
        ('none.png', 0, ': No such file or directory'),
    ],
)
def test_a_picture_that_cannot_be_one_is_refused_without_a_word_about_classes(tmp_path, name, channels, said):
    if channels:
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 5, channels), np.uint8))
    with pytest.raises(ValueError, match='ignore_mask: ') as caught:
        read_ignore_mask(tmp_path / name)
    assert str(caught.value) == f'ignore_mask: {tmp_path / name}{said}'
