# SPDX-License-Identifier: Apache-2.0
"""Random colour and light of crops, and pixels of other crops of the batch, on the device that trains."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

__all__ = ['LOOK', 'draw_box', 'draw_look', 'draw_strong_look', 'look_at', 'paste']

Random = np.random.Generator

LOOK = 18  # values of a look: a 3x4 matrix for colour, gains of RGB, exponent, sigma of the blur and of noise
COLOUR, GAINS, EXPONENT, SIGMA, NOISE = slice(12), slice(12, 15), 15, 16, 17  # their places
GAMMA = 2.2  # of a camera's 8-bit values
GREY = 0.2  # share of strongly perturbed crops without colour
REACH = 5  # pixels, of the blur
LUMA = np.array([0.299, 0.587, 0.114])
AROUND = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])  # x -> the grey axis, of length sqrt(3), times x


def draw_look(jitter: float, illumination: float, random: Random) -> NDArray[np.float32]:
    """Draw a random change of colour and light, which `look_at` applies.

    Colour: contrast, brightness and saturation by up to `jitter`, hue by up to 36 degrees times `jitter`.
    Light, in half of the calls, at an `illumination` of 1 down to dusk: in linear light, exposure by -3
    to +1 stops and colour temperature as a gain of red and its inverse of blue, up to 1.5 (Afifi and
    Brown, ICCV 2019); then gamma of up to 1.3, and blur of up to 1.5 pixels and noise of up to 20 of 255
    (Hendrycks and Dietterich, ICLR 2019). All ranges are proportional to the strength.

    Returns:
        the (LOOK,) values.
    """
    contrast, brightness, saturation, hue = random.uniform(-jitter, jitter, 4)
    strength = illumination * float(random.random() < 0.5)
    stops, warmth, gamma, blur, noise = strength * random.uniform((-3, -1, -1, 0, 0), (1, 1, 1, 1.5, 20))
    colour = _colour(contrast, brightness, saturation, np.deg2rad(36 * hue))
    exponent = 1.3**gamma
    gains = (2**stops * 1.5 ** (warmth * np.array([1, 0, -1]))) ** (exponent / GAMMA)
    return np.array([*colour.ravel(), *gains, exponent, blur, noise], np.float32)


def draw_strong_look(random: Random) -> NDArray[np.float32]:
    """Draw a strong change: the student's view (FixMatch, Sohn et al., NeurIPS 2020)."""
    look = draw_look(0.5, 1.0, random)
    if random.random() < GREY:
        look[COLOUR] = _colour(0, 0, -1, 0).ravel()
    return look


def _colour(contrast: float, brightness: float, saturation: float, hue: float) -> NDArray[np.float64]:
    """Return the (3, 4) matrix from RGB, 0 to 255, and 1 to RGB; the hue is an angle about the grey axis."""
    around = AROUND / np.sqrt(3)
    turned = np.eye(3) + np.sin(hue) * around + (1 - np.cos(hue)) * (around @ around)
    luma = np.tile(LUMA, (3, 1))
    colour = luma + (1 + saturation) * turned @ (np.eye(3) - luma)
    return np.hstack([(1 + contrast) * colour, np.full((3, 1), 128 * (brightness - contrast))])


def draw_box(height: int, width: int, random: Random) -> tuple[int, int, int, int]:
    """Draw a box of 1/4 to 3/4 of each side (CutMix; French et al., BMVC 2020): top, left, bottom, right."""
    rows, columns = (int(side * random.uniform(0.25, 0.75)) for side in (height, width))
    top, left = int(random.integers(height - rows + 1)), int(random.integers(width - columns + 1))
    return top, left, top + rows, left + columns


@torch.no_grad()
def look_at(images: Tensor, looks: Tensor) -> Tensor:
    """Change colour and light; noise is of the device's generator.

    Args:
        images: uint8 (N, h, w, 3) RGB.
        looks: float32 (N, LOOK) in host memory.

    Returns:
        float32 (N, 3, h, w), 0 to 255, on the device of the images.
    """
    count, height, width, _ = images.shape
    blurred, noisy = (bool(looks[:, column].any()) for column in (SIGMA, NOISE))
    looks = looks.to(images.device, non_blocking=True)[..., None]
    colour = looks[:, COLOUR].view(count, 3, 4)
    x = images.view(count, -1, 3).mT.float()
    x = torch.baddbmm(colour[..., 3:], colour[..., :3], x).clamp_(0, 255)
    x = (x.div_(255).pow_(looks[:, EXPONENT, None]) * looks[:, GAINS]).clamp_(max=1).mul_(255)
    x = x.view(count, 3, height, width)
    if blurred:
        x = _blur(x, looks[:, SIGMA])
    if noisy:
        x = x + torch.randn_like(x) * looks[:, NOISE, :, None, None]
    return x.clamp_(0, 255)


def _blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image (N, 3, h, w) by a Gaussian of its own sigma, (N, 1)."""
    distance = torch.arange(-REACH, REACH + 1, device=x.device)
    kernel = torch.softmax(-(distance**2) / (2 * sigma.clamp(min=0.1) ** 2), 1)
    kernel = kernel.repeat_interleave(3, 0)[:, None]  # of each channel
    channels = x.reshape(1, -1, *x.shape[2:])
    channels = functional.pad(channels, (REACH, REACH, REACH, REACH), mode='replicate')
    channels = functional.conv2d(channels, kernel[..., None], groups=len(kernel))
    return functional.conv2d(channels, kernel[..., None, :], groups=len(kernel)).view_as(x)


@torch.no_grad()
def paste(
    images: Tensor, labels: Tensor, others: Tensor, boxes: Tensor, rare: Tensor
) -> tuple[Tensor, Tensor]:
    """Replace pixels of crops by those of other crops at the same place.

    Args:
        images: (N, 3, h, w).
        labels: uint8 (N, h, w).
        others: int64 (N,), the crop from which each takes.
        boxes: int64 (N, 4), top, left, bottom, right of what it takes whole.
        rare: bool (N, 256), the classes it takes besides (after ClassMix, Olsson et al., WACV 2021).

    Returns:
        the changed copies.
    """
    of_others = labels[others]
    rows, columns = (torch.arange(side, device=labels.device) for side in labels.shape[1:])
    top, left, bottom, right = boxes.T[..., None]
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    where = in_rows[:, :, None] & in_columns[:, None]
    where |= rare.gather(1, of_others.flatten(1).long()).view_as(where)
    return torch.where(where[:, None], images[others], images), torch.where(where, of_others, labels)
