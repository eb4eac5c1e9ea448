# SPDX-License-Identifier: Apache-2.0
"""One job on a CUDA device, recorded once: from the frames on the device to the download of the labels."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from lw_refinenet_ros.inference.cuda.painter import Painter
from lw_refinenet_ros.inference.cuda.pinned_memory import FrameBuffer, Frames, PinnedBuffer, page_locked
from lw_refinenet_ros.inference.engine import CLASSES, Batch, Job

__all__ = ['CaptureError', 'CapturedJob', 'Compute', 'in_background', 'in_recorder']

SPIN_S = 0.002  # a job's last milliseconds are waited for without sleeping: to be woken takes 0.2 ms
RECENT = 8  # the shortest of so many waits says when a job is done at the earliest
WARM_UPS = 3  # the first run of a layer tries its algorithms and compiles; a graph cannot record that
Result = TypeVar('Result')

# One thread of the process records all graphs, and does what must not happen beside a recording: allocating,
# waiting for the whole device, giving memory back. It never ends, since cuDNN keeps its plans by thread.
_recorder = ThreadPoolExecutor(1, thread_name_prefix='cuda-recorder')


def in_recorder(work: Callable[[], Result]) -> Result:
    """Run work in the thread that records graphs, and return its result or raise its error."""
    return _recorder.submit(work).result()


def in_background(work: Callable[[], Result]) -> Future[Result]:
    """Have work done in the thread that records graphs, when its turn comes."""
    return _recorder.submit(work)


class CaptureError(RuntimeError):
    """A graph could not be recorded; some versions of PyTorch then record none until the process ends."""


class Compute(Protocol):
    """The work between upload and download."""

    def __call__(self, job: Job, frames: Frames, labels: Tensor, confidences: Tensor | None) -> None:
        """Read frames; write labels and maybe confidences, uint8 (N, H, W)."""


class CapturedJob:
    """Static buffers and the CUDA graph that works on them: a frame costs its upload and one launch.

    It is created in the recorder's thread and run in any other, by one at a time.

    Args:
        job: what the graph is for.
        compute: what it records; it may neither wait for the device nor allocate outside PyTorch.
        stream: what it runs on; nothing else should.
        pool: memory of what the graph computes in between. Graphs that never run at once share one; what they
            read and write for the host lies outside it.
        mapped: whether the device uses the page-locked memory in place.
        addressed: whether the work reads frames at their addresses.

    Attributes:
        frames: the memory of the frames.
        painter: paints them once it is made; None as long as nobody asked for that.

    Raises:
        CaptureError: the work cannot be recorded.
    """

    def __init__(
        self,
        job: Job,
        compute: Compute,
        stream: torch.cuda.Stream,
        pool: Any,
        *,
        mapped: bool,
        addressed: bool,
    ) -> None:
        maps = (job.batch, *job.image_size)
        self._stream = stream
        self.painter: Future[Painter] | None = None
        self._graph = torch.cuda.CUDAGraph()
        # Each layer takes its fastest algorithm; float32 is float32, without TF32's shorter mantissa. These
        # flags are the process's, and only the recorder sets them.
        flags = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        with torch.cuda.stream(stream), flags:
            self.frames = FrameBuffer((*maps, 3), stream.device, mapped=mapped, addressed=addressed)
            self.labels = PinnedBuffer(maps, stream.device, mapped=mapped)
            self.confidences = PinnedBuffer(maps, stream.device, mapped=mapped) if job.confidence else None
            self.frames.device.fill_(127)
            for _ in range(WARM_UPS):
                self._pass(job, compute)
            stream.synchronize()
            try:
                with torch.cuda.graph(
                    self._graph, pool=pool, stream=stream, capture_error_mode='thread_local'
                ):
                    self._pass(job, compute)
            except RuntimeError as error:
                raise CaptureError(str(error)) from error
            self._graph.replay()  # uploads it, so that the first frame does not
            stream.synchronize()
            launched = time.perf_counter()
            self._graph.replay()
            stream.synchronize()
            self._waits = deque([time.perf_counter() - launched], RECENT)
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def _pass(self, job: Job, compute: Compute) -> None:
        confidence = self.confidences.device if self.confidences else None
        compute(job, self.frames.frames, self.labels.device, confidence)
        for results in self._results:
            results.download()

    @property
    def _results(self) -> list[PinnedBuffer]:
        return [buffer for buffer in (self.labels, self.confidences) if buffer]

    def run(self, batch: Batch) -> None:
        """Segment a batch, as `Engine.run` does."""
        with torch.cuda.stream(self._stream):
            self.frames.load(batch.images)
            self._graph.replay()
            self._done.record()
        self._wait()
        for label, buffer in zip(batch.labels, self.labels.host):
            if batch.ids is CLASSES:
                np.copyto(label, buffer)
            else:
                cv2.LUT(buffer, batch.ids, dst=label)
        if self.confidences and batch.confidences:
            for confidence, buffer in zip(batch.confidences, self.confidences.host):
                np.copyto(confidence, buffer)

    def _wait(self) -> None:
        """Wait for the device: asleep, which leaves the core to others, and spinning towards the end."""
        launched = time.perf_counter()
        asleep = min(self._waits) - SPIN_S
        if asleep > 0:
            time.sleep(asleep)
        self._done.synchronize()
        self._waits.append(time.perf_counter() - launched)

    def median_ms(self, frames: int) -> float:
        """Return the median time of a run from page-locked memory, over so many frames."""
        images = page_locked(*self.frames.host.shape).numpy()
        labels, *confidences = (list(np.zeros_like(results.host)) for results in self._results)
        batch = Batch(list(images), labels, confidences[0] if confidences else None)
        times = []
        for _ in range(frames):
            started = time.perf_counter()
            self.run(batch)
            times.append(time.perf_counter() - started)
        return float(np.median(times)) * 1e3
