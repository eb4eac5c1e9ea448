# SPDX-License-Identifier: Apache-2.0
"""The PyTorch engine on CUDA: camera bytes in, labels out, in one recorded graph per job."""

from __future__ import annotations

import gc
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from lw_refinenet_ros.inference.cuda import torch_kernels
from lw_refinenet_ros.inference.cuda.captured_job import CapturedJob, CaptureError, in_background, in_recorder
from lw_refinenet_ros.inference.cuda.fusion import fuse, replace_kernels
from lw_refinenet_ros.inference.cuda.kernels import choose_kernels
from lw_refinenet_ros.inference.engine import CLASSES, EngineError
from lw_refinenet_ros.model.network import drop_tensors
from lw_refinenet_ros.model.rewrite import rewrite_for_inference, tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from lw_refinenet_ros.inference.engine import Job, Pixels
    from lw_refinenet_ros.model.network import Network
    from lw_refinenet_ros.model.weights import Card

__all__ = ['CudaEngine', 'is_out_of_memory']

KEPT_JOBS = 8  # recorded graphs with their buffers; the least recently used goes first
TIMED_FRAMES = 20  # decide whether the device uses the host's memory in place
LITTLE_MEMORY = 512 * 2**20  # bytes free; below, "no engine for this convolution" means "no memory for one"
MEMORY = {False: 'staged frames', True: 'frames in mapped memory'}
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


class _OutOfMemoryError(EngineError):
    """The device has no memory for a job; what could be freed was."""


