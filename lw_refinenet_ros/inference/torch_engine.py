# SPDX-License-Identifier: Apache-2.0
"""PyTorch, eagerly: on the CPU the reference for every other engine."""

from __future__ import annotations

import platform
from collections import deque

import cv2
import torch
from torch import Tensor

from lw_refinenet_ros.inference.engine import Batch, EngineError, Job
from lw_refinenet_ros.inference.passes import classify, normalise, resize
from lw_refinenet_ros.model.network import Network, drop_tensors
from lw_refinenet_ros.model.rewrite import rewrite_for_inference, tracing
from lw_refinenet_ros.model.weights import Card

__all__ = ['DTYPES', 'TorchEngine']

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class TorchEngine:
    """Runs a network eagerly, channels last.

    Raises:
        EngineError: the device does not have the precision.
    """

    name = 'torch'

    def __init__(self, network: Network, card: Card, *, device: str, precision: str, threads: int) -> None:
        self.device = device
        self.precision = precision
        if self.precision not in DTYPES or (device == 'cpu' and self.precision == 'fp16'):
            raise EngineError(f'precision {precision!r} does not run on {device!r}: use fp32 or bf16')
        if threads:
            torch.set_num_threads(threads)
        if platform.machine() == 'x86_64' and torch.backends.cpu.get_cpu_capability() == 'DEFAULT':
            # Without AVX2, NNPACK only complains, at every convolution.
            torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
        self._dtype = DTYPES[self.precision]
        module = rewrite_for_inference(network)
        self._network = module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean, self._std = (torch.tensor(v, device=device) * 255 for v in (card.mean, card.std))
        self._prepared: deque[Job] = deque(maxlen=16)
        self._temperature = card.temperature
        self.description = f'PyTorch {torch.__version__} on {device.upper()}, {self.precision}'

    def prepare(self, job: Job) -> None:
        """Run a grey image, so that kernels are chosen and memory is there."""
        if job not in self._prepared:
            self._infer(job, torch.full((job.batch, *job.image_size, 3), 127, dtype=torch.uint8))
            self._prepared.append(job)

    def close(self) -> None:
        """Free the weights."""
        drop_tensors(self._network)

    def run(self, job: Job, batch: Batch) -> None:
        """Segment a batch; only what was asked for comes back from the device."""
        classes, certainties = self._infer(job, _stack([torch.from_numpy(image) for image in batch.images]))
        for label, row in zip(batch.labels, classes):
            cv2.LUT(row.cpu().numpy(), batch.ids, dst=label)
        if batch.confidences is not None and certainties is not None:
            for confidence, row in zip(batch.confidences, certainties):
                torch.from_numpy(confidence).copy_(row)

    @torch.inference_mode()
    def _infer(self, job: Job, image: Tensor) -> tuple[Tensor, Tensor | None]:
        frames = image.to(self.device)
        x = normalise(frames, job.network_size, job.order, self._mean, self._std, torch.float32)
        with tracing, torch.autocast(self.device, self._dtype, enabled=self._dtype != torch.float32):
            logits = self._network(x)
        return classify(resize(logits.float(), job.image_size), self._temperature if job.confidence else None)


def _stack(images: list[Tensor]) -> Tensor:
    """Return a batch; a view where it is of one."""
    return images[0][None] if len(images) == 1 else torch.stack(images)
