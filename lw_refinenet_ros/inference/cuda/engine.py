# SPDX-License-Identifier: Apache-2.0
"""The PyTorch engine on CUDA: camera bytes in, labels out, in one recorded graph per job."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lw_refinenet_ros.inference.cuda import torch_kernels
from lw_refinenet_ros.inference.cuda.captured_job import CapturedJob, CaptureError, in_background, in_recorder
from lw_refinenet_ros.inference.cuda.failures import (
    device_answers,
    first_line,
    is_of_triton,
    is_out_of_memory,
)
from lw_refinenet_ros.inference.cuda.fusion import fuse, replace_kernels
from lw_refinenet_ros.inference.cuda.kernels import Paint, choose_kernels
from lw_refinenet_ros.inference.cuda.painter import Painter
from lw_refinenet_ros.inference.cuda.pinned_memory import Frames
from lw_refinenet_ros.inference.engine import Batch, EngineError, Job, Painting, Pixels
from lw_refinenet_ros.inference.torch_engine import DTYPES
from lw_refinenet_ros.model.network import Network, drop_tensors
from lw_refinenet_ros.model.rewrite import rewrite_for_inference, tracing
from lw_refinenet_ros.model.weights import Card

__all__ = ['CudaEngine']

KEPT_JOBS = 8  # recorded graphs with their buffers; the least recently used goes first
TIMED_FRAMES = 20  # decide whether the device uses the host's memory in place
MEMORY = {False: 'staged frames', True: 'frames in mapped memory'}


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
        self._runs = 0
        self._working = threading.Lock()  # held while frames are on their way
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
            self._paint_kernel: Paint | None = getattr(self._kernels, 'paint', None)
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

    def run(self, job: Job, batch: Batch) -> Painting | None:
        """Segment a batch, or its images one by one where the device has no memory for all at once.

        Raises:
            EngineError: the device is out of memory or lost. What could be freed was: the next call tries
                again.
        """
        with self._working:
            self._runs += 1
            whole = self._run(job, batch)
            return partial(_paint, weakref.ref(self), job, self._runs) if whole else None

    def _run(self, job: Job, batch: Batch) -> bool:
        """Do as `run` does; return whether the batch was segmented as one."""
        if job not in self._too_large:
            try:
                self._attempt(_what(job), lambda: self._prepare(job).run(batch))
            except _OutOfMemoryError:
                if job.batch == 1:
                    raise
                self._too_large.add(job)
            else:
                return True
        single = replace(job, batch=1)
        for index in range(job.batch):
            self._run(single, batch.one(index))
        return False

    def paint(self, job: Job, run: int, index: int, label: Pixels, table: Pixels, out: Pixels) -> bool:
        """Paint an image of a run, as `Painting` says, unless the next frames are on their way."""
        if not self._working.acquire(blocking=False):
            return False
        try:
            captured = self._captured.get(job)
            painter = self._painter(job, captured) if captured is not None else None
            if captured is None or painter is None or run != self._runs:
                return False
            painter.paint(int(captured.frames.addresses[index]), label, table, out)
        except RuntimeError as error:  # a device that is lost is reported with the next frame
            self._paint_no_more(error)
            return False
        finally:
            self._working.release()
        return True

    def _painter(self, job: Job, captured: CapturedJob) -> Painter | None:
        """Return what paints a job's images, once it is made; the CPU does until then."""
        if self._paint_kernel is None:
            return None
        if captured.painter is None:
            make = partial(Painter, job.image_size, job.order, self._paint_kernel, self._stream)
            captured.painter = in_background(partial(make, mapped=bool(self._mapped)))
        if not captured.painter.done():
            return None
        error = captured.painter.exception()
        if error is None:
            return captured.painter.result()
        captured.painter = None  # with the memory that its traceback holds
        self._paint_no_more(error)
        return None

    def _paint_no_more(self, error: BaseException) -> None:
        self._paint_kernel = None
        self.description += f'; now overlays are painted on the CPU: {first_line(error)}'

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
            if self._kernels is torch_kernels or not is_of_triton(error):
                raise
            self.description += f'; now PyTorch kernels: Triton failed at {_what(job)}, {first_line(error)}'
            replace_kernels(self._network, self._kernels, torch_kernels)
            self._kernels = torch_kernels
            captured = self._capture(job)
        self._captured[job] = captured
        return captured

    def _capture(self, job: Job) -> CapturedJob:
        def capture(*, mapped: bool) -> CapturedJob:
            addressed = self._kernels is not torch_kernels
            return CapturedJob(
                *(job, self._compute, self._stream, self._pool), mapped=mapped, addressed=addressed
            )

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
    def _compute(self, job: Job, frames: Frames, labels: Tensor, confidences: Tensor | None) -> None:
        x = self._kernels.normalise(frames, job.network_size, job.order, self._mean, self._std, self._dtype)
        with tracing:
            logits = self._network(x)
        self._kernels.label_pixels(logits, labels, confidences, self._temperature)

    def _attempt(self, what: str, work: Callable[[], object]) -> None:
        """Do work; where the device fails, say so in one line and free what can be freed."""
        if self._lost:
            if not device_answers():
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
            elif not device_answers():
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


def _paint(
    engine: weakref.ref[CudaEngine], job: Job, run: int, index: int, label: Pixels, table: Pixels, out: Pixels
) -> bool:
    """Paint, as `Painting` says, if the engine still lives: what it made does not keep its memory."""
    made = engine()
    return made is not None and made.paint(job, run, index, label, table, out)


def _current_device() -> torch.device:
    return torch.device('cuda', torch.cuda.current_device())


def _collect() -> None:
    """Free the device memory that nothing uses any more, that of reference cycles included."""
    gc.collect()
    torch.cuda.empty_cache()


def _what(job: Job) -> str:
    height, width = job.image_size
    return f'{job.batch} of {width}x{height}' if job.batch > 1 else f'{width}x{height}'
