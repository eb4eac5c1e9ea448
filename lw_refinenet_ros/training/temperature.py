# SPDX-License-Identifier: Apache-2.0
"""Temperature scaling: calibrate the confidence on validation images (Guo et al., ICML 2017)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lw_refinenet_ros.inference.choice import has_bf16
from lw_refinenet_ros.inference.passes import normalise, resize
from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.model.network import Network
from lw_refinenet_ros.model.weights import Card
from lw_refinenet_ros.training.dataset import Pairs, read_pair

__all__ = ['fit_temperature', 'sample_logits']

PIXELS_PER_IMAGE = 4000
RANGE = (0.05, 20.0)  # outside, no temperature can help


@torch.no_grad()
def sample_logits(
    network: Network, card: Card, pairs: Pairs, progress: Callable[[int], None] = lambda _: None
) -> tuple[Tensor, Tensor]:
    """Return the upsampled logits (N, C) and true classes (N,) of random labelled pixels."""
    random = np.random.default_rng(0)
    bf16 = has_bf16('cpu')
    mean, std = (torch.tensor(v) * 255 for v in (card.mean, card.std))
    logits, classes = [], []
    for index, (image, label) in enumerate(read_pair(*pair) for pair in zip(pairs.images, pairs.masks)):
        frames, (height, width) = torch.from_numpy(image)[None], label.shape
        x = normalise(frames, (height, width), 'rgb', mean, std, torch.float32)
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            small = network(x)
        whole = resize(small.float(), (height, width))
        known = np.flatnonzero(label != UNLABELLED)
        chosen = torch.from_numpy(random.choice(known, min(len(known), PIXELS_PER_IMAGE), replace=False))
        logits.append(whole[0].flatten(1)[:, chosen].T)
        classes.append(torch.from_numpy(label).flatten()[chosen].long())
        progress(index + 1)
    return torch.cat(logits), torch.cat(classes)


def fit_temperature(logits: Tensor, classes: Tensor) -> float:
    """Return the T in `RANGE` that maximises the likelihood of the true classes under softmax(logits / T)."""
    log_t = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=50, line_search_fn='strong_wolfe')

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(logits / log_t.exp(), classes)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(log_t.detach().exp().clamp(*RANGE))
