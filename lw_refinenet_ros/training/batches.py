# SPDX-License-Identifier: Apache-2.0
"""The batches of an epoch, prepared ahead by threads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lw_refinenet_ros.training.augmentation import (
    mix_boxes,
    mix_classes,
    perturb,
    random_crop,
    rare_classes,
    recolour,
    relight,
)
from lw_refinenet_ros.training.config import TrainingConfig
from lw_refinenet_ros.training.dataset import LoadedPairs, Pairs

__all__ = ['Batches']

MIXED = 0.5  # share of the crops with pseudo-labels that get a box of another

Crop = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class Batches:
    """Random crops of labelled images and, for self-training, as many of images with pseudo-labels.

    Args:
        pairs: labelled images.
        config: the options.
        unlabelled: images with pseudo-labels, which are perturbed strongly; None without.

    Attributes:
        steps: batches of an epoch.
    """

    def __init__(self, pairs: Pairs, config: TrainingConfig, unlabelled: Pairs | None = None) -> None:
        self._config, self._labelled = config, len(pairs)
        self._data = LoadedPairs(pairs if unlabelled is None else pairs + unlabelled)
        self._rare = rare_classes(pairs.counts)
        self.steps = math.ceil(len(pairs) / config.batch_size)

    def of_epoch(self, epoch: int, pool: ThreadPoolExecutor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches, uint8 (N, 3, h, w) and int64 (N, h, w); the same for the same epoch and seed.

        The first `batch_size` crops of a batch are labelled, the others have pseudo-labels.
        """
        order = self._order(epoch)
        size = order.shape[1]
        crops = [(epoch, *each) for each in enumerate(order.ravel().tolist())]
        futures = [pool.submit(self._crop, *each) for each in crops[: 2 * size]]
        for step in range(self.steps):
            images, labels = map(np.stack, zip(*(future.result() for future in futures[:size])))
            ahead = crops[(step + 2) * size : (step + 3) * size]
            futures = futures[size:] + [pool.submit(self._crop, *each) for each in ahead]
            self._mix(images, labels, np.random.default_rng((self._config.seed, epoch, len(crops) + step)))
            yield torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels).long()

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the images of each batch of an epoch, (steps, N)."""
        random = np.random.default_rng((self._config.seed, epoch))
        of_batches = (self.steps, self._config.batch_size)
        # Batch norm needs full batches, so some images occur twice in an epoch.
        order = np.resize(random.permutation(self._labelled), of_batches)
        if len(self._data) == self._labelled:
            return order
        others = self._labelled + random.permutation(len(self._data) - self._labelled)
        return np.hstack([order, np.resize(others, of_batches)])

    def _crop(self, epoch: int, position: int, index: int) -> Crop:
        random = np.random.default_rng((self._config.seed, epoch, position))
        image, label = random_crop(*self._data[index], self._config, random)
        if index >= self._labelled:
            return perturb(image, random), label
        image = recolour(image, self._config.jitter, random)
        return relight(image, self._config.illumination, random), label

    def _mix(self, images: NDArray[np.uint8], labels: NDArray[np.uint8], random: np.random.Generator) -> None:
        size = self._config.batch_size
        mix_classes(images[:size], labels[:size], self._rare, self._config.class_mix, random)
        mix_boxes(images[size:], labels[size:], MIXED, random)
