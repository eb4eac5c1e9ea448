# SPDX-License-Identifier: Apache-2.0
"""Compare two evaluations of the same frames: what improved, what degraded, and how certain that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lw_refinenet_ros.evaluation.bootstrap import LEAST_DRAWN, Interval, interval, ious_of, resample
from lw_refinenet_ros.evaluation.common_frames import CommonFrames, read_evaluation
from lw_refinenet_ros.evaluation.confusion import mean_of_known
from lw_refinenet_ros.one_line import counted

__all__ = ['Change', 'Comparison', 'FrameChange', 'compare', 'points', 'read_evaluation']

MOST_SAVED = 20  # frames that changed most
VERDICTS = {'better': 'better', 'worse': 'worse', 'unsure': 'no significant change'}


@dataclass(frozen=True)
class Change:
    """A figure of both, as a fraction of 1, and the 95 % interval of the difference; None where absent."""

    name: str
    before: float | None
    after: float | None
    low: float | None
    high: float | None

    @property
    def difference(self) -> float | None:
        """After minus before."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def interval(self) -> str:
        """The interval in percentage points."""
        return 'no interval' if self.low is None else f'{points(self.low)} to {points(self.high)}'

    @property
    def verdict(self) -> str:
        """'better' or 'worse' where the interval does not hold 0, else 'unsure'."""
        if self.low is None or self.high is None:
            return 'unsure'
        return 'better' if self.low > 0 else 'worse' if self.high < 0 else 'unsure'


@dataclass(frozen=True)
class FrameChange:
    """The mIoU of one frame before and after."""

    name: str
    stamp_ns: int
    before: float
    after: float
    recording: str = ''

    @property
    def difference(self) -> float:
        """After minus before."""
        return self.after - self.before


@dataclass(frozen=True)
class Comparison:
    """What changed between two evaluations."""

    miou: Change  #: over the frames of both
    classes: Sequence[Change]  #: IoU of each class
    frames: Sequence[FrameChange]  #: every frame of both, in order of time
    only_before: Sequence[str]  #: names of frames that only the first has
    only_after: Sequence[str]  #: and of those that only the second has
    drawn: int  #: how many frames, or blocks of frames, the intervals were drawn from
    block_s: float  #: length of these blocks in s; where it is 0, single frames were drawn
    consecutive: bool  #: whether the frames follow each other in time

    @property
    def too_few(self) -> str:
        """Why there is no interval, if there are too few frames or blocks for one; else ''."""
        if self.drawn >= LEAST_DRAWN:
            return ''
        blocks = f'blocks of {self.block_s:g} s' if self.block_s else 'frames'
        return f'too few {blocks} for an interval: {self.drawn}, and {LEAST_DRAWN} are needed'

    @property
    def headline(self) -> str:
        """What changed, in one sentence."""
        verdicts = Counter(change.verdict for change in self.classes)
        return (
            f'mIoU {points(self.miou.difference)} points ({self.too_few or self.miou.interval}), '
            f'{VERDICTS[self.miou.verdict]}; {counted(verdicts["better"], "class")} better, '
            f'{verdicts["worse"]} worse, {verdicts["unsure"]} unsure'
        )

    def most_changed(self, count: int) -> list[FrameChange]:
        """Return the frames whose mIoU changed most, either way."""
        changed = [frame for frame in self.frames if not np.isnan(frame.difference)]
        return sorted(changed, key=lambda frame: -abs(frame.difference))[:count]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values, ratios as fractions of 1."""
        return {
            'miou': _plain(self.miou),
            'per_class_iou': {change.name: _plain(change) for change in self.classes},
            'frames': len(self.frames),
            'drawn': self.drawn,
            'least_drawn': LEAST_DRAWN,
            'most_changed': [
                {'name': f.name, 'stamp_ns': f.stamp_ns, 'before': f.before, 'after': f.after}
                for f in self.most_changed(MOST_SAVED)
            ],
            'frames_only_before': list(self.only_before),
            'frames_only_after': list(self.only_after),
        }


def _plain(change: Change) -> dict[str, Any]:
    return {
        'before': change.before,
        'after': change.after,
        'difference': change.difference,
        'interval': [change.low, change.high],
        'verdict': change.verdict,
    }


def points(value: float | None) -> str:
    """Return a difference of ratios in percentage points; 'absent' for None."""
    return 'absent' if value is None else f'{100 * value:+.2f}'


def compare(before: Mapping[str, Any], after: Mapping[str, Any], *, block_s: float = 0.0) -> Comparison:
    """Compare frames of the same stamp and name by a paired bootstrap.

    Frames are drawn with replacement, the same for both, and the IoUs computed from the sums of their
    counts, 2000 times; the interval holds the middle 95 % of the differences. Neighbouring frames of a video
    are alike, which makes that interval too narrow: with `block_s` what is drawn are blocks of frames. Of
    fewer than 10 frames or blocks there is no interval.

    Args:
        before: an evaluation, as `read_evaluation` returns it.
        after: the other.
        block_s: length in s of the blocks that are drawn; 0 draws single frames.

    Raises:
        ValueError: the classes differ, no frame is in both, or blocks are asked for of frames that do not
            follow each other.
    """
    common = CommonFrames.of((before, after), block_s)
    totals = ious_of(common.counts.sum(axis=1))
    intervals: list[Interval] = [(None, None)] * (len(before['classes']) + 1)
    if common.blocks.shape[1] >= LEAST_DRAWN:
        resamples = resample(common.blocks)
        intervals = [interval(column) for column in (resamples[:, 1] - resamples[:, 0]).T]
    means = np.array([[mean_of_known(row)] for row in totals])
    *classes, miou = (
        _change(name, values, ends)
        for name, values, ends in zip([*before['classes'], 'mIoU'], np.hstack([totals, means]).T, intervals)
    )
    mious = (map(mean_of_known, ious_of(side)) for side in common.counts)
    frames = [
        FrameChange(name, stamp_ns, float(a), float(b), recording)
        for (stamp_ns, name), recording, a, b in zip(common.keys, common.recordings, *mious)
    ]
    only_before, only_after = common.missing
    drawn = common.blocks.shape[1]
    return Comparison(miou, classes, frames, only_before, only_after, drawn, block_s, common.consecutive)


def _change(name: str, values: npt.NDArray[np.float64], interval: Interval) -> Change:
    before, after = (None if np.isnan(value) else float(value) for value in values)
    return Change(name, before, after, *((None, None) if before is None or after is None else interval))
