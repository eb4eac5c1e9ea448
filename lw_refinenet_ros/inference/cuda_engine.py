# SPDX-License-Identifier: Apache-2.0
"""The PyTorch engine on CUDA: camera bytes in, labels out, in one recorded graph per job."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch

from lw_refinenet_ros.inference import fused_torch
from lw_refinenet_ros.inference.captured_job import CapturedJob, capturing
from lw_refinenet_ros.inference.engine import EngineError
from lw_refinenet_ros.inference.fused import choose_kernels, fuse
from lw_refinenet_ros.model.rewrite import rewrite_for_inference, tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from lw_refinenet_ros.inference.engine import Job, Pixels
    from lw_refinenet_ros.model.network import Network
    from lw_refinenet_ros.model.weights import Card

__all__ = ['CudaEngine', 'is_out_of_memory']

KEPT_JOBS = 8  # recorded graphs with their memory; the least recently used goes first
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class CudaEngine:
    """Runs a network on a CUDA device; one recorded graph per job.

    Args:
        network: in evaluation mode; it is copied.
        card: what its weights file says.
        precision: 'fp16', 'bf16' or 'fp32'; weights are converted once.
        mapped: whether the device reads frames and writes labels in page-locked memory of the host, in
            place; None does so on integrated GPUs, whose memory is the host's.
        triton: whether Triton's kernels are used where they run.

    Raises:
        EngineError: the device does not have the precision, is out of memory or lost.

    """

    name = 'torch'
    device = 'cuda'

    def __init__(
        self,
        network: Network,
        card: Card,
        *,
        precision: str = 'fp16',
        mapped: bool | None = None,
        triton: bool = True,
    ) -> None:
        self.precision = precision
        if self.precision not in DTYPES:
            msg = f"precision {precision!r} does not run on 'cuda': use {', '.join(DTYPES)}"
            raise EngineError(msg)
        device = torch.device('cuda', torch.cuda.current_device())
        properties = torch.cuda.get_device_properties(device)
        if self.precision == 'bf16' and properties.major < 8:
            msg = f"precision 'bf16' does not run on {properties.name}: use fp16 or fp32"
            raise EngineError(msg)
        self._dtype, self._temperature = DTYPES[self.precision], card.temperature
        self._mapped = bool(properties.is_integrated) if mapped is None else mapped
        self._captured: OrderedDict[Job, CapturedJob] = OrderedDict()
        self._lost = ''
        self._network = rewrite_for_inference(network)
        self._attempt('the network', lambda: self._load(card, device, triton=triton))
        memory = 'frames in mapped memory' if self._mapped else 'staged frames'
        self.description = (
            f'PyTorch {torch.__version__} on {properties.name}, {self.precision}, CUDA graphs, {memory}, '
            f'{self._why}'
        )

    def _load(self, card: Card, device: torch.device, *, triton: bool) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            self._kernels, self._why = choose_kernels(device) if triton else (fused_torch, 'PyTorch kernels')
            network = fuse(self._network, self._kernels)
            self._network = network.to(device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._mean, self._std = (torch.tensor(v, device=device) * 255 for v in (card.mean, card.std))

    def prepare(self, job: Job) -> None:
        """Record the graph of a job, unless it is kept."""
        self._attempt(_what(job), lambda: self._prepare(job))

    def run(
        self,
        job: Job,
        images: Sequence[Pixels],
        labels: Sequence[Pixels],
        confidences: Sequence[Pixels] | None,
    ) -> None:
        """Segment a batch; only what the job asks for comes back from the device.

        Raises:
            EngineError: the device is out of memory or lost. What could be freed was: the next call tries
                again.

        """
        self._attempt(_what(job), lambda: self._prepare(job).run(images, labels, confidences))

    def _prepare(self, job: Job) -> CapturedJob:
        if job in self._captured:
            self._captured.move_to_end(job)
            return self._captured[job]
        while len(self._captured) >= KEPT_JOBS:
            self._captured.popitem(last=False)
            _give_memory_back()
        # Each layer takes its fastest algorithm; float32 is float32, without TF32's shorter mantissa.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            self._captured[job] = CapturedJob(job, self._compute, self._stream, mapped=self._mapped)
        return self._captured[job]

    @torch.inference_mode()
    def _compute(self, job: Job, frames: Tensor, labels: Tensor, confidences: Tensor | None) -> None:
        x = self._kernels.normalise(frames, job.network_size, job.order, self._mean, self._std, self._dtype)
        with tracing:
            logits = self._network(x)
        self._kernels.label_pixels(logits, labels, confidences, self._temperature)

    def _attempt(self, what: str, work: Callable[[], object]) -> None:
        """Do work; where the device fails, say so in one line and free what can be freed."""
        if self._lost:
            if not _answers():
                raise EngineError(self._lost)
            self._lost = ''
            self._captured.clear()
        try:
            work()
        except RuntimeError as error:  # PyTorch's own errors of CUDA are all of this kind
            reason = str(error).partition('\n')[0]
            if is_out_of_memory(error):
                failure = f'CUDA is out of memory for {what}: {reason}'
            elif not _answers():
                # Nothing is freed: a device that is gone cannot, and PyTorch ends the process over it.
                self._lost = f'the CUDA device was lost ({reason}): restart this process; dmesg may say why'
                raise EngineError(self._lost) from error
            else:
                raise
        else:
            return
        # Out of the handler, where the error's traceback no longer holds the memory of what failed.
        self._captured.clear()
        _give_memory_back()
        msg = (
            f'{failure} What could be freed was, for the next frame; a smaller network_height and '
            'network_width, fewer cameras or fp16 need less'
        )
        raise EngineError(msg)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, is that a CUDA device had no memory left."""
    while error is not None:
        said = str(error)
        if (
            isinstance(error, torch.cuda.OutOfMemoryError)
            or 'out of memory' in said
            or 'ALLOC_FAILED' in said
        ):
            return True
        error = error.__context__
    return False


def _answers() -> bool:
    """Whether the device still does anything: an error that sticks comes back from every call."""
    try:
        with capturing:
            torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def _give_memory_back() -> None:
    with capturing:
        torch.cuda.empty_cache()


def _what(job: Job) -> str:
    height, width = job.image_size
    return f'{job.batch} of {width}x{height}' if job.batch > 1 else f'{width}x{height}'
