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


def merge(parts: Mapping[str, Evaluation], *, worst: int = 0) -> Evaluation:
    """Add evaluations up, in their order; frames and problems get the name of their part in front.

    What is counted are integers, so that the figures do not depend on who counted which part. No label is
    compared across the end of a recording, and times stay those of the recording.

    Args:
        parts: evaluations of the same classes, by name; one or more.
        worst: how many of the worst frames to keep.

    """
    first = next(iter(parts.values()))
    description = '; '.join(part.description for part in parts.values())
    total = Evaluation(first.labels, description, first.consecutive)
    counts = ('pairs', 'compared', 'same', 'threes', 'flickers')
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
        for frame in part.frames:
            total.frames.append(_named(frame, name))
        moved = [
            replace(each, score=_named(each.score, name), place=total.position + each.place)
            for each in part.worst
        ]
        total.worst = sorted([*total.worst, *moved], key=lambda each: each.key)[:worst]
        total.position += part.position
        total.times_s.extend(part.times_s)
        total.recordings.append((name, len(part.frames), part.segmented))
    return total


def _named(frame: FrameScore, name: str) -> FrameScore:
    return replace(frame, name=f'{name}/{frame.name}')


def _extend(ours: Listed, theirs: Listed, prefix: str) -> None:
    """Count what another counted, of which it kept only some in words."""
    ours.add(*(prefix + text for text in theirs.first))
    ours.count += theirs.count - len(theirs.first)
