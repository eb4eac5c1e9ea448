# SPDX-License-Identifier: Apache-2.0
"""The thread that owns the network: serialized images in, published results out."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from lw_refinenet_ros.class_groups import ClassGroups
from lw_refinenet_ros.image.encodings import ORDERS, color_image
from lw_refinenet_ros.image.frame import Frame, FrameError
from lw_refinenet_ros.image.ignore_mask import misfit, unlabel
from lw_refinenet_ros.image.rotation import rotate
from lw_refinenet_ros.inference.engine import Job, Pixels
from lw_refinenet_ros.inference.segmenter import Segmentation
from lw_refinenet_ros.labels import UNLABELLED
from lw_refinenet_ros.node.camera import Arrival, Camera
from lw_refinenet_ros.node.diagnostics import SUPERSEDED, WARMING_UP
from lw_refinenet_ros.node.model_swap import Model
from lw_refinenet_ros.node.newest_worker import NewestWorker
from lw_refinenet_ros.node.parameters import Settings
from lw_refinenet_ros.node.process.malloc import give_back_freed

__all__ = ['MAX_BATCH', 'InferenceThread']

MAX_BATCH = 4  # frames: each size of a batch is compiled for itself, and engines keep only some


@dataclass(frozen=True)
class _View:
    """A frame's pixels, where they lie in its message, and the job for them."""

    camera: Camera
    arrival: Arrival
    frame: Frame
    image: Pixels
    rotation: int  # degrees clockwise that turn it upright for the network
    wanted: set[str]  # outputs
    job: Job
    is_new: bool  # the camera's last frame had another job: the graph is compiled first
    stages_ms: dict[str, float]  # of `STAGES`, as far as the frame has come

    def label_memory(self) -> Pixels:
        """Return memory for the label: that of its message, if it need not be rotated."""
        if self.rotation:
            return np.empty(self.job.image_size, np.uint8)
        return self.camera.outputs.label_memory(*self.job.image_size)

    def as_camera(self, result: Segmentation) -> Segmentation:
        """Return the result of the upright image as the camera sees it; the label lies in its message."""
        if not self.rotation:
            return result
        back = 360 - self.rotation
        label = rotate(result.label, back, self.camera.outputs.label_memory(*self.image.shape[:2]))
        confidence = result.confidence if result.confidence is None else rotate(result.confidence, back)
        return replace(result, image=self.image, label=label, confidence=confidence, painting=None)


