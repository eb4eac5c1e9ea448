# SPDX-License-Identifier: Apache-2.0
"""Evaluations of several recordings as one."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

from lw_refinenet_ros.evaluation.stability import Stability
from lw_refinenet_ros.evaluation.tally import Evaluation, FrameScore, Listed

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ['merge']

GAP_S = 1.0  # between two recordings on the axis of time


def merge(parts: Mapping[str, Evaluation], *, worst: int = 0) -> Evaluation:
    """Add evaluations up, in their order; frames and problems get the name of their part in front.

    What is counted are integers, so that the figures do not depend on who counted which part. No label is
    compared across the end of a recording. On the axis of time the recordings lie one after the other.

    Args:
        parts: evaluations of the same classes, by name; one or more.
        worst: how many of the worst frames to keep.

    """
    first = next(iter(parts.values()))
    description = '; '.join(part.description for part in parts.values())
    total = Evaluation(first.labels, description, first.consecutive)
    counts = ('pairs', 'compared', 'same', 'threes', 'flickers')
    end_s = 0.0
    for name, part in parts.items():
        total.confusion.matrix += part.confusion.matrix
        total.boundary.counts += part.boundary.counts
        total.calibration.counts += part.calibration.counts
        total.stability = Stability(
            *(getattr(total.stability, each) + getattr(part.stability, each) for each in counts)
        )
        total.segmented += part.segmented
        for stage, times in part.stages_ms.items():
            total.stages_ms.setdefault(stage, array('d')).extend(times)
        _extend(total.frames_alone, part.frames_alone, f'{name}/')
        _extend(total.masks_alone, part.masks_alone, f'{name}/')
        _extend(total.problems, part.problems, f'{name}: ')
        shift_s = end_s - min((*part.times_s, 0.0))
        for frame in part.frames:
            total.frames.append(_moved(frame, name, shift_s))
        moved = [
            replace(each, score=_moved(each.score, name, shift_s), place=total.position + each.place)
            for each in part.worst
        ]
        total.worst = sorted([*total.worst, *moved], key=lambda each: each.key)[:worst]
        total.position += part.position
        total.times_s.extend(shift_s + time_s for time_s in part.times_s)
        end_s = max((end_s, *total.times_s)) + GAP_S
    return total


def _moved(frame: FrameScore, name: str, shift_s: float) -> FrameScore:
    return replace(frame, name=f'{name}/{frame.name}', time_s=frame.time_s + shift_s)


def _extend(ours: Listed, theirs: Listed, prefix: str) -> None:
    """Count what another counted, of which it kept only some in words."""
    ours.add(*(prefix + text for text in theirs.first))
    ours.count += theirs.count - len(theirs.first)
