# SPDX-License-Identifier: Apache-2.0
"""Video files and attached cameras as sources, through OpenCV."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from lw_refinenet_ros.image.frame import Frame
from lw_refinenet_ros.sources.source import (
    FRAME_ID,
    START_NS,
    OnError,
    Source,
    SourceError,
    SourceFrame,
    StampNames,
)

__all__ = ['VIDEO_SUFFIXES', 'CameraSource', 'VideoSource']

VIDEO_SUFFIXES = ('.mp4', '.m4v', '.avi', '.mkv', '.mov', '.webm', '.mpg', '.mpeg', '.ts', '.ogv', '.wmv')


class VideoSource(Source):
    """A video file: bgr8 frames, stamped by their index and the file's frame rate.

    Args:
        path: of the file.
        start_ns: stamp of the first frame.
        on_error: see `Source`.

    Raises:
        SourceError: it cannot be opened or has no frame rate.

    """

    def __init__(self, path: Path, start_ns: int = START_NS, on_error: OnError | None = None) -> None:
        super().__init__(f'video {path}', on_error=on_error)
        self._path = path
        self._start_ns = start_ns
        capture = self._open()
        fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        if not (math.isfinite(fps) and fps > 0):
            msg = f'{path} has no frame rate: convert it to MP4'
            raise SourceError(msg)
        self._fps = self.rate_hz = fps
        self.length = int(count) if 0 < count < 2**31 else None

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            msg = f'{self._path} cannot be opened as a video: it is damaged, truncated or of an unknown codec'
            raise SourceError(msg)
        return capture

    def __iter__(self) -> Iterator[SourceFrame]:
        capture = self._open()
        index, names = 0, StampNames()
        try:
            while True:
                good, image = capture.read()
                if not good:
                    break
                stamp_ns = self._start_ns + round(index * 1e9 / self._fps)
                yield _frame(image, stamp_ns, names.name(stamp_ns, index), f'{self._path}: frame {index}')
                index += 1
        finally:
            capture.release()
        # Containers often announce a frame or two more than there are.
        announced = self.length or 1
        if index < announced - max(2, announced // 50) or not index:
            msg = f'{self._path} ends after frame {index} of {announced}: it is truncated or damaged there'
            self._report(SourceError(msg))


class CameraSource(Source):
    """An attached camera: bgr8 frames, stamped with the time they were grabbed, without end.

    Raises:
        SourceError: there is no such camera, or another program has it.

    """

    def __init__(self, index: int) -> None:
        super().__init__(f'camera:{index}')
        self._capture = cv2.VideoCapture(index)
        self._stack.callback(self._capture.release)
        if not self._capture.isOpened():
            msg = f'camera:{index} cannot be opened: it is not attached, not permitted, or in use'
            raise SourceError(msg)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate_hz = fps if fps > 0 else None

    def __iter__(self) -> Iterator[SourceFrame]:
        names = StampNames()
        for index in itertools.count():
            grabbed = self._capture.grab()
            stamp_ns = time.time_ns()
            good, image = self._capture.retrieve() if grabbed else (False, None)
            if not good or image is None:
                msg = f'{self.description} stopped sending frames'
                raise SourceError(msg)
            yield _frame(image, stamp_ns, names.name(stamp_ns, index), f'{self.description}: frame {index}')


def _frame(image: np.ndarray, stamp_ns: int, name: str, where: str) -> SourceFrame:
    bgr = image.astype(np.uint8, copy=False)
    frame = Frame.from_array(bgr, stamp_ns=stamp_ns, frame_id=FRAME_ID, encoding='bgr8')
    return SourceFrame.of(frame, log_ns=stamp_ns, name=name, where=where)
