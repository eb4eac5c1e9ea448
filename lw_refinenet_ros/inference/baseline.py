# SPDX-License-Identifier: Apache-2.0
"""The way that the published code goes from an image to an overlay, to measure ours against."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch

from lw_refinenet_ros.inference.engine import Pixels
from lw_refinenet_ros.model.network import Network
from lw_refinenet_ros.model.weights import Card

__all__ = ['UpstreamPipeline', 'time_interleaved']


class UpstreamPipeline:
    """Eager float32 in PyTorch; normalisation in float64, cubic upsampling of all scores, argmax and blend.

    Light-Weight RefineNet was published with a pipeline of these steps (Nekrasov et al., BMVC 2018).
    """

    def __init__(self, network: Network, card: Card) -> None:
        self._network, self._palette = network, card.labels.palette
        self._mean, self._std = np.array(card.mean), np.array(card.std)

    def __call__(self, image: Pixels) -> tuple[Pixels, Pixels]:
        """Return label, uint8 (H, W), and overlay, uint8 (H, W, 3), of an image, uint8 (H, W, 3) RGB."""
        height, width = image.shape[:2]
        normalised = (image * (1 / 255) - self._mean) / self._std
        with torch.no_grad():
            scores = self._network(torch.tensor(normalised.transpose(2, 0, 1)[None]).float())
        planes = scores[0].numpy().transpose(1, 2, 0)
        upsampled = cv2.resize(planes, (width, height), interpolation=cv2.INTER_CUBIC)
        label = upsampled.argmax(axis=2).astype(np.uint8)
        overlay = 0.5 * image + 0.5 * self._palette[label]
        return label, overlay.astype(np.uint8)


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int, progress: Callable[[int], None] = lambda _: None
) -> dict[str, list[float]]:
    """Time calls in turn, round after round, so that load from elsewhere affects all equally.

    Args:
        calls: by name; each is called once beforehand to warm up.
        rounds: how often each is timed.
        progress: takes the number of rounds done.

    Returns:
        milliseconds of every round, by name.
    """
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - started) * 1e3)
        progress(index + 1)
    return times
