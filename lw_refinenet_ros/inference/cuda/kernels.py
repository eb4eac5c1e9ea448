# SPDX-License-Identifier: Apache-2.0
"""Which kernels run the passes around a network on a CUDA device."""

from __future__ import annotations

import importlib.util
from typing import Protocol

import torch
from torch import Tensor

from lw_refinenet_ros.image.encodings import Order
from lw_refinenet_ros.inference.cuda import torch_kernels
from lw_refinenet_ros.inference.cuda.pinned_memory import Frames

__all__ = ['Kernels', 'Paint', 'choose_kernels']


class Kernels(Protocol):
    """What `torch_kernels` defines and documents; each module that has these functions will do."""

    def normalise(
        self,
        frames: Frames,
        size: tuple[int, int],
        order: Order,
        mean: Tensor,
        std: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        """Turn a camera's bytes into what a network takes."""

    def max_pool(self, x: Tensor, kernel: int, stride: int = 1, padding: int = 0) -> Tensor:
        """Pool without indices."""

    def finish(
        self, x: Tensor, bias: Tensor | None, others: tuple[Tensor, ...], low: float, high: float
    ) -> Tensor:
        """Add a bias and other maps to a map and clip the sum."""

    def pointwise(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        others: tuple[Tensor, ...],
        low: float,
        high: float,
    ) -> Tensor:
        """Convolve by 1x1, add a bias and other maps and clip the sum."""

    def depthwise(
        self,
        x: Tensor,
        taps: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int | None,
        low: float,
        high: float,
    ) -> Tensor:
        """Convolve each channel on its own, add a bias and clip the sum."""

    def add_upsampled(self, coarse: Tensor, x: Tensor, low: float, high: float) -> Tensor:
        """Upsample a map to the size of another, add that and clip the sum."""

    def label_pixels(
        self, logits: Tensor, labels: Tensor, confidences: Tensor | None, temperature: float
    ) -> None:
        """Upsample logits and keep each pixel's class and confidence."""


class Paint(Protocol):
    """What `triton_launch.paint` does; PyTorch's operations would need more memory than they are worth."""

    def __call__(self, address: Tensor, label: Tensor, table: Tensor, order: Order, out: Tensor) -> None:
        """Look each byte of an overlay up."""


def choose_kernels(device: torch.device) -> tuple[Kernels, str]:
    """Return Triton's kernels where they run, else PyTorch's, and which they are and why."""
    if importlib.util.find_spec('triton') is None:
        return torch_kernels, 'PyTorch kernels: triton is not installed'
    try:
        from lw_refinenet_ros.inference.cuda import triton_launch

        label = torch.empty((1, 2, 2), dtype=torch.uint8, device=device)
        triton_launch.label_pixels(torch.zeros((1, 2, 2, 2), device=device), label, None, 1.0)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # no C compiler, no Python headers, a GPU that Triton does not know
        reason = next(iter(str(error).splitlines()), '')
        return torch_kernels, f'PyTorch kernels: Triton does not run here, {type(error).__name__}: {reason}'
    return triton_launch, 'Triton kernels'
