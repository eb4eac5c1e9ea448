# SPDX-License-Identifier: Apache-2.0
"""What a report says of every frame besides its IoUs: how it looks, what is wrong in it and where."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.confusion import count_pairs
from lw_refinenet_ros.evaluation.error_types import error_types
from lw_refinenet_ros.evaluation.measure import Storable
from lw_refinenet_ros.evaluation.suspects import sure_labels, suspected
from lw_refinenet_ros.labels import UNLABELLED

__all__ = ['GRID', 'FrameFacts', 'Look']

GRID = (48, 36)  # width and height at which errors are located and neighbouring frames compared
PICTURE_WIDTH = 128
JPEG_QUALITY = 50
MOST_PICTURES = 2000  # of more frames, every second is kept, then every fourth...
MOST_CELLS = 40  # of the confusion matrix, for each frame
EXAMINED_WIDTH = 320  # at which types of errors are counted

Pixels = npt.NDArray[np.uint8]


class Look(NamedTuple):
    """Figures of a frame; NaN where there is nothing to measure.

    Attributes:
        suspicion: share of pixels that are wrong although the network is sure and, in a recording, was so in
            the frame before: the label may be wrong instead.
        confidence: mean, as a fraction of 1.
        brightness: mean, as a fraction of white.
        sharpness: standard deviation of the Laplacian of the grey values.
        change: mean difference to the grey values of the frame before, as a fraction of white.
        boundary, inside, missed, invented: shares of the pixels with truth, see `ErrorTypes`.
        small, small_right, large, large_right: the same.
    """

    suspicion: float
    confidence: float
    brightness: float
    sharpness: float
    change: float
    boundary: float
    inside: float
    missed: float
    invented: float
    small: float
    small_right: float
    large: float
    large_right: float


class FrameFacts(Storable):
    """Facts about scored frames, in order; only for reports, as a frame takes up to 6 kB.

    Attributes:
        looks: the figures of all frames, one after the other.
        cells: frame, true and predicted id, and number of pixels, of the largest errors of each frame.
        pictures: JPEGs of 128 pixels in width, in Base64, by the number of the frame.
        errors: of frames with pictures, the grid row by row as runs: 0 (right) or 1 + 256 * truth + label,
            and length.
    """

    def __init__(self) -> None:
        self.count = 0
        self.looks, self.cells = array('f'), array('q')
        self.pictures: dict[str, str] = {}
        self.errors: dict[str, list[int]] = {}
        self._stride = 1
        self._grey = np.zeros(GRID[::-1], np.uint8)
        self._sure = np.full(GRID[::-1], UNLABELLED, np.uint8)  # labels of the frame before, where sure

    def update(
        self, image: Pixels, label: Pixels, truth: Pixels, confidence: Pixels | None, *, consecutive: bool
    ) -> None:
        """Add a frame: RGB image, ids and confidence; `consecutive` if it follows the one before in time."""
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        ids, true = _resized(label, GRID), _resized(truth, GRID)
        sure = sure_labels(ids, None if confidence is None else _resized(confidence, GRID))
        wrong = (ids != true) & (true != UNLABELLED)
        suspicious = suspected(sure, true)
        after = consecutive and self.count > 0
        if after:
            suspicious &= self._sure == ids
        small_grey = np.asarray(cv2.resize(grey, GRID, interpolation=cv2.INTER_AREA), np.uint8)
        change = np.abs(small_grey.astype(np.int16) - self._grey).mean() / 255 if after else np.nan
        self._grey, self._sure = small_grey, sure
        size = EXAMINED_WIDTH, max(1, round(EXAMINED_WIDTH * label.shape[0] / label.shape[1]))
        known, *errors = error_types(_resized(label, size), _resized(truth, size))
        sharpness = cv2.Laplacian(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), cv2.CV_32F).std()
        look = Look(
            suspicious.mean(),
            np.nan if confidence is None else confidence.mean() / 255,
            grey.mean() / 255,
            float(sharpness),
            change,
            *(pixels / known if known else np.nan for pixels in errors),
        )
        self.looks.extend(map(float, look))
        self._add_cells(label, truth)
        if self.count % self._stride == 0:
            self.pictures[str(self.count)] = _jpeg(image)
            cells = np.where(wrong, 1 + 256 * true.astype(np.int32) + ids, 0)
            self.errors[str(self.count)] = _runs(cells.ravel())
        self.count += 1
        self._thin()

    def _add_cells(self, label: Pixels, truth: Pixels) -> None:
        pairs = count_pairs(truth, label)
        np.fill_diagonal(pairs, 0)
        pairs[UNLABELLED] = 0
        places = np.flatnonzero(pairs)
        for place in places[np.argsort(-pairs.flat[places], kind='stable')][:MOST_CELLS].tolist():
            self.cells.extend((self.count, place // 256, place % 256, int(pairs.flat[place])))

    def add(self, other: FrameFacts) -> None:
        """Add those of another recording."""
        self.looks.extend(other.looks)
        for frame, *cell in np.array(other.cells).reshape(-1, 4).tolist():
            self.cells.extend((self.count + frame, *cell))
        for frame, picture in other.pictures.items():
            place = str(self.count + int(frame))
            self.pictures[place], self.errors[place] = picture, other.errors[frame]
        self.count += other.count
        self._thin()

    def _thin(self) -> None:
        """Keep pictures of every second frame once there are too many."""
        while len(self.pictures) > MOST_PICTURES:
            self._stride *= 2
            for frame in list(self.pictures)[1::2]:
                del self.pictures[frame], self.errors[frame]

    def __iter__(self) -> Iterator[Look]:
        width = len(Look._fields)
        return (Look(*self.looks[at : at + width]) for at in range(0, len(self.looks), width))


def _resized(ids: Pixels, size: tuple[int, int]) -> Pixels:
    return np.asarray(cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _jpeg(image: Pixels) -> str:
    size = PICTURE_WIDTH, max(1, round(PICTURE_WIDTH * image.shape[0] / image.shape[1]))
    bgr = np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)[..., ::-1])
    _, jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return base64.b64encode(jpeg.tobytes()).decode()


def _runs(values: npt.NDArray[np.int32]) -> list[int]:
    """Return value and length of each run."""
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    lengths = np.diff(starts, append=values.size)
    return np.stack((values[starts], lengths), 1).ravel().tolist()
