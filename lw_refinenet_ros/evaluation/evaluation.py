# SPDX-License-Identifier: Apache-2.0
"""The state of an evaluation: integer counts, so that the sum of its parts is exact."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lw_refinenet_ros.evaluation.boundary import BoundaryScore
from lw_refinenet_ros.evaluation.calibration import Calibration
from lw_refinenet_ros.evaluation.confusion import Confusion
from lw_refinenet_ros.evaluation.frame_facts import FrameFacts
from lw_refinenet_ros.evaluation.frame_scores import FrameScores, WorstFrames
from lw_refinenet_ros.evaluation.measure import Arrays, Measure, Storable, below
from lw_refinenet_ros.evaluation.robustness import Robustness
from lw_refinenet_ros.evaluation.stability import Stability
from lw_refinenet_ros.labels import LabelSet

__all__ = ['MOST_NAMED', 'Evaluation', 'NamedCount', 'merge']

MOST_NAMED = 100  # texts that are kept; the rest is only counted


class NamedCount(Storable):
    """Count texts, and keep the first hundred."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, *texts: str) -> None:
        """Count texts."""
        self.count += len(texts)
        self.first.extend(texts[: MOST_NAMED - len(self.first)])

    def merge(self, other: NamedCount, prefix: str) -> None:
        """Add the counts of another, with a prefix to its texts."""
        self.add(*(prefix + text for text in other.first))
        self.count += other.count - len(other.first)


@dataclass
class Evaluation(Storable):
    """Everything that is counted; per frame, memory grows by one row of counts and a few times.

    Attributes:
        confusion, boundary, calibration, stability, robustness: the measures.
        frames: scores of the frames, in order.
        facts: more about them, if worst frames are kept.
        worst: the worst frames, worst first.
        frames_alone, masks_alone: those without a partner.
        problems: what could not be used.
    """

    NOT_STORED = ('labels', 'stages_ms')

    labels: LabelSet  #: the classes
    description: str  #: what was evaluated
    consecutive: bool  #: whether its frames are consecutive in time
    most_worst: int = 0  #: number of worst frames to keep for a report
    position: int = 0  #: frames of the source that were processed, usable or not
    segmented: int = 0  #: frames with labels, with or without a mask
    first_ns: int | None = None  #: stamp of the first segmented frame
    #: Stamp of each segmented frame, relative to the first
    times_s: array[float] = field(default_factory=lambda: array('d'))
    #: Time per frame of each stage; 'decode' and 'score' run in threads of their own
    stages_ms: dict[str, array[float]] = field(default_factory=dict)
    #: Name, scored and segmented frames of each of several recordings, which all start at time 0
    recordings: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        classes = len(self.labels.names)
        self.confusion, self.boundary = Confusion(classes), BoundaryScore(classes)
        self.calibration, self.stability = Calibration(), Stability()
        self.robustness = Robustness(classes)
        self.frames, self.facts = FrameScores(classes), FrameFacts()
        self.worst = WorstFrames(classes, self.most_worst, one_a_second=self.consecutive)
        self.frames_alone, self.masks_alone, self.problems = NamedCount(), NamedCount(), NamedCount()

    def time(self, stage: str, milliseconds: float) -> None:
        """Record the duration of a stage for one frame."""
        self.stages_ms.setdefault(stage, array('d')).append(milliseconds)

    def add(self, name: str, other: Evaluation) -> None:
        """Add the evaluation of another recording; its name becomes a prefix of its frames and problems.

        All counts are integers, so the figures do not depend on how the recordings were distributed. Labels
        are not compared across recordings, and times remain relative to the start of each recording.
        """
        for key, measure in vars(self).items():
            if isinstance(measure, Measure):
                measure += getattr(other, key)
        self.frames.add(other.frames, f'{name}/')
        self.facts.add(other.facts)
        self.worst.add(other.worst, f'{name}/', self.position)
        self.frames_alone.merge(other.frames_alone, f'{name}/')
        self.masks_alone.merge(other.masks_alone, f'{name}/')
        self.problems.merge(other.problems, f'{name}: ')
        self.position += other.position
        self.segmented += other.segmented
        self.times_s.extend(other.times_s)
        for stage, times in other.stages_ms.items():
            self.stages_ms.setdefault(stage, array('d')).extend(times)
        self.recordings.append((name, len(other.frames), other.segmented))

    def to_arrays(self) -> Arrays:
        """Return the evaluation of one recording."""
        stages = {f'stages_ms/{stage}': np.array(times) for stage, times in self.stages_ms.items()}
        return {**super().to_arrays(), **stages}

    def restore(self, arrays: Arrays) -> None:
        """Restore what `to_arrays` returned."""
        super().restore(arrays)
        stages = below('stages_ms', arrays)
        self.stages_ms = {stage: array('d', times) for stage, times in stages.items()}


def merge(parts: Mapping[str, Evaluation]) -> Evaluation:
    """Return the sum of one or more evaluations of the same classes, given by name."""
    first = next(iter(parts.values()))
    description = '; '.join(part.description for part in parts.values())
    total = Evaluation(first.labels, description, first.consecutive, first.most_worst)
    for name, part in parts.items():
        total.add(name, part)
    return total
