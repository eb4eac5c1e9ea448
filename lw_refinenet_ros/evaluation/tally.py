# SPDX-License-Identifier: Apache-2.0
"""All that an evaluation counts: by integers alone, so that parts of it add up to the same to the bit."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lw_refinenet_ros.evaluation.boundary import BoundaryScore
from lw_refinenet_ros.evaluation.calibration import Calibration
from lw_refinenet_ros.evaluation.metrics import Confusion
from lw_refinenet_ros.evaluation.stability import Stability

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lw_refinenet_ros.labels import LabelSet

__all__ = ['MOST_NAMED', 'Evaluation', 'FrameScore', 'FrameScores', 'Listed', 'Worst']

MOST_NAMED = 100  # things that are kept word by word; the rest is counted


@dataclass(frozen=True)
class FrameScore:
    """One scored frame: its pixels in both, and in either, of truth and prediction, by class.

    `time_s` is when it was by its stamp, from the first frame on.
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


class FrameScores(Sequence[FrameScore]):
    """The scores of many frames in little memory: 16 bytes per class, and a name, for each.

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
class Worst:
    """A frame that went badly, not wider than a report shows it: RGB, truth, prediction, confidence.

    `place` orders frames that went equally badly.
    """

    score: FrameScore
    place: int
    image: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8] | None

    @property
    def key(self) -> tuple[float, int]:
        """Sorts the worst first."""
        return self.score.miou, self.place


@dataclass
class Listed:
    """Things that are all counted, and of which the first hundred are kept in words."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, *texts: str) -> None:
        """Count some."""
        self.count += len(texts)
        self.first.extend(texts[: MOST_NAMED - len(self.first)])

    @classmethod
    def of(cls, texts: Sequence[str]) -> Listed:
        """Count all of these."""
        return cls(len(texts), list(texts[:MOST_NAMED]))


@dataclass
class Evaluation:
    """All that was counted; memory grows by a row of counts per scored frame and some times per frame.

    Attributes:
        labels: the classes.
        description: what was evaluated.
        consecutive: whether its frames follow each other in time.
        frames_alone, masks_alone: those without a partner.
        confusion, boundary, calibration, stability: see there.
        frames: the scored ones in their order.
        position: frames of the source that are done with, usable or not.
        segmented: frames that got labels, with or without a mask.
        stages_ms: times of each frame by stage; 'decode' and 'score' are measured in threads of their own.
        first_ns: stamp of the first segmented frame.
        times_s: when each segmented frame was, by its stamp, from the first.
        worst: the worst frames, worst first.
        problems: what could not be used.
        recordings: of several recordings, the name of each, how many of its frames were scored, and how many
            segmented; their times start anew.

    """

    labels: LabelSet
    description: str
    consecutive: bool
    frames_alone: Listed = field(default_factory=Listed)
    masks_alone: Listed = field(default_factory=Listed)
    calibration: Calibration = field(default_factory=Calibration)
    stability: Stability = field(default_factory=Stability)
    position: int = 0
    segmented: int = 0
    stages_ms: dict[str, array[float]] = field(default_factory=dict)
    first_ns: int | None = None
    times_s: array[float] = field(default_factory=lambda: array('d'))
    worst: list[Worst] = field(default_factory=list)
    problems: Listed = field(default_factory=Listed)
    recordings: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.labels.names)
        self.confusion, self.boundary, self.frames = (
            Confusion(count),
            BoundaryScore(count),
            FrameScores(count),
        )

    def time(self, stage: str, milliseconds: float) -> None:
        """Note how long a stage took for a frame."""
        self.stages_ms.setdefault(stage, array('d')).append(milliseconds)

    def wants(self, score: FrameScore, place: int, most: int) -> bool:
        """Tell whether a frame is among the worst, of which there are at most so many.

        Of frames that follow each other, the worst of each second counts: its neighbours look alike.
        """
        if not (most and score.scored):
            return False
        key = score.miou, place
        same = self._same_second(score)
        if same:
            return key < same[0].key
        return len(self.worst) < most or key < self.worst[-1].key

    def keep_worst(self, candidate: Worst, most: int) -> None:
        """Keep a frame that is wanted, instead of that of the same second or of the best beyond `most`."""
        same = self._same_second(candidate.score)
        kept = [worst for worst in self.worst if worst not in same]
        self.worst = sorted([*kept, candidate], key=lambda worst: worst.key)[:most]

    def _same_second(self, score: FrameScore) -> list[Worst]:
        """Give the kept frame of the second that a frame is in, if frames follow each other."""
        if not self.consecutive:
            return []
        second = math.floor(score.time_s)
        return [worst for worst in self.worst if math.floor(worst.score.time_s) == second]
