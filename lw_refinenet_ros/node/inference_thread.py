# SPDX-License-Identifier: Apache-2.0
"""The thread that owns the network: serialized images in, published results out."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lw_refinenet_ros.image.encodings import ORDERS, pixels
from lw_refinenet_ros.image.frame import Frame, FrameError
from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.node.diagnostics import SUPERSEDED, WARMING_UP
from lw_refinenet_ros.node.newest_worker import Arrival, NewestWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from lw_refinenet_ros.inference.engine import Job, Pixels
    from lw_refinenet_ros.inference.segmenter import Segmenter
    from lw_refinenet_ros.node.camera import Camera
    from lw_refinenet_ros.node.parameters import Settings

__all__ = ['MAX_BATCH', 'InferenceThread']

MAX_BATCH = 4  # frames: each size of a batch is compiled for itself, and engines keep only some


@dataclass(frozen=True)
class _Viewed:
    """A frame as a view of its pixels, and the job that is to be done for it."""

    camera: Camera
    arrival: Arrival
    frame: Frame
    image: Pixels
    wanted: set[str]
    job: Job
    compiled: bool  # whether the graph of its job had to be compiled first
    view_s: float


class InferenceThread:
    """Segments the newest frames of all cameras and publishes what is wanted of them.

    Frames that wait together and need the same work run as one batch.

    Args:
        segmenter: the model to begin with.
        settings: returns what the parameters say now.
        announce: publishes the names of a model's classes.

    Attributes:
        segmenter: the model that serves.
        warming_up: whether a graph is being compiled before it can serve.
        failure: what went wrong with the model at the last attempt; empty once it serves again.

    """

    def __init__(
        self,
        segmenter: Segmenter,
        settings: Callable[[], Settings],
        announce: Callable[[Segmenter], None],
    ) -> None:
        self.segmenter, self._settings = segmenter, settings
        self.warming_up = False
        self.failure = ''
        self._announce = announce
        self._next: Segmenter | None = None
        self._worker: NewestWorker[Camera, Arrival] | None = None
        self._jobs: dict[Camera, Job] = {}  # of each camera's last frame
        announce(segmenter)

    @property
    def running(self) -> bool:
        """Whether frames are taken."""
        return self._worker is not None

    def start(self) -> None:
        """Start the thread, and compile at once if the size that the network sees is known."""
        self._worker = NewestWorker(self._segment)
        size = self._settings().network_size
        if all(size):
            self.warming_up = True
            self._worker.call(lambda: self._warm_up(size))

    def stop(self) -> None:
        """Let the frames at work end, drop those that wait, and end the thread."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        self._swap()

    def close(self) -> None:
        """End the thread and give the model's memory back."""
        self.stop()
        self.segmenter.close()

    def offer(self, camera: Camera, arrival: Arrival) -> str:
        """Hand over a camera's newest frame; return the fate of one that waited, or an empty string."""
        if self._worker is None or self._worker.offer(camera, arrival) is None:
            return ''
        return WARMING_UP if self.warming_up else SUPERSEDED

    def call(self, task: Callable[[], None]) -> None:
        """Run a task in the thread, before the next frames; without the thread, never."""
        if self._worker is not None:
            self._worker.call(task)

    def change_model(self, segmenter: Segmenter) -> None:
        """Serve with another model from the next frame on."""
        self._next = segmenter
        if self._worker is not None:
            self._worker.call(self._swap)
        else:
            self._swap()

    def jobs(self) -> list[Job]:
        """Give what the cameras' frames need now, one by one and as batches."""
        return [
            replace(job, batch=size)
            for job, cameras in Counter(list(self._jobs.values())).items()
            for size in range(1, min(cameras, MAX_BATCH) + 1)
        ]

    def _swap(self) -> None:
        if self._next is not None:
            replaced, self.segmenter, self._next = self.segmenter, self._next, None
            self.failure = ''
            self._announce(self.segmenter)
            replaced.close()

    def _warm_up(self, size: tuple[int, int]) -> None:
        """Compile for images of the size that the network sees, until the first frame comes."""
        try:
            for confidence, order in itertools.product((False, True), ORDERS):
                if self._worker is None or not self._worker.waiting:
                    job = self.segmenter.job(size, order, network_size=size, confidence=confidence)
                    self.segmenter.prepare(job)
        except Exception as error:  # the first frame will try again
            self.failure = f'warming up failed: {type(error).__name__}: {error}'
        finally:
            self.warming_up = False

    def _segment(self, arrivals: list[tuple[Camera, Arrival]]) -> None:
        """Segment frames and publish what is wanted of them; a bad frame costs only itself."""
        settings = self._settings()
        groups: dict[Job, list[_Viewed]] = {}
        for camera, arrival in arrivals:
            try:
                viewed = self._view(camera, arrival, settings)
            except FrameError as error:
                camera.drop(f'bad: {error.reason}', str(error))
            except Exception as error:
                self._fail(camera, error)
            else:
                if viewed is not None:
                    groups.setdefault(viewed.job, []).append(viewed)
        for group in groups.values():
            for first in range(0, len(group), MAX_BATCH):
                batch = group[first : first + MAX_BATCH]
                try:
                    self._segment_batch(batch, settings)
                except Exception as error:
                    for viewed in batch:
                        self._fail(viewed.camera, error)
        self.warming_up = False

    def _fail(self, camera: Camera, error: Exception) -> None:
        self.failure = f'frame dropped: {type(error).__name__}: {error}'
        camera.drop('failed', f'{type(error).__name__}: {error}')

    def _view(self, camera: Camera, arrival: Arrival, settings: Settings) -> _Viewed | None:
        """View a frame's pixels and make its job; None if none of its outputs has a subscriber."""
        started = time.monotonic()
        wanted = camera.outputs.wanted()
        if not wanted:
            camera.statistics.count('unwatched')
            return None
        frame = camera.parse(arrival.cdr)
        image, order = pixels(frame)
        if 'points' in wanted:
            camera.outputs.points.expect(frame.stamp_ns)
        confidence = camera.outputs.need_confidence(wanted) or settings.min_confidence > 0
        job = self.segmenter.job(
            (frame.height, frame.width), order, network_size=settings.network_size, confidence=confidence
        )
        compiled = self._jobs.get(camera) != job
        if compiled:
            camera.log_change(frame, job)
            self._jobs[camera] = job
            self.warming_up = True
            for needed in self.jobs():
                if replace(needed, batch=1) == job:
                    self.segmenter.prepare(needed)
            self.warming_up = False
        return _Viewed(camera, arrival, frame, image, wanted, job, compiled, time.monotonic() - started)

    def _segment_batch(self, batch: list[_Viewed], settings: Settings) -> None:
        started = time.monotonic()
        job = replace(batch[0].job, batch=len(batch))
        results = self.segmenter.run(
            job,
            [viewed.image for viewed in batch],
            [viewed.camera.outputs.label_memory(*job.image_size) for viewed in batch],
        )
        self.failure = ''
        inferred = time.monotonic()
        for viewed, result in zip(batch, results):
            camera, frame = viewed.camera, viewed.frame
            if result.confidence is not None and settings.min_confidence > 0:
                result.label[result.confidence < settings.min_confidence * 255] = UNLABELLED
            camera.outputs.publish(viewed.wanted, frame, result, settings)
            published = time.monotonic()
            total = published - viewed.arrival.received
            seconds = {
                'view': viewed.view_s,
                'inference': inferred - started,
                'publish': published - inferred,
            }
            seconds |= {'wait': total - sum(seconds.values()), 'total': total}
            camera.statistics.segmented(
                {} if viewed.compiled else {stage: value * 1e3 for stage, value in seconds.items()},
                batch=len(batch),
                age_ms=(camera.now_ns() - frame.stamp_ns) / 1e6,
            )
