# SPDX-License-Identifier: Apache-2.0
"""Writes H.264 video that plays in browsers; OpenCV's wheels cannot."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from lw_refinenet_ros.files import new_file
from lw_refinenet_ros.image.frame import Pixels

__all__ = ['VideoWriter', 'is_overlay']

MADE_BY = 'lw_refinenet_ros'  # in the comment of the file
TICKS = 90_000  # per second, as MPEG counts


def is_overlay(path: Path) -> bool:
    """Return whether a file is a video that was written by a `VideoWriter`."""
    try:
        with av.open(str(path)) as container:
            return container.metadata.get('comment') == MADE_BY
    except (OSError, av.FFmpegError):
        return False


class VideoWriter:
    """A context manager; the file appears whole when it ends without an error, or not at all.

    Args:
        path: of the mp4 file.
        rate_hz: frames per second, nominally; each frame is shown at its own stamp.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        self._path = path
        self._rate = Fraction(rate_hz).limit_denominator(1000)
        self._stream: av.VideoStream | None = None
        self._first_ns: int | None = None
        self._last = -1
        self._stack = ExitStack()

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            file = stack.enter_context(new_file(self._path))
            container = av.open(str(file), 'w', format='mp4', options={'movflags': '+faststart'})
            self._container = stack.enter_context(container)
            self._container.metadata['comment'] = MADE_BY
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def write(self, image: Pixels, stamp_ns: int) -> None:
        """Append a frame, uint8 (H, W, 3) RGB; an odd last row or column is left out, as H.264 needs it.

        Raises:
            ValueError: it has a single row or column.
        """
        if min(image.shape[:2]) < 2:
            size = f'{image.shape[1]}x{image.shape[0]}'
            raise ValueError(f'{self._path}: a frame of {size} is too small for a video')
        image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
        if self._stream is None:
            options = {'crf': '20', 'preset': 'veryfast'}
            self._stream = self._container.add_stream('h264', rate=self._rate, options=options)
            self._stream.height, self._stream.width = image.shape[:2]
            self._stream.pix_fmt = 'yuv420p'
            self._stream.codec_context.time_base = Fraction(1, TICKS)
            self._first_ns = stamp_ns
        assert self._first_ns is not None
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format='rgb24')
        frame.time_base = Fraction(1, TICKS)
        # Players need rising times, and a looped or damaged source may not have them.
        self._last = frame.pts = max(round((stamp_ns - self._first_ns) * TICKS / 1e9), self._last + 1)
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the frames that the encoder still holds."""
        if self._stream is not None and kind is None:
            self._container.mux(self._stream.encode())
