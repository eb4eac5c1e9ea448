# SPDX-License-Identifier: Apache-2.0
"""The batches of a run: crops prepared ahead by threads, their colour and light changed on the device."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lw_refinenet_ros.training.appearance import (
    LOOK,
    draw_box,
    draw_look,
    draw_strong_look,
    look_at,
    paste,
)
from lw_refinenet_ros.training.augmentation import random_crop, rare_classes
from lw_refinenet_ros.training.config import TrainingConfig
from lw_refinenet_ros.training.dataset import LoadedPairs, Pairs

__all__ = ['Batch', 'Batches']

AHEAD = 2  # batches that are prepared before they are needed
MIXED = 0.5  # share of the crops with pseudo-labels that get a box of another


class Batch:
    """Crops in host memory, and what is to change in them.

    Args:
        size: number of crops.
        height, width: of a crop.
        pinned: whether to allocate page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(self, size: int, height: int, width: int, *, pinned: bool) -> None:
        self.images = torch.empty((size, height, width, 3), dtype=torch.uint8, pin_memory=pinned)
        self.labels = torch.empty((size, height, width), dtype=torch.uint8, pin_memory=pinned)
        self.looks = torch.empty((size, LOOK), pin_memory=pinned)
        self.others = torch.empty(size, dtype=torch.int64, pin_memory=pinned)
        self.boxes = torch.zeros((size, 4), dtype=torch.int64, pin_memory=pinned)
        self.rare = torch.zeros((size, 256), dtype=torch.bool, pin_memory=pinned)

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the changed images, float32 (N, 3, h, w) of 0 to 255, and labels, int64 (N, h, w)."""

        def there(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        images, labels = look_at(there(self.images), self.looks), there(self.labels)
        if self.boxes.any() or self.rare.any():
            images, labels = paste(images, labels, *map(there, (self.others, self.boxes, self.rare)))
        return images, labels.long()


class Batches:
    """Random crops of labelled images and, for self-training, as many of images with pseudo-labels.

    Args:
        unlabelled: images with pseudo-labels, which are perturbed strongly; None without.
        pinned: whether batches are in page-locked memory.

    Attributes:
        steps: batches of an epoch.
    """

    def __init__(
        self,
        pairs: Pairs,
        config: TrainingConfig,
        unlabelled: Pairs | None = None,
        *,
        pinned: bool = False,
    ) -> None:
        self._config, self._labelled, self._pinned = config, len(pairs), pinned
        self._data = LoadedPairs(pairs if unlabelled is None else pairs + unlabelled)
        self._rare = torch.from_numpy(rare_classes(pairs.counts))
        self.steps = math.ceil(len(pairs) / config.batch_size)

    def of_epochs(self, epochs: Iterable[int], pool: ThreadPoolExecutor) -> Iterator[Batch]:
        """Yield the batches of all epochs, prepared ahead; the same for the same epoch and seed.

        The first `batch_size` crops of a batch are labelled, the others have pseudo-labels.
        """
        begun: deque[tuple[Batch, list[Future[None]]]] = deque()
        for epoch in epochs:
            order = self._order(epoch)
            for step, indices in enumerate(order):
                begun.append(self._begin(epoch, step * order.shape[1], indices, pool))
                if len(begun) > AHEAD:
                    yield _finished(*begun.popleft())
        while begun:
            yield _finished(*begun.popleft())

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

    def _begin(
        self, epoch: int, position: int, indices: NDArray[np.int64], pool: ThreadPoolExecutor
    ) -> tuple[Batch, list[Future[None]]]:
        """Let the threads fill a batch that begins at a position of an epoch."""
        config = self._config
        batch = Batch(len(indices), config.crop_height, config.crop_width, pinned=self._pinned)
        return batch, [
            pool.submit(self._fill, batch, place, (config.seed, epoch, position + place), int(index))
            for place, index in enumerate(indices)
        ]

    def _fill(self, batch: Batch, place: int, seed: tuple[int, ...], index: int) -> None:
        """Draw one crop of a batch."""
        random, config = np.random.default_rng(seed), self._config
        image, label = random_crop(*self._data[index], config, random)
        batch.images[place], batch.labels[place] = torch.from_numpy(image), torch.from_numpy(label)
        size = config.batch_size
        own = place // size * size  # where the crops of the same kind begin
        batch.others[place] = own + (place + 1) % size
        if index < self._labelled:
            batch.looks[place] = torch.from_numpy(draw_look(config.jitter, config.illumination, random))
            if random.random() < config.class_mix:
                batch.rare[place] = self._rare
        else:
            batch.looks[place] = torch.from_numpy(draw_strong_look(random))
            if random.random() < MIXED:
                batch.boxes[place] = torch.tensor(draw_box(config.crop_height, config.crop_width, random))


def _finished(batch: Batch, futures: list[Future[None]]) -> Batch:
    for future in futures:
        future.result()
    return batch
