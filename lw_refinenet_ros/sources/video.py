# SPDX-License-Identifier: Apache-2.0
"""Video files and attached cameras as sources."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video import VideoStream

from lw_refinenet_ros.files import open_regular
from lw_refinenet_ros.one_line import one_line, reason
from lw_refinenet_ros.sources.source import START_NS, OnError, Source, SourceError, SourceFrame, StampNames

__all__ = ['VIDEO_SUFFIXES', 'CameraSource', 'VideoSource']

VIDEO_SUFFIXES = tuple(
    f'.{suffix}'
    for suffix in (
        *('mp4', 'm4v', 'avi', 'mkv', 'mov', 'webm', 'mpg', 'mpeg', 'ts', 'mts', 'm2ts', '3gp', 'flv'),
        *('ogv', 'wmv', 'h264', '264', 'hevc', 'h265', '265', 'mjpeg', 'mjpg'),
    )
)

# A playlist that is called .mp4 would open other files and addresses.
_NO_OTHERS = {'protocol_whitelist': 'none'}


class VideoSource(Source):
    """A video file: bgr8 frames, upright, at their own times in the file, the first of them at `START_NS`.

    Raises:
        SourceError: it cannot be opened.
    """

    def __init__(self, path: Path, on_error: OnError | None = None) -> None:
        super().__init__(f'video {path}', on_error)
        self._path = path
        with ExitStack() as stack:
            _, stream = self._open(stack)
            self.length = stream.frames or None
            self.rate_hz = float(stream.average_rate) if stream.average_rate else None

    def _open(self, stack: ExitStack) -> tuple[InputContainer, VideoStream]:
        """Open the first stream of images, as long as the stack lives."""
        try:
            # By its path, a file whose name is not UTF-8 could not be opened.
            file = stack.enter_context(open_regular(self._path))
            container = stack.enter_context(closing(av.open(file, options=_NO_OTHERS)))
            assert isinstance(container, av.container.InputContainer)
        except (av.FFmpegError, ValueError) as error:
            raise SourceError(
                f'{self._path} cannot be opened as a video: it is damaged, truncated or of an unknown codec'
            ) from error
        if not container.streams.video:
            kinds = ', '.join(sorted({stream.type for stream in container.streams})) or 'nothing'
            raise SourceError(f'{self._path} has no video stream, only {kinds}')
        return container, container.streams.video[0]

    def __iter__(self) -> Iterator[SourceFrame]:
        names = StampNames()
        count = longest_ns = 0
        with ExitStack() as stack:
            container, stream = self._open(stack)
            end_ns = _ns(stream.duration, stream.time_base)
            if not end_ns and len(container.streams) == 1:  # Matroska tells the length of the whole file
                end_ns = _ns(container.duration, Fraction(1, av.time_base))
                end_ns -= _ns(container.start_time, Fraction(1, av.time_base))
            stream.thread_type = 'AUTO'
            step_ns = round(1e9 / (self.rate_hz or 25))
            # FFmpeg lowers the duration of an AVI that is cut, not its number of frames
            end_ns = max(end_ns, step_ns * (self.length or 0))
            first_ns: int | None = None
            stamp_ns = START_NS - step_ns
            for frame in self._decoded(container, stream):
                if frame.pts is None or frame.time_base is None:
                    next_ns = stamp_ns + step_ns
                else:
                    time_ns = _ns(frame.pts, frame.time_base)
                    first_ns = time_ns if first_ns is None else first_ns
                    next_ns = START_NS + time_ns - first_ns
                longest_ns, stamp_ns = max(longest_ns, next_ns - stamp_ns), next_ns
                bgr = frame.to_ndarray(format='bgr24').astype(np.uint8, copy=False)
                image = np.rot90(bgr, round(frame.rotation / 90))
                where = f'{self._path}: frame {count}'
                yield SourceFrame.of_image(image, stamp_ns, names.name(stamp_ns, count), where)
                count += 1
        # Containers often announce a frame or two more than there are, and count gaps as frames.
        announced = self.length
        left_ns = START_NS + end_ns - stamp_ns
        few = announced is None or count < announced - max(2, announced // 50)
        if not count or (few and left_ns > max(2 * longest_ns, end_ns // 50)):
            of = f' of {announced}' if announced else f', {left_ns / 1e9:.1f} s before its end'
            self._report(
                SourceError(f'{self._path} ends after frame {count}{of}: it is truncated or damaged there')
            )

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
        """Decode the stream; a damaged packet costs only itself. One at the end is noticed by the count."""
        fault: SourceError | None = None
        for number, packet in enumerate(container.demux(stream)):
            try:
                frames = packet.decode()
            except (av.FFmpegError, MemoryError) as error:
                why = one_line(reason(error))
                fault = fault or SourceError(f'{self._path}: packet {number} is damaged: {why}')
                continue
            if frames and fault:
                self._report(fault)
                fault = None
            yield from frames


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
            raise SourceError(f'camera:{index} cannot be opened: not attached, not permitted, or in use')
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate_hz = fps if fps > 0 else None

    def __iter__(self) -> Iterator[SourceFrame]:
        names = StampNames()
        for index in itertools.count():
            grabbed = self._capture.grab()
            stamp_ns = time.time_ns()
            good, image = self._capture.retrieve() if grabbed else (False, None)
            if not good or image is None:
                raise SourceError(f'{self.description} stopped sending frames')
            where = f'{self.description}: frame {index}'
            bgr = np.asarray(image, np.uint8)
            yield SourceFrame.of_image(bgr, stamp_ns, names.name(stamp_ns, index), where)


def _ns(count: int | None, time_base: Fraction | None) -> int:
    """Return a time of a stream in ns; 0 where it is not known."""
    return round(count * time_base * 1_000_000_000) if count is not None and time_base is not None else 0