class InferenceThread:
    """Segments the newest frames of all cameras and publishes the outputs that have subscribers.

    A frame's way: `enqueue` its message, `_view` its pixels, `_compile` its job if that is new, `_segment` it
    together with other cameras' frames of the same job, `_publish` the result.

    Args:
        announce: is told of each model before its first frame.
    """

    def __init__(
        self, model: Model, settings: Callable[[], Settings], announce: Callable[[Model], None]
    ) -> None:
        self._model, self._settings, self._announce = model, settings, announce
        self._worker: NewestWorker[Camera, Arrival] | None = None
        self._jobs: dict[Camera, Job] = {}  # of each camera's last frame
        self._is_new = True  # the model has segmented no frame yet
        self._replaced: Model | None = None  # the one before, until then
        announce(model)

    # In the executor's thread, and `enqueue` in those of the subscriptions

    @property
    def is_running(self) -> bool:
        """Whether frames are taken."""
        return self._worker is not None

    @property
    def allocate(self) -> Callable[[int], Pixels] | None:
        """Return what allocates memory that the engine reads without a copy; None if it reads any."""
        if self._model.segmenter.engine.device != 'cuda':
            return None
        from lw_refinenet_ros.inference.cuda.pinned_memory import page_locked

        return lambda size: page_locked(size).numpy()

    def start(self) -> None:
        """Start the thread, and compile at once if the size that the network sees is known."""
        self._worker = NewestWorker(self._process)
        size = self._settings().network_size
        if all(size):
            self._model.warming_up = True
            self.call(lambda: self._warm_up(size))

    def stop(self) -> None:
        """Finish the frames in progress, drop those that wait, and end the thread."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def close(self) -> None:
        """End the thread and release the memory of the models."""
        self.stop()
        self._model.segmenter.close()
        self._close_replaced()

    def enqueue(self, camera: Camera, arrival: Arrival) -> str:
        """Store a camera's newest message; return the fate of one that waited, or an empty string."""
        if self._worker is None or self._worker.put(camera, arrival) is None:
            return ''
        return WARMING_UP if self._model.warming_up else SUPERSEDED

    def call(self, task: Callable[[], None]) -> None:
        """Run a task in the thread, before the next frames; without the thread, at once."""
        if self._worker is not None:
            self._worker.call(task)
        else:
            task()

    def serve(self, model: Model) -> None:
        """Serve with another model from the next frame on."""
        self.call(lambda: self._replace(model))

    def group(self, groups: ClassGroups | None) -> None:
        """Put groups in the place of the classes from the next frame on."""
        self.call(lambda: self._group(groups))

    def jobs(self) -> list[Job]:
        """Return the jobs of the cameras' last frames, each alone and as batches."""
        return [
            replace(job, batch=size)
            for job, cameras in Counter(list(self._jobs.values())).items()
            for size in range(1, min(cameras, MAX_BATCH) + 1)
        ]

    # In the thread

    def _replace(self, model: Model) -> None:
        self._close_replaced()
        self._replaced, self._model, self._is_new = self._model, model, True
        self._announce(model)

    def _close_replaced(self) -> None:
        if self._replaced is not None:
            self._replaced.segmenter.close()
            self._replaced = None

    def _group(self, groups: ClassGroups | None) -> None:
        if groups != self._model.segmenter.groups:
            self._model.segmenter = self._model.segmenter.grouped(groups)
            self._announce(self._model)

    def _warm_up(self, size: tuple[int, int]) -> None:
        """Compile for images of the size that the network sees, until the first frame comes."""
        segmenter = self._model.segmenter
        try:
            for confidence, order in itertools.product((False, True), ORDERS):
                if self._worker is not None and self._worker.is_idle:
                    segmenter.prepare(segmenter.job(size, order, network_size=size, confidence=confidence))
        except Exception as error:  # the first frame will try again
            self._model.failure = f'warming up failed: {type(error).__name__}: {error}'
        finally:
            self._model.warming_up = False

    def _process(self, arrivals: list[tuple[Camera, Arrival]]) -> None:
        """Segment frames and publish their results; a bad frame costs only itself."""
        settings, views = self._settings(), list[_View]()
        for camera, arrival in arrivals:
            with self._dropping(camera):
                view = self._view(camera, arrival, settings)
                if view is not None:
                    if view.is_new:
                        self._compile(view)
                    views.append(view)
        for batch in _batches(views):
            results: list[Segmentation] = []
            with self._dropping(*(view.camera for view in batch)):
                results = self._segment(batch)
            for view, result in zip(batch, results):
                with self._dropping(view.camera):
                    self._publish(view, result, settings, len(batch))
        self._model.warming_up = False
        if self._is_new and views:
            self._is_new = False
            self._close_replaced()  # in the pause between two frames: it takes as long as some
            # Compiling needs more memory than the graph. Frames need not wait for this.
            threading.Thread(target=give_back_freed, daemon=True).start()

    @contextmanager
    def _dropping(self, *cameras: Camera) -> Iterator[None]:
        """Drop the frames of some cameras if the block fails."""
        try:
            yield
        except FrameError as error:
            for camera in cameras:
                camera.drop(f'bad: {error.reason}', str(error))
        except Exception as error:
            reason = f'{type(error).__name__}: {error}'
            self._model.failure = f'frame dropped: {reason}'
            for camera in cameras:
                camera.drop('failed', reason)

    def _view(self, camera: Camera, arrival: Arrival, settings: Settings) -> _View | None:
        """View a frame's pixels and make its job; None if none of its outputs has a subscriber."""
        started = time.monotonic()
        wanted = camera.outputs.wanted()
        if not wanted:
            camera.statistics.count('unwatched')
            return None
        frame = camera.parse(arrival.cdr)
        if fault := misfit(settings.ignored, (frame.height, frame.width)):
            raise FrameError(fault, 'ignore_mask')
        image, order = color_image(frame)
        if 'points' in wanted:
            camera.outputs.points.expect(frame.stamp_ns)
        job = self._model.segmenter.job(
            (frame.width, frame.height) if settings.rotate % 180 else (frame.height, frame.width),
            order,
            network_size=settings.network_size,
            confidence=camera.outputs.need_confidence(wanted) or settings.min_confidence > 0,
        )
        is_new = self._jobs.get(camera) != job
        stages_ms = {'view': _ms_since(started)}
        return _View(camera, arrival, frame, image, settings.rotate, wanted, job, is_new, stages_ms)

    def _compile(self, view: _View) -> None:
        """Compile for a camera's new job, and for the batches that it may be part of."""
        view.camera.log_change(view.frame, view.job, int(view.image.max()))
        self._jobs[view.camera] = view.job
        self._model.warming_up = True
        for job in self.jobs():
            if replace(job, batch=1) == view.job:
                self._model.segmenter.prepare(job)
        self._model.warming_up = False

    def _segment(self, batch: list[_View]) -> list[Segmentation]:
        """Run the network on frames of one job; the labels are written into the memory of their messages."""
        started = time.monotonic()
        job = replace(batch[0].job, batch=len(batch))
        images = [rotate(view.image, view.rotation) for view in batch]
        labels = [view.label_memory() for view in batch]
        results = self._model.segmenter.run(job, images, labels)
        self._model.failure = ''
        results = [view.as_camera(result) for view, result in zip(batch, results)]
        for view in batch:
            view.stages_ms['inference'] = _ms_since(started)
        return results

    def _publish(self, view: _View, result: Segmentation, settings: Settings, batch: int) -> None:
        """Publish the wanted outputs of a frame and count it."""
        started = time.monotonic()
        camera, stages_ms = view.camera, view.stages_ms
        if result.confidence is not None and settings.min_confidence > 0:
            result.label[result.confidence < settings.min_confidence * 255] = UNLABELLED
        unlabel(result.label, settings.ignored)
        camera.outputs.publish(view.wanted, view.frame, result, settings)
        stages_ms['publish'], total_ms = _ms_since(started), _ms_since(view.arrival.received)
        stages_ms |= {'wait': total_ms - sum(stages_ms.values()), 'total': total_ms}
        age_ms = (camera.now_ns() - view.frame.stamp_ns) / 1e6
        camera.statistics.segmented({} if view.is_new else stages_ms, batch=batch, age_ms=age_ms)


def _batches(views: list[_View]) -> Iterator[list[_View]]:
    """Yield the frames that have the same job together, at most `MAX_BATCH` at a time."""
    groups: dict[Job, list[_View]] = {}
    for view in views:
        groups.setdefault(view.job, []).append(view)
    for group in groups.values():
        for first in range(0, len(group), MAX_BATCH):
            yield group[first : first + MAX_BATCH]


def _ms_since(start: float) -> float:
    return (time.monotonic() - start) * 1e3
