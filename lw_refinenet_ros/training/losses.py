# SPDX-License-Identifier: Apache-2.0
"""The training loss: cross-entropy of all or of the hardest pixels, and the soft Jaccard loss."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.training.config import TrainingConfig

__all__ = ['class_weights', 'segmentation_loss', 'soft_jaccard']


def class_weights(counts: NDArray[np.int64], offset: float) -> Tensor | None:
    """Return ENet's class weights, float32 (C,) with mean 1, by the pixels of each class, (C,).

    None is equal weights, for an offset of 0; see `TrainingConfig.class_weight_offset`.
    """
    if offset == 0:
        return None
    weights = 1 / np.log(offset + counts.astype(np.float64) / max(counts.sum(), 1))
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def segmentation_loss(
    logits: Tensor, labels: Tensor, weights: Tensor | None, config: TrainingConfig
) -> Tensor:
    """Return the loss of a batch, a scalar.

    Args:
        logits: (N, C, h, w) at the stride of the network.
        labels: int64 (N, H, W) class ids; `UNLABELLED` does not count.
        weights: class weights, (C,), or None.
        config: `hard_fraction` and `jaccard`.
    """
    size = labels.shape[-2:]
    logits = functional.interpolate(logits.float(), size=size, mode='bilinear', align_corners=False)
    scores = logits.log_softmax(1)
    losses = functional.nll_loss(scores, labels, weights, ignore_index=UNLABELLED, reduction='none')
    counted = labels != UNLABELLED
    if config.hard_fraction < 1:
        loss = _mean_of_hardest(losses[counted], config.hard_fraction)
    else:
        weight = torch.ones_like(losses) if weights is None else weights[labels.clamp(max=len(weights) - 1)]
        loss = losses.sum() / (weight * counted).sum().clamp(min=1)
    if config.jaccard:
        loss = loss + config.jaccard * soft_jaccard(scores, labels, counted)
    return loss


def _mean_of_hardest(losses: Tensor, fraction: float) -> Tensor:
    """Return the mean of the largest losses (bootstrapping: Wu et al., arXiv 2016); 0 if there are none."""
    if not losses.numel():
        return losses.sum()
    return losses.topk(max(1, round(fraction * losses.numel()))).values.mean()


def soft_jaccard(scores: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """Return 1 - the soft IoU, averaged over the classes in a batch (Rahman and Wang, ISVC 2016).

    Args:
        scores: log-softmax (N, C, H, W).
        labels: int64 (N, H, W).
        counted: bool (N, H, W), False where there is no label.
    """
    probability = scores.exp() * counted[:, None]
    ids = torch.arange(scores.shape[1], device=scores.device).view(-1, 1, 1)
    truth = (labels[:, None] == ids) & counted[:, None]  # no scatter: sums on a GPU, always the same
    overlap = (probability * truth).sum((0, 2, 3))
    pixels = truth.sum((0, 2, 3))
    union = probability.sum((0, 2, 3)) + pixels - overlap
    present = pixels > 0
    ious = torch.where(present, overlap / union.clamp(min=1e-6), 0.0)
    return 1 - ious.sum() / present.sum().clamp(min=1)
