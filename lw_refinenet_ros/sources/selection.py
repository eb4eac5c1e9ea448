# SPDX-License-Identifier: Apache-2.0
"""Frames worth labelling, out of many that look alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from lw_refinenet_ros.image.encodings import ColorImage, color_image, to_rgb
from lw_refinenet_ros.image.frame import FrameError
from lw_refinenet_ros.sources.source import OnError, SourceError, SourceFrame

__all__ = ['Novelty', 'difference', 'farthest_first', 'select', 'thumbnail']

_THUMBNAIL = (32, 24)  # width and height

Thumbnail = NDArray[np.uint8]


def thumbnail(image: ColorImage) -> Thumbnail:
    """Return the grey values of an image at 32x24 pixels, uint8 (768,)."""
    grey = cv2.cvtColor(to_rgb(image), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA), np.uint8).ravel()


def difference(thumbnails: Thumbnail, other: Thumbnail) -> NDArray[np.float64]:
    """Return the mean absolute difference of pixels, 0 (alike) to 1 (black and white).

    Args:
        thumbnails: uint8 (768,) or (N, 768).
        other: uint8 (768,), to compare each with.
    """
    apart = np.maximum(thumbnails, other) - np.minimum(thumbnails, other)
    return np.asarray(apart.mean(-1) / 255)


class Novelty:
    """Picks the frames that look unlike all frames it picked before, by the difference of their thumbnails.

    Args:
        threshold: a frame that differs by more than this is new.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._seen: list[Thumbnail] = []

    def is_new(self, image: ColorImage) -> bool:
        """Return whether an image is new; if so, the next ones are compared with it too."""
        shown = thumbnail(image)
        new = all(difference(shown, other) > self._threshold for other in self._seen)
        if new:
            self._seen.append(shown)
        return new


def farthest_first(
    thumbnails: Thumbnail, worth: NDArray[np.float64], known: Iterable[Thumbnail], count: int
) -> Iterator[tuple[int, float]]:
    """Choose frames that are worth much and unlike each other: greedy k-centre, weighted.

    Each is the frame whose worth times its least difference to what is known or chosen is the largest.

    Args:
        thumbnails: of the frames, uint8 (N, 768).
        worth: of each, float64 (N,); a frame that is worth 0 is not chosen.
        known: thumbnails of other frames.
        count: maximum number of frames.

    Yields:
        the index of a frame, and its least difference.
    """
    least = np.ones(len(thumbnails))
    for other in known:
        least = np.minimum(least, difference(thumbnails, other))
    for _ in range(min(count, len(thumbnails))):
        best = int((worth * least).argmax())
        if worth[best] * least[best] <= 0:
            return
        yield best, float(least[best])
        least = np.minimum(least, difference(thumbnails, thumbnails[best]))


def select(
    frames: Iterable[SourceFrame],
    *,
    every: int = 1,
    different: float | None = None,
    start_s: float = 0.0,
    end_s: float = float('inf'),
    names: Collection[str] | None = None,
    on_error: OnError | None = None,
) -> Iterator[tuple[SourceFrame, ColorImage]]:
    """Choose frames; give them with their pixels.

    Args:
        frames: in the order of their log.
        every: take the first of as many frames.
        different: of those, only what differs by more than this, see `Novelty`; None takes all.
        start_s: leave out frames that are less than this many seconds after the first.
        end_s: leave out those that are not.
        names: of the frames to take; None takes all.
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
        if (count - 1) % every or (names is not None and frame.name not in names):
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
