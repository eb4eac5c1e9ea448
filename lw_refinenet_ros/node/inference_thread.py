# SPDX-License-Identifier: Apache-2.0
"""The thread that owns the network: serialized images in, published results out."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lw_refinenet_ros.image.encodings import pixels
from lw_refinenet_ros.image.frame import FrameError
from lw_refinenet_ros.image.labels import UNLABELLED
from lw_refinenet_ros.inference.engine import Job
from lw_refinenet_ros.node.outputs import header_of
from lw_refinenet_ros.node.statistics import STAGES
from lw_refinenet_ros.node.worker import NewestWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from lw_refinenet_ros.inference.segmenter import Segmentation, Segmenter
    from lw_refinenet_ros.node.camera import Camera
    from lw_refinenet_ros.node.parameters import Settings

__all__ = ['Arrival', 'InferenceThread']


@dataclass(frozen=True)
class Arrival:
    """A serialized image and when it came, in seconds of the monotonic clock."""

    cdr: bytes
    received: float


class InferenceThread:
    """Segments each camera's newest frame, the cameras in turn, and publishes what is wanted of it.

    Args:
        segmenter: the model to begin with.
        settings: what the parameters say; may be replaced at any time.
        announce: publishes the names of a model's classes.

    Attributes:
        segmenter: the model that serves.
        warming_up: whether a graph is being compiled before it can serve.
        failure: what went wrong with the model at the last attempt; empty once it serves again.

    """

    def __init__(
        self, segmenter: Segmenter, settings: Settings, announce: Callable[[Segmenter], None]
    ) -> None:
        self.segmenter, self.settings = segmenter, settings
        self.warming_up = False
        self.failure = ''
        self._announce = announce
        self._next: Segmenter | None = None
        self._worker: NewestWorker[Camera, Arrival] | None = None
        announce(segmenter)

    @property
    def running(self) -> bool:
        """Whether frames are taken."""
        return self._worker is not None

    def start(self) -> None:
        """Start the thread, and compile at once if the size that the network sees is known."""
        self._worker = NewestWorker(self._segment)
        size = self.settings.network_size
        if size is not None:
            self.warming_up = True
            self._worker.call(lambda: self._warm_up(size))

    def stop(self) -> None:
        """Let the frame at work end, drop those that wait, and end the thread."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        self._swap()

    def offer(self, camera: Camera, arrival: Arrival) -> bool:
        """Hand over a camera's newest frame; whether one that waited was superseded."""
        return self._worker is not None and self._worker.offer(camera, arrival) is not None

    def change_model(self, segmenter: Segmenter) -> None:
        """Serve with another model from the next frame on."""
        self._next = segmenter
        if self._worker is not None:
            self._worker.call(self._swap)
        else:
            self._swap()

    def _swap(self) -> None:
        if self._next is not None:
            self.segmenter, self._next = self._next, None
            self.failure = ''
            self._announce(self.segmenter)

    def _warm_up(self, size: tuple[int, int]) -> None:
        """Compile for images of the network's own size, before the first frame tells theirs."""
        try:
            self.segmenter.engine.prepare(Job(size, size))
        except Exception as error:  # the first frame will try again
            self.failure = f'warming up failed: {type(error).__name__}: {error}'
        finally:
            self.warming_up = False

    def _segment(self, camera: Camera, arrival: Arrival) -> None:
        """Segment one frame and publish what is wanted of it; a bad frame costs only itself."""
        try:
            self._segment_or_raise(camera, arrival)
        except FrameError as error:
            camera.drop(f'bad: {error.reason}', str(error))
        except Exception as error:
            self.failure = f'frame dropped: {type(error).__name__}: {error}'
            camera.drop('failed', f'{type(error).__name__}: {error}')
        finally:
            self.warming_up = False

    def _segment_or_raise(self, camera: Camera, arrival: Arrival) -> None:
        started = time.monotonic()
        wanted = {name for name, output in camera.outputs.items() if output.wanted}
        if not wanted:
            camera.statistics.count('unwatched')
            return
        settings, segmenter = self.settings, self.segmenter
        frame = camera.parse(arrival.cdr)
        image, order = pixels(frame)
        viewed = time.monotonic()
        size = (frame.height, frame.width)
        confidence = 'confidence' in wanted or settings.min_confidence > 0
        segmenter.network_size = settings.network_size
        job = Job(size, settings.network_size or size, order, confidence)
        if camera.job != job:
            camera.log_change(frame, job)
            camera.job = job
            self.warming_up = True
            segmenter.engine.prepare(job)
            self.warming_up = False
        label = camera.images['label'].pixels(*size)
        result = segmenter.segment(image, order=order, confidence=confidence, out=label)
        self.failure = ''
        if result.confidence is not None and settings.min_confidence > 0:
            result.label[result.confidence < settings.min_confidence * 255] = UNLABELLED
        inferred = time.monotonic()
        header = header_of(frame)
        _publish(camera, wanted, result, settings, header)
        published = time.monotonic()
        times = (arrival.received, started, viewed, inferred, published)
        stages = [(b - a) * 1e3 for a, b in itertools.pairwise(times)]
        camera.statistics.segmented(dict(zip(STAGES, [*stages, (published - arrival.received) * 1e3])))
        camera.age_ms = (camera.now_ns() - frame.stamp_ns) / 1e6


def _publish(
    camera: Camera, wanted: set[str], result: Segmentation, settings: Settings, header: object
) -> None:
    """Publish the wanted ones of a camera's outputs."""
    size, images = result.label.shape, camera.images
    if 'label' in wanted:
        images['label'].publish(header)
    if 'confidence' in wanted and result.confidence is not None:
        np.copyto(images['confidence'].pixels(*size), result.confidence)
        images['confidence'].publish(header)
    if 'color' in wanted:
        result.color(out=images['color'].pixels(*size))
        images['color'].publish(header)
    if wanted & {'overlay', 'overlay/compressed'}:
        overlay = images['overlay'].pixels(*size)
        # While another model warms up, the setting may name its classes already.
        painted = [name for name in settings.overlay_classes if name in result.labels.names]
        result.overlay(settings.overlay_alpha, painted if settings.overlay_classes else None, out=overlay)
        if 'overlay' in wanted:
            images['overlay'].publish(header)
        if 'overlay/compressed' in wanted:
            camera.jpeg.publish(header, overlay)
