# SPDX-License-Identifier: Apache-2.0
"""One job on a CUDA device, recorded once: from the upload of the frames to the download of the labels."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from lw_refinenet_ros.inference.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from lw_refinenet_ros.inference.engine import Job, Pixels

__all__ = ['CapturedJob', 'Compute', 'capturing']

WARM_UPS = 3  # the first run of a layer tries its algorithms and compiles; a graph cannot record that

# While one thread records, no other may wait for the whole device or give memory back to it.
capturing = threading.Lock()


class Compute(Protocol):
    """The work between upload and download."""

    def __call__(self, job: Job, frames: Tensor, labels: Tensor, confidences: Tensor | None) -> None:
        """Read frames, uint8 (N, H, W, 3); write labels and maybe confidences, uint8 (N, H, W)."""


class CapturedJob:
    """Static buffers and the CUDA graph that works on them: a frame costs one launch.

    Args:
        job: what the graph is for.
        compute: what it records; it may neither wait for the device nor allocate outside PyTorch.
        stream: what it runs on; nothing else should.
        mapped: whether the device uses the staging memory in place.

    """

    def __init__(self, job: Job, compute: Compute, stream: torch.cuda.Stream, *, mapped: bool) -> None:
        maps = (job.batch, *job.image_size)
        self._stream = stream
        # Sleeping until the device is done leaves the core to other nodes; spinning would be little faster.
        self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._graph = torch.cuda.CUDAGraph()
        with capturing, torch.cuda.stream(stream):
            self.frames = Staging((*maps, 3), stream.device, mapped=mapped)
            self.labels = Staging(maps, stream.device, mapped=mapped)
            self.confidences = Staging(maps, stream.device, mapped=mapped) if job.confidence else None
            self.frames.host.fill(127)
            for _ in range(WARM_UPS):
                self._pass(job, compute)
            stream.synchronize()
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode='thread_local'):
                self._pass(job, compute)

    def _pass(self, job: Job, compute: Compute) -> None:
        self.frames.upload()
        sure = self.confidences.device if self.confidences else None
        compute(job, self.frames.device, self.labels.device, sure)
        for results in self._results:
            results.download()

    @property
    def _results(self) -> list[Staging]:
        return [staging for staging in (self.labels, self.confidences) if staging]

    def run(
        self, images: Sequence[Pixels], labels: Sequence[Pixels], confidences: Sequence[Pixels] | None
    ) -> None:
        """Segment a batch, as `Engine.run` does."""
        for buffer, image in zip(self.frames.host, images):
            np.copyto(buffer, image)
        with torch.cuda.stream(self._stream):
            self._graph.replay()
            self._done.record()
        self._done.synchronize()
        for results, outputs in zip(self._results, (labels, confidences or ())):
            for output, buffer in zip(outputs, results.host):
                np.copyto(output, buffer)
