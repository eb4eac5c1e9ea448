# SPDX-License-Identifier: Apache-2.0
"""All that an evaluation counts: by integers alone, so that parts of it add up to the same to the bit."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lw_refinenet_ros.evaluation.boundary import BoundaryScore
from lw_refinenet_ros.evaluation.calibration import Calibration
from lw_refinenet_ros.evaluation.confusion import Confusion
from lw_refinenet_ros.evaluation.frame_scores import FrameScores, WorstFrames
from lw_refinenet_ros.evaluation.measure import Arrays, Measure, Storable, below
from lw_refinenet_ros.evaluation.stability import Stability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lw_refinenet_ros.labels import LabelSet

__all__ = ['MOST_NAMED', 'Evaluation', 'NamedCount', 'merge']

MOST_NAMED = 100  # texts that are kept; the rest is only counted


class NamedCount(Storable):
    """Count texts, and keep the first hundred."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, *texts: str) -> None:
        """Count some."""
        self.count += len(texts)
        self.first.extend(texts[: MOST_NAMED - len(self.first)])

    def merge(self, other: NamedCount, prefix: str) -> None:
        """Count what another counted, with a prefix to its texts."""
        self.add(*(prefix + text for text in other.first))
        self.count += other.count - len(other.first)


@dataclass
class Evaluation(Storable):
    """All counts; memory grows by a row of counts per scored frame and some times per frame.

    Args:
        labels: the classes.
        description: what was evaluated.
        consecutive: whether its frames follow each other in time.
        most_worst: how many of the worst frames to keep for a report.

    Attributes:
        confusion, boundary, calibration, stability: the measures.
        frames: the scored ones in their order.
        worst: the worst frames, worst first.
        frames_alone, masks_alone: those without a partner.
        problems: what could not be used.
        position: frames of the source that are done with, usable or not.
        segmented: frames that got labels, with or without a mask.
        first_ns: stamp of the first segmented frame.
        times_s: when each segmented frame was, by its stamp, from the first.
        stages_ms: times of each frame by stage; 'decode' and 'score' are measured in threads of their own.
        recordings: of several recordings, the name of each, how many of its frames were scored, and how many
            segmented; their times start anew.

    """

    NOT_STORED = ('labels', 'stages_ms')

    labels: LabelSet
    description: str
    consecutive: bool
    most_worst: int = 0
    position: int = 0
    segmented: int = 0
    first_ns: int | None = None
    times_s: array[float] = field(default_factory=lambda: array('d'))
    stages_ms: dict[str, array[float]] = field(default_factory=dict)
    recordings: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        classes = len(self.labels.names)
        self.confusion, self.boundary = Confusion(classes), BoundaryScore(classes)
        self.calibration, self.stability = Calibration(), Stability()
        self.frames = FrameScores(classes)
        self.worst = WorstFrames(classes, self.most_worst, one_a_second=self.consecutive)
        self.frames_alone, self.masks_alone, self.problems = NamedCount(), NamedCount(), NamedCount()

    def time(self, stage: str, milliseconds: float) -> None:
        """Note how long a stage took for a frame."""
        self.stages_ms.setdefault(stage, array('d')).append(milliseconds)

    def add(self, name: str, other: Evaluation) -> None:
        """Add the evaluation of another recording; its frames and problems get its name in front.

        What is counted are integers, so that the figures do not depend on who counted which part. No label is
        compared across the end of a recording, and times stay those of the recording.
        """
        for key, measure in vars(self).items():
            if isinstance(measure, Measure):
                measure += getattr(other, key)
        self.frames.add(other.frames, f'{name}/')
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
        """Return all that was counted of one recording."""
        stages = {f'stages_ms/{stage}': np.asarray(times) for stage, times in self.stages_ms.items()}
        return {**super().to_arrays(), **stages}

    def restore(self, arrays: Arrays) -> None:
        """Take over what `to_arrays` returned."""
        super().restore(arrays)
        stages = below('stages_ms', arrays)
        self.stages_ms = {stage: array('d', times) for stage, times in stages.items()}


def merge(parts: Mapping[str, Evaluation]) -> Evaluation:
    """Add up evaluations of the same classes, by name; one or more."""
    first = next(iter(parts.values()))
    description = '; '.join(part.description for part in parts.values())
    total = Evaluation(first.labels, description, first.consecutive, first.most_worst)
    for name, part in parts.items():
        total.add(name, part)
    return total
