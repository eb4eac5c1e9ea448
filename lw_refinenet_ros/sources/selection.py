# SPDX-License-Identifier: Apache-2.0
"""Frames worth labelling, out of many that look alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from lw_refinenet_ros.image.encodings import ColorImage, color_image, to_rgb
from lw_refinenet_ros.image.frame import FrameError
from lw_refinenet_ros.sources.source import OnError, SourceError, SourceFrame

__all__ = ['Novelty', 'select']

_THUMBNAIL = (32, 24)  # width and height


class Novelty:
    """Picks the frames that look unlike all frames it picked before.

    Frames are compared as grey thumbnails of 32x24 pixels; the difference of two is the mean absolute
    difference of their pixels, 0 (alike) to 1 (black and white).

    Args:
        threshold: a frame that differs by more than this is new.

    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._seen: list[NDArray[np.float64]] = []

    def is_new(self, image: ColorImage) -> bool:
        """Return whether an image is new; if so, the next ones are compared with it too."""
        grey = cv2.cvtColor(to_rgb(image), cv2.COLOR_RGB2GRAY)
        thumbnail = cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float64) / 255
        new = all(np.abs(thumbnail - other).mean() > self._threshold for other in self._seen)
        if new:
            self._seen.append(thumbnail)
        return new


def select(
    frames: Iterable[SourceFrame],
    *,
    every: int = 1,
    different: float | None = None,
    start_s: float = 0.0,
    end_s: float = float('inf'),
    on_error: OnError | None = None,
) -> Iterator[tuple[SourceFrame, ColorImage]]:
    """Choose frames; give them with their pixels.

    Args:
        frames: in the order of their log.
        every: take the first of as many frames.
        different: of those, only what differs by more than this, see `Novelty`; None takes all.
        start_s: leave out frames that are less than this many seconds after the first.
        end_s: leave out those that are not.
        on_error: takes frames whose pixels cannot be read; without it the first is raised.

    """
    novelty = Novelty(different) if different is not None else None
    first_ns: int | None = None
    count = 0
    for frame in frames:
        first_ns = frame.log_ns if first_ns is None else first_ns
        elapsed_s = (frame.log_ns - first_ns) / 1e9
        if elapsed_s >= end_s:
            return
        if elapsed_s < start_s:
            continue
        count += 1
        if (count - 1) % every:
            continue
        try:
            image = color_image(frame)
        except FrameError as error:
            fault = SourceError(f'{frame.where}: {error}')
            if on_error is None:
                raise fault from error
            on_error(fault)
            continue
        if novelty is None or novelty.is_new(image):
            yield frame, image
