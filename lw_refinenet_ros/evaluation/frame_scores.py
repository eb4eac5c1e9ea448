# SPDX-License-Identifier: Apache-2.0
"""Scores of single frames, and pictures of the worst ones."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from lw_refinenet_ros.evaluation.measure import Arrays, Storable
from lw_refinenet_ros.image.frame import Pixels

__all__ = ['FrameScore', 'FrameScores', 'WorstFrame', 'WorstFrames', 'thumbnail']

WIDEST = 640  # pixels of a picture kept for a report


@dataclass(frozen=True)
class FrameScore:
    """One scored frame: its pixels in both, and in either, of truth and prediction, by class.

    `time_s` is its stamp, relative to the first frame.
    """

    name: str
    stamp_ns: int
    time_s: float
    intersection: tuple[int, ...]
    union: tuple[int, ...]

    @property
    def scored(self) -> bool:
        """Whether any pixel has a class in the mask."""
        return any(self.union)

    @property
    def miou(self) -> float:
        """Mean of the IoUs of the classes that occur; NaN where none does."""
        ratios = [part / whole for part, whole in zip(self.intersection, self.union) if whole]
        return sum(ratios) / len(ratios) if ratios else float('nan')


class FrameScores(Sequence[FrameScore], Storable):
    """Scores of many frames in little memory: a name and 16 bytes per class for each.

    Attributes:
        names, stamps_ns, times_s: of the frames.
        counts: intersection of every class, then union of every class, frame after frame.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self.names: list[str] = []
        self.stamps_ns, self.times_s, self.counts = array('q'), array('d'), array('q')

    def append(self, score: FrameScore) -> None:
        """Add one."""
        self.names.append(score.name)
        self.stamps_ns.append(score.stamp_ns)
        self.times_s.append(score.time_s)
        self.counts.extend(score.intersection)
        self.counts.extend(score.union)

    def add(self, other: Sequence[FrameScore], prefix: str = '') -> None:
        """Add those of another recording, with a prefix to their names."""
        for score in other:
            self.append(replace(score, name=prefix + score.name))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> FrameScore:  # type: ignore[override]  # nobody needs slices
        classes = self._num_classes
        start = range(len(self))[index] * 2 * classes
        return FrameScore(
            self.names[index],
            self.stamps_ns[index],
            self.times_s[index],
            tuple(self.counts[start : start + classes]),
            tuple(self.counts[start + classes : start + 2 * classes]),
        )

    def __iter__(self) -> Iterator[FrameScore]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True, eq=False)
class WorstFrame:
    """A frame with a low mIoU, as a report shows it: uint8 RGB, ids of truth and prediction, confidence.

    `place` breaks ties between frames of equal mIoU.
    """

    score: FrameScore
    place: int
    image: Pixels
    truth: Pixels
    label: Pixels
    confidence: Pixels | None

    @property
    def key(self) -> tuple[float, int]:
        """Sort key, lowest mIoU first."""
        return self.score.miou, self.place


class WorstFrames(list[WorstFrame], Storable):
    """The frames with the lowest mIoU, worst first.

    Args:
        num_classes: C.
        most: maximum number of frames.
        one_a_second: keep only the worst frame of each second, because neighbouring frames look alike.
    """

    PICTURES = ('image', 'truth', 'label', 'confidence')

    def __init__(self, num_classes: int, most: int, *, one_a_second: bool) -> None:
        super().__init__()
        self._num_classes, self._most, self._one_a_second = num_classes, most, one_a_second

    def want(self, score: FrameScore, place: int) -> bool:
        """Return whether a frame is among the worst."""
        if not (self._most and score.scored):
            return False
        key = score.miou, place
        if neighbours := self._same_second(score):
            return key < neighbours[0].key
        return len(self) < self._most or key < self[-1].key

    def keep(self, frame: WorstFrame) -> None:
        """Keep a wanted frame; it replaces the one of the same second, or the best beyond `most`."""
        neighbours = self._same_second(frame.score)
        self[:] = self._worst_of([*(kept for kept in self if kept not in neighbours), frame])

    def add(self, other: Sequence[WorstFrame], prefix: str, place: int) -> None:
        """Add those of another recording, with a prefix to their names and an offset to their places."""
        named = [
            replace(each, score=replace(each.score, name=prefix + each.score.name), place=place + each.place)
            for each in other
        ]
        self[:] = self._worst_of([*self, *named])

    def _worst_of(self, frames: list[WorstFrame]) -> list[WorstFrame]:
        return sorted(frames, key=lambda frame: frame.key)[: self._most]

    def _same_second(self, score: FrameScore) -> list[WorstFrame]:
        """Return the kept frame of the same second, if at most one per second is kept."""
        if not self._one_a_second:
            return []
        second = math.floor(score.time_s)
        return [frame for frame in self if math.floor(frame.score.time_s) == second]

    def to_arrays(self) -> Arrays:
        """Return scores, places and pictures."""
        scores = FrameScores(self._num_classes)
        scores.add([frame.score for frame in self])
        pictures = {
            f'{name} {index}': picture
            for index, frame in enumerate(self)
            for name in self.PICTURES
            if (picture := getattr(frame, name)) is not None
        }
        places = np.array([frame.place for frame in self], np.int64)
        return {**scores.to_arrays(), 'places': places, **pictures}

    def restore(self, arrays: Arrays) -> None:
        """Restore what `to_arrays` returned."""
        scores = FrameScores(self._num_classes)
        scores.restore(arrays)
        self[:] = [
            WorstFrame(score, place, *(arrays.get(f'{name} {index}') for name in self.PICTURES))  # type: ignore[arg-type]
            for index, (score, place) in enumerate(zip(scores, arrays['places'].tolist()))
        ]


def thumbnail(picture: Pixels, *, is_label: bool = False) -> Pixels:
    """Copy a picture or label, uint8 (H, W, ...), reduced to the width of a picture in a report."""
    height, width = picture.shape[:2]
    scale = min(1.0, WIDEST / width)
    size = (round(width * scale), max(1, round(height * scale)))
    how = cv2.INTER_NEAREST if is_label else cv2.INTER_AREA
    return np.array(cv2.resize(picture, size, interpolation=how), np.uint8)
