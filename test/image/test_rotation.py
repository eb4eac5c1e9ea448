# SPDX-License-Identifier: Apache-2.0
"""Images of cameras that are mounted upside down or sideways."""

import numpy as np
import pytest

from lw_refinenet_ros.image.rotation import ROTATIONS, rotate

IMAGE = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)


@pytest.mark.parametrize('degrees', ROTATIONS)
@pytest.mark.parametrize('image', [IMAGE[..., 0], IMAGE[..., :3], IMAGE[:, 1:6, :3], IMAGE[..., 2::-1]])
def test_a_rotation_is_clockwise_and_undone_by_the_rest_of_the_circle(image, degrees):
    turned = rotate(image, degrees)
    assert np.array_equal(turned, np.rot90(image, -degrees // 90))
    out = np.empty_like(image, order='C')
    assert np.array_equal(rotate(turned, (360 - degrees) % 360, out), image)
    assert degrees == 0 or rotate(turned, 360 - degrees, out) is out
