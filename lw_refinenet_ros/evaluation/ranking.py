# SPDX-License-Identifier: Apache-2.0
"""Rank any number of evaluations of the same frames: which is best, and which are as good as it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lw_refinenet_ros.evaluation.bootstrap import LEAST_DRAWN, interval, ious_of, resample
from lw_refinenet_ros.evaluation.common_frames import CommonFrames
from lw_refinenet_ros.evaluation.compare import Change
from lw_refinenet_ros.evaluation.confusion import mean_of_known

__all__ = ['RankedRun', 'Ranking', 'rank']


@dataclass(frozen=True)
class RankedRun:
    """An evaluation among others; ratios are fractions of 1."""

    name: str  #: of the run
    miou: float  #: over the frames that all runs have
    low: float | None  #: of the 95 % interval of the mIoU; None where there are too few frames
    high: float | None  #: as `low`
    per_class_iou: Mapping[str, float | None]  #: by class; None for a class that does not occur
    change: Change  #: from the best run to this one, in mIoU
    latency_ms: float | None  #: the median network latency, as it was measured

    @property
    def is_worse(self) -> bool:
        """Whether the best run is better by more than chance."""
        return self.change.verdict == 'worse'

    def to_dict(self) -> dict[str, Any]:
        """Return the run as plain values."""
        return {
            'name': self.name,
            'miou': self.miou,
            'interval': [self.low, self.high],
            'difference_to_best': self.change.difference,
            'difference_interval': [self.change.low, self.change.high],
            'worse_than_best': self.is_worse,
            'per_class_iou': dict(self.per_class_iou),
            'latency_ms': self.latency_ms,
        }


@dataclass(frozen=True)
class Ranking:
    """Evaluations of the same frames, best first."""

    runs: Sequence[RankedRun]  #: the best first
    frames: int  #: number of frames that all have
    left_out: int  #: number of frames that some have
    #: Number of frames, or blocks of frames, that were resampled; of fewer than 10 there are no intervals
    drawn: int

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self.runs[0].per_class_iou)

    def to_dict(self) -> dict[str, Any]:
        """Return the ranking as plain values."""
        return {
            'miou': {run.name: run.miou for run in self.runs},
            'runs': [run.to_dict() for run in self.runs],
            'frames': self.frames,
            'drawn': self.drawn,
            'least_drawn': LEAST_DRAWN,
        }

    def to_rows(self) -> list[list[Any]]:
        """Return the ranking as a table, its column names first."""
        head = ['run', 'frames', 'miou', 'miou_low', 'miou_high']
        head += ['difference_to_best', 'difference_low', 'difference_high', 'worse_than_best', 'latency_ms']
        head += [f'iou_{name}' for name in self.classes]
        return [head] + [
            [
                *(run.name, self.frames, run.miou, run.low, run.high),
                *(run.change.difference, run.change.low, run.change.high, run.is_worse, run.latency_ms),
                *run.per_class_iou.values(),
            ]
            for run in self.runs
        ]


def rank(evaluations: Mapping[str, Mapping[str, Any]], *, block_s: float = 0.0) -> Ranking:
    """Rank evaluations by their mIoU on the frames that all of them have.

    Intervals come from the bootstrap of `compare`, which draws the same frames for all.

    Args:
        evaluations: by name, each as `read_evaluation` returns it.
        block_s: length in s of the blocks of frames that are drawn; 0 draws single frames.

    Raises:
        ValueError: the classes differ, no frame is in all, no frame has a mask, or blocks are asked for of
            frames that do not follow each other.
    """
    common = CommonFrames.of(list(evaluations.values()), block_s)
    ious = ious_of(common.counts.sum(axis=1))
    mious = np.array([mean_of_known(row) for row in ious])
    if np.isnan(mious).any():
        raise ValueError('no pixel of the common frames has a class: there is nothing to compare')
    drawn = common.blocks.shape[1]
    resampled = resample(common.blocks)[..., -1] if drawn >= LEAST_DRAWN else np.empty((0, len(mious)))
    best = int(mious.argmax())
    runs = []
    for index, (name, evaluation) in enumerate(evaluations.items()):
        miou, own = float(mious[index]), resampled[:, index]
        change = Change('mIoU', float(mious[best]), miou, *interval(own - resampled[:, best]))
        known = [None if np.isnan(value) else value for value in ious[index].tolist()]
        latency_ms = evaluation.get('latency_ms', {}).get('p50')
        of_class = dict(zip(evaluation['classes'], known))
        runs.append(RankedRun(name, miou, *interval(own), of_class, change, latency_ms))
    left_out = len(set().union(*common.missing))
    return Ranking(sorted(runs, key=lambda run: -run.miou), len(common.keys), left_out, drawn)