class CudaEngine:
    """Runs a network on a CUDA device; one recorded graph per job.

    Args:
        network: in evaluation mode; it is copied.
        card: of its weights file.
        precision: 'fp16', 'bf16' or 'fp32'; weights are converted once.
        mapped: whether the device reads frames and writes labels in page-locked memory of the host, in
            place; None times both on the first job and keeps the faster.
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
            raise EngineError(f"precision {precision!r} does not run on 'cuda': use {', '.join(DTYPES)}")
        device = _current_device()
        properties = torch.cuda.get_device_properties(device)
        if self.precision == 'bf16' and properties.major < 8:
            raise EngineError(f"precision 'bf16' does not run on {properties.name}: use fp16 or fp32")
        self._dtype, self._temperature = DTYPES[self.precision], card.temperature
        self._mapped = mapped
        self._captured: OrderedDict[Job, CapturedJob] = OrderedDict()
        self._too_large: set[Job] = set()  # batches that there is no memory for
        self._lost = ''
        self._network = rewrite_for_inference(network)
        self._attempt('the network', lambda: in_recorder(lambda: self._load(card, device, triton=triton)))
        self.description = (
            f'PyTorch {torch.__version__} on {properties.name}, {self.precision}, CUDA graphs, {self._why}'
        )
        if mapped is not None:
            self.description += f', {MEMORY[mapped]}'

    def _load(self, card: Card, device: torch.device, *, triton: bool) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            self._kernels, self._why = (
                choose_kernels(device) if triton else (torch_kernels, 'PyTorch kernels')
            )
            network = fuse(self._network, self._kernels)
            self._network = network.to(device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._mean, self._std = (torch.tensor(v, device=device) * 255 for v in (card.mean, card.std))

    def prepare(self, job: Job) -> None:
        """Record the graph of a job, if it is new; a batch too large for the device is not an error."""
        try:
            self._attempt(_what(job), lambda: self._prepare(job))
        except _OutOfMemoryError:
            if job.batch == 1:
                raise
            self._too_large.add(job)

    def run(
        self,
        job: Job,
        images: Sequence[Pixels],
        labels: Sequence[Pixels],
        confidences: Sequence[Pixels] | None,
        ids: Pixels = CLASSES,
    ) -> None:
        """Segment a batch, or its images one by one where the device has no memory for all at once.

        Raises:
            EngineError: the device is out of memory or lost. What could be freed was: the next call tries
                again.

        """
        if job not in self._too_large:
            try:
                self._attempt(_what(job), lambda: self._prepare(job).run(images, labels, confidences, ids))
            except _OutOfMemoryError:
                if job.batch == 1:
                    raise
                self._too_large.add(job)
            else:
                return
        single = replace(job, batch=1)
        for index in range(job.batch):
            one = slice(index, index + 1)
            self.run(single, images[one], labels[one], confidences[one] if confidences else None, ids)

    def close(self) -> None:
        """Free the device's memory, in the recorder's thread and without waiting for it."""
        in_background(self._close)

    def _close(self) -> None:
        self._captured.clear()
        drop_tensors(self._network)
        torch.cuda.empty_cache()

    def _prepare(self, job: Job) -> CapturedJob:
        if job in self._captured:
            self._captured.move_to_end(job)
            return self._captured[job]
        return in_recorder(lambda: self._record(job))

    def _record(self, job: Job) -> CapturedJob:
        """Record a job, with PyTorch's kernels from then on if Triton's fail; in the recorder's thread."""
        while len(self._captured) >= KEPT_JOBS:
            self._captured.popitem(last=False)
            torch.cuda.empty_cache()
        if not self._captured:
            self._pool = torch.cuda.graph_pool_handle()
        try:
            captured = self._capture(job)
        except Exception as error:
            if self._kernels is torch_kernels or not _is_of_triton(error):
                raise
            reason = f'{type(error).__name__}: {str(error).partition(chr(10))[0]}'
            self.description += f'; now PyTorch kernels: Triton failed at {_what(job)}, {reason}'
            replace_kernels(self._network, self._kernels, torch_kernels)
            self._kernels = torch_kernels
            captured = self._capture(job)
        self._captured[job] = captured
        return captured

    def _capture(self, job: Job) -> CapturedJob:
        def capture(*, mapped: bool) -> CapturedJob:
            return CapturedJob(job, self._compute, self._stream, self._pool, mapped=mapped)

        if self._mapped is not None:
            return capture(mapped=self._mapped)
        staged = capture(mapped=False)
        in_place = None
        with suppress(EngineError):  # the device cannot
            in_place = capture(mapped=True)
        self._mapped = bool(in_place and in_place.median_ms(TIMED_FRAMES) < staged.median_ms(TIMED_FRAMES))
        self.description += f', {MEMORY[self._mapped]}'
        return in_place if in_place and self._mapped else staged

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
            elif isinstance(error, CaptureError) or 'captures_underway' in str(error):
                raise EngineError(
                    f'no graph could be recorded for {what} ({reason}); those that are recorded go on. If '
                    'every other size fails too, restart this process'
                ) from error
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
        in_recorder(_collect)
        raise _OutOfMemoryError(
            f'{failure} What could be freed was, for the next frame; a smaller network_height and '
            'network_width, fewer cameras or fp16 need less'
        )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, is that a CUDA device had no memory left."""
    while error is not None:
        text = str(error)
        if (
            isinstance(error, torch.cuda.OutOfMemoryError)
            or any(words in text for words in ('out of memory', 'ALLOC_FAILED', 'ALLOCATION_FAILED'))
            or ('unable to find an engine' in text and _free_memory() < LITTLE_MEMORY)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_of_triton(error: BaseException) -> bool:
    """Whether an error is Triton's own: a kernel that does not build or start on this device."""
    return type(error).__module__.partition('.')[0] == 'triton'


def _current_device() -> torch.device:
    return torch.device('cuda', torch.cuda.current_device())


def _free_memory() -> int:
    """Return the bytes of the current device that nobody has."""
    free, _ = torch.cuda.mem_get_info()
    return int(free)


def _answers() -> bool:
    """Whether the device still does anything: an error that sticks comes back from every call."""
    try:
        in_recorder(torch.cuda.synchronize)
    except RuntimeError:
        return False
    return True


def _collect() -> None:
    """Free the device memory that nothing uses any more, that of reference cycles included."""
    gc.collect()
    torch.cuda.empty_cache()


def _what(job: Job) -> str:
    height, width = job.image_size
    return f'{job.batch} of {width}x{height}' if job.batch > 1 else f'{width}x{height}'
